import { once } from 'node:events';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { Harness } from './harness.ts';

const harness = new Harness();
let program: string;

beforeAll(async () => {
  await harness.server.start();
  program = harness.compile('events');
});
afterAll(() => harness.stop());
afterEach(async () => {
  await harness.nothingIsLeft();
  expect(harness.errors).toEqual([]);
});

describe('signals', () => {
  it.each([
    ['may be handled with calls of their own, in the middle of calls', 'handler-calls'],
    ['may be handled by jumping away', 'handler-jumps'],
    ['are blocked as before after a call', 'mask'],
    ['that cancel a thread do not do so within a call', 'cancel'],
  ])('%s', (_, scenario) => harness.passes(program, scenario));
});

describe('poll', () => {
  it.each([
    ['shows a file without a poll method as ready, and a queue as readable while records wait, never writable', 'poll'],
    ['does not show records that have gone without being read', 'poll-forgotten'],
    ['tells an edge-triggered waiter of every record', 'edge'],
    ['wakes in one process for a record that another made, until a third has read it', 'poll-across'],
  ])('%s', (_, scenario) => harness.passes(program, scenario));
});

describe('an event fd', () => {
  it.each([
    ["is told from other descriptors, signalled before the call returns, and outlives its giver's copy", 'eventfd'],
    ["is signalled after its giver has exec'ed", 'eventfd-exec'],
  ])('%s', (_, scenario) => harness.passes(program, scenario));

  it('can be watched: what a program signals comes before what it calls next', () =>
    harness.passes(program, 'eventfd-watched'));

  it('that is watched tells of a signal without any call', async () => {
    const before = harness.machine.signals;
    const child = harness.start(program, 'eventfd-quiet');
    await once(child.stdout!, 'data');
    await vi.waitFor(() => expect(harness.machine.signals).toBe(before + 1), 1000);
    child.kill('SIGKILL');
    await once(child, 'close');
    harness.machine.events.pop()!.release();
  });

  it('wakes a process that makes no call', async () => {
    const child = harness.start(program, 'wait');
    const closed = once(child, 'close');
    await once(child.stdout!, 'data');
    harness.machine.events[0]!.signal();
    expect(await closed).toEqual([0, null]);
  });

  it('is kept when its giver is killed, until the machine releases it', async () => {
    const child = harness.start(program, 'wait');
    await once(child.stdout!, 'data');
    child.kill('SIGKILL');
    await once(child, 'close');
    await harness.nothingIsLeft();
    expect(harness.server.clients.eventFds).toBe(1);
    harness.machine.events.pop()!.release();
    expect(harness.server.clients.eventFds).toBe(0);
  });
});
