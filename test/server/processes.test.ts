import { once } from 'node:events';
import fs from 'node:fs';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { Harness } from './harness.ts';

const harness = new Harness();
let program: string;
let descriptors: number;

const openDescriptors = (): number => fs.readdirSync('/proc/self/fd').length;

beforeAll(async () => {
  await harness.server.start();
  program = harness.compile('processes');
  await harness.passes(program, 'own-memory');
  descriptors = openDescriptors();
});
afterAll(() => harness.stop());
afterEach(async () => {
  await harness.nothingIsLeft();
  expect(harness.errors).toEqual([]);
  await vi.waitFor(() => expect(openDescriptors()).toBeLessThanOrEqual(descriptors), 5000);
});

describe('handles in many processes', () => {
  it.each([
    ['are inherited by forked children, which call on connections of their own', 'fork'],
    ['work on the memory of whoever calls', 'own-memory'],
    ['work in a child that was cloned behind the back of libc', 'raw-fork'],
    ['work in a vfork child, whose calls do not disturb its parent', 'vfork'],
    ['survive exec, unless opened with O_CLOEXEC', 'exec'],
    ['can be passed over a socket, also to a process that never opened one', 'scm-rights'],
    ['can be used by many threads at once, and while one forks', 'threads'],
    ["leave no connection of its parent's threads to a forked child", 'no-connection'],
    ['are not held up by the slow call of another process', 'slow'],
    ['outlive their last descriptor until the call that uses them is over', 'closed-while-in-use'],
    ['are released when their processes are killed at any moment', 'killed'],
    ['are released when a process is killed in the middle of a call', 'killed-in-call'],
    ['work on after the program has closed, or replaced, every descriptor that it does not know', 'closes-everything'],
  ])('%s', (_, scenario) => harness.passes(program, scenario));
});

describe('a process', () => {
  it.each([
    ['is one, however many of its threads are connected', 'connected'],
    ['is one, though another program ran in it before', 'connected-after-exec'],
  ])('%s', async (_, scenario) => {
    const child = harness.start(program, scenario);
    const ended = once(child, 'close');
    await once(child.stdout!, 'data');
    expect(harness.server.clients).toMatchObject({ processes: 1, connections: 4, handles: 1 });
    child.stdin!.write('\n');
    expect(await ended).toEqual([0, null]);
  });
});
