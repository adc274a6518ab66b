import { describe, expect, it } from 'vitest';
import { Clock } from './clock.ts';
import { MsiDoorbell } from './msi-doorbell.ts';

function connected() {
  const clock = new Clock();
  const doorbell = new MsiDoorbell(clock);
  const [first, second]: number[][] = [[], []];
  doorbell.connect(0x100, (event) => first!.push(event));
  doorbell.connect(0x1_0100, (event) => second!.push(event));
  return { clock, doorbell, heard: () => [first, second] };
}

describe('an MSI doorbell', () => {
  it('gives an event to whom its device belongs, on the clock', () => {
    const { clock, doorbell, heard } = connected();
    doorbell.writeRegister(0x40, 4, 7, 0x100);
    doorbell.writeRegister(0x40, 4, 7, 0x1_0100);
    doorbell.writeRegister(0x40, 2, 9, 0x100);
    expect(heard()).toEqual([[], []]);
    clock.settle();
    expect(heard()).toEqual([[7, 9], [7]]);
  });

  it.each<[string, number, number, number | undefined]>([
    ['a device that nobody has connected', 0x40, 4, 0x200],
    ['a CPU', 0x40, 4, undefined],
    ['a byte of the register', 0x40, 1, 0x100],
    ['its upper half', 0x42, 2, 0x100],
    ['anything beside the register', 0x44, 4, 0x100],
  ])('drops a write of %s', (_what, offset, size, requester) => {
    const { clock, doorbell, heard } = connected();
    doorbell.writeRegister(offset, size, 0, requester);
    clock.settle();
    expect(heard()).toEqual([[], []]);
  });

  it('drops what comes after the end of a connection, under way or not', () => {
    const { clock, doorbell, heard } = connected();
    doorbell.writeRegister(0x40, 4, 7, 0x100);
    doorbell.disconnect(0x100);
    clock.settle();
    expect([heard(), doorbell.readRegister()]).toEqual([[[], []], 0]);
  });
});
