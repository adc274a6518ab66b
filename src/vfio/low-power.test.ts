import { expect, it } from 'vitest';
import { CountingEventFd } from '../../test/host/program.ts';
import { LowPower } from './low-power.ts';

function held(): CountingEventFd {
  const eventFd = new CountingEventFd();
  eventFd.held = 1;
  return eventFd;
}

it('gives an eventfd back when it is left, entered already, or the device was closed meanwhile', () => {
  const lowPower = new LowPower();
  const [first, second, third] = [held(), held(), held()];
  lowPower.enter(first);
  expect(() => lowPower.enter(second)).toThrow('EINVAL');
  lowPower.close();
  expect(() => lowPower.enter(third)).toThrow('ENODEV');
  expect([first, second, third].map((eventFd) => eventFd.held)).toEqual([0, 0, 0]);
  expect(lowPower.isEntered).toBe(false);
});

it('is ended by an access only with an eventfd, which hears of it', () => {
  const lowPower = new LowPower();
  lowPower.enter(null);
  lowPower.access();
  expect(lowPower.isEntered).toBe(true);
  lowPower.exit();
  const eventFd = held();
  lowPower.enter(eventFd);
  lowPower.access();
  lowPower.access();
  expect([lowPower.isEntered, eventFd.count, eventFd.held]).toEqual([false, 1, 0]);
});
