import { expect, it } from 'vitest';
import { Clock } from './clock.ts';

it('runs what was deferred in order, after the access, and what that defers after it', () => {
  const clock = new Clock();
  const seen: string[] = [];
  clock.defer(() => {
    seen.push('first');
    clock.defer(() => seen.push('third'));
    clock.settle();
  });
  clock.defer(() => seen.push('second'));
  seen.push('caller');
  clock.settle();
  expect(seen).toEqual(['caller', 'first', 'second', 'third']);
});

it('goes on after a task that broke an invariant', () => {
  const clock = new Clock();
  const seen: string[] = [];
  clock.defer(() => {
    throw new Error('broken');
  });
  expect(() => clock.settle()).toThrow('broken');
  clock.defer(() => seen.push('next'));
  clock.settle();
  expect(seen).toEqual(['next']);
});

it('keeps what stands behind a task that broke an invariant', () => {
  const clock = new Clock();
  const seen: string[] = [];
  clock.defer(() => {
    throw new Error('broken');
  });
  clock.defer(() => seen.push('behind'));
  expect(() => clock.settle()).toThrow('broken');
  expect(clock.settle()).toBe(true);
  expect(seen).toEqual(['behind']);
});

it.each([1, 3, 5000])('runs %i tasks at a time, when told so, of work that never ends', (most) => {
  const clock = new Clock();
  let runs = 0;
  const again = (): void => {
    runs++;
    clock.defer(again);
  };
  clock.defer(again);
  expect([clock.settle(most), runs]).toEqual([false, most]);
  expect([clock.settle(most), runs]).toEqual([false, 2 * most]);
});

it('is busy while it runs, and while much is queued', () => {
  const clock = new Clock();
  const seen: boolean[] = [clock.isBusy];
  clock.defer(() => seen.push(clock.isBusy));
  seen.push(clock.isBusy);
  clock.settle();
  for (let n = 0; n < 1000; n++) clock.defer(() => {});
  seen.push(clock.isBusy);
  clock.settle();
  expect([...seen, clock.isBusy]).toEqual([false, false, true, true, false]);
});
