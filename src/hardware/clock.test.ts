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
