import { describe, expect, it } from 'vitest';
import { Program, testMachine } from '../../test/host/program.ts';
import { Machine } from './machine.ts';
import { parseMachine } from './machine-description.ts';
import { preset } from './presets.ts';
import { rootPorts } from './root-ports.ts';

const below = (segment: number, bus: number, barAddress = 0x1000_0000, barBytes = 0x4000) => ({
  address: { segment, bus, device: 0, function: 0 },
  barAddress,
  barBytes,
});

describe('root ports', () => {
  it('are functions of one device only where there is no other place, and then from function 0 on', () => {
    const buses = [0xff, 0x01, 0x41, 0x21, 0x03];
    const ports = rootPorts([...buses.map((bus) => below(0, bus)), below(1, 0x21)]);
    const places = ports.map(({ address, multifunction }) => [address.device, address.function, multifunction]);
    expect(places).toEqual([
      [0x1f, 0, false],
      [1, 0, true],
      [1, 2, true],
      [1, 1, true],
      [3, 0, false],
      [1, 0, false],
    ]);
  });

  it('pass on whole MiB, with all BARs below them', () => {
    const [first, second] = rootPorts([below(0, 1, 0x1010_0000), below(0, 1, 0x101f_f000, 0x2000)]);
    expect(first).toBe(second);
    expect(first!.window).toEqual({ start: 0x1010_0000, last: 0x102f_ffff });
  });

  it('pass on ranges that have nothing in common, also when functions of their buses are described in turns', () => {
    const text = preset('two-smmus').machine;
    const functions = ['02:00.0', '01:00.0', '02:01.0', '01:01.0'].map((place, index) => ({
      ...text.functions[index >>> 1]!,
      bdf: `0000:${place}`,
      iommu: text.functions[0]!.iommu,
    }));
    const { sysfs } = new Machine(parseMachine({ ...text, functions }));
    const line = (path: string, index: number): (string | undefined)[] => {
      const file = sysfs.find((entry) => entry.path.endsWith(`${path}/resource`))!;
      return file.kind === 'file' ? String(file.content).split('\n')[index]!.split(' ') : [];
    };
    const hex = (value: number, digits = 16): string => `0x${value.toString(16).padStart(digits, '0')}`;
    const memory = hex(0x200);
    expect(line('0000:00:01.0', 14)).toEqual([hex(0x1000_0000), hex(0x100f_ffff), memory]);
    expect(line('0000:00:02.0', 14)).toEqual([hex(0x1010_0000), hex(0x101f_ffff), memory]);
    expect(line('0000:02:00.0', 0)[0]).toBe(hex(0x1010_0000));
    expect(line('0000:02:01.0', 0)[0]).toBe(hex(0x1010_4000));
    expect(line('0000:01:01.0', 0)[0]).toBe(hex(0x1000_4000));
  });

  it('show in their registers what they pass on', () => {
    const program = new Program(testMachine().machine);
    const port = program.open('/sys/devices/platform/uiommufd.pcie.0/pci0000:00/0000:00:02.0/config');
    expect(program.pread(port, 0x20n, 4)).toEqual(Uint8Array.of(0x10, 0x10, 0x10, 0x10));
  });
});
