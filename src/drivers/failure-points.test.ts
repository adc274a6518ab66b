import { describe, expect, it } from 'vitest';
import { FailurePoints, mayFail } from './failure-points.ts';

const three = (): void => {
  for (const what of ['a cup', 'a plate', 'a fork']) mayFail(what);
};

describe('failure points', () => {
  it('are passed when nobody counts', () => expect(three).not.toThrow());

  it('fail once, at the n-th', () => {
    const failures = new FailurePoints();
    failures.failNth(2);
    expect(() => failures.during(three)).toThrow(/^ENOMEM.*a plate/);
    expect([failures.remaining, failures.failed]).toEqual([0, 'a plate']);
    expect(() => failures.during(three)).not.toThrow();
  });

  it('are counted over several calls, and only within them', () => {
    const failures = new FailurePoints();
    failures.failNth(5);
    failures.during(three);
    three();
    expect([failures.remaining, failures.failed]).toEqual([2, null]);
    expect(() => failures.during(three)).toThrow('a plate');
  });

  it('of a call within another call count for the inner one', () => {
    const [outer, inner] = [new FailurePoints(), new FailurePoints()];
    outer.failNth(10);
    inner.failNth(10);
    outer.during(() => {
      mayFail('a cup');
      inner.during(three);
      mayFail('a cup');
    });
    expect([outer.remaining, inner.remaining]).toEqual([8, 7]);
  });
});
