import { describe, expect, it } from 'vitest';
import { VmmProcess } from './process.ts';
import { type Body, Deadlock, Threads } from './threads.ts';

function setup() {
  const process = new VmmProcess(1, 4096);
  const threads = new Threads(process);
  const log: string[] = [];
  /** Takes what an eventfd counts, as often as told. */
  function* reader(name: string, fd: number, times: number, timeout: number | null = null): Body {
    for (let n = 0; n < times; n++) {
      log.push(`${name} ${(yield { fds: [fd], timeout }) ? 'woke' : 'gave up'}`);
      process.readEventFd(fd);
    }
  }
  return { process, threads, log, reader };
}

describe('threads', () => {
  it('run when what they wait for is there, and not before', () => {
    const { process, threads, log, reader } = setup();
    const [one, two] = [process.makeEventFd(), process.makeEventFd()];
    threads.start('one', reader('one', one, 2));
    threads.start('two', reader('two', two, 2));
    threads.run();
    expect(log).toEqual([]);
    process.signalEventFd(two);
    threads.run();
    threads.run();
    process.signalEventFd(one);
    threads.run();
    expect(log).toEqual(['two woke', 'one woke']);
  });

  it('are waited for until they end', () => {
    const { process, threads, log, reader } = setup();
    const fd = process.makeEventFd();
    const thread = threads.start('a thread', reader('a', fd, 1));
    process.signalEventFd(fd);
    threads.join(thread);
    expect(log).toEqual(['a woke']);
  });

  it('wake one another while somebody waits', () => {
    const { process, threads, log, reader } = setup();
    const [one, two] = [process.makeEventFd(), process.makeEventFd()];
    const last = threads.start('last', reader('last', two, 1));
    threads.start(
      'first',
      (function* (): Body {
        yield { fds: [one], timeout: null };
        process.signalEventFd(two);
      })(),
    );
    process.signalEventFd(one);
    threads.join(last);
    expect(log).toEqual(['last woke']);
  });

  it('time out in the order of their deadlines, when somebody waits and nothing else can go on', () => {
    const { process, threads, log, reader } = setup();
    const fd = process.makeEventFd();
    const slow = threads.start('slow', reader('slow', fd, 1, 25));
    threads.start('quick', reader('quick', fd, 5, 10));
    threads.run();
    expect(log).toEqual([]);
    threads.join(slow);
    expect(log).toEqual(['quick gave up', 'quick gave up', 'slow gave up']);
  });

  it('are in a deadlock when one is waited for that nothing wakes, and closing what it polls does not', () => {
    const { process, threads, reader } = setup();
    const fd = process.makeEventFd();
    const thread = threads.start('a thread', reader('a', fd, 1));
    process.closeEventFd(fd);
    expect(() => threads.join(thread)).toThrow(Deadlock);
    expect(() => threads.join(thread)).toThrow('a thread is waited for, and nothing is left that would wake it');
  });

  it('stand still while they are paused', () => {
    const { process, threads, log, reader } = setup();
    const fd = process.makeEventFd();
    threads.start('a', reader('a', fd, 1));
    process.signalEventFd(fd);
    threads.paused = true;
    threads.run();
    expect(log).toEqual([]);
    threads.paused = false;
    threads.run();
    expect(log).toEqual(['a woke']);
  });
});
