/**
 * What sysfs has of configuration space while the machine runs: `config`, the function's own registers and not what vfio
 * shows of them, which kernels let root write even while vfio-pci drives the function, and the power state.
 */
import { fail } from '../abi/errno.ts';
import { rootPortConfig } from '../hardware/pci/root-port.ts';
import { CONFIG_BYTES, PMCSR_POWER_STATE } from '../hardware/pci/spec/config-space.ts';
import type { VfioDevice } from '../vfio/device.ts';
import { type Attribute, textFile } from './attribute-file.ts';
import { devicePath, portPath, portsOf, type SysfsFunction } from './sysfs.ts';

/** Configuration space as the bus reaches it: 1, 2 or 4 bytes, naturally aligned. */
interface ConfigSpace {
  read(offset: number, size: number): number;
  write(offset: number, size: number, value: number): void;
}

/** @param devices those of `functions`, in the same order */
export function configAttributes(functions: readonly SysfsFunction[], devices: readonly VfioDevice[]): Attribute[] {
  return [
    ...portsOf(functions).map((of) => portAttribute(of)),
    ...functions.flatMap((of, index) => [
      configFile(devicePath(of), functionSpace(devices[index]!)),
      powerState(devicePath(of), devices[index]!),
    ]),
  ];
}

/** No bit of a port can be changed. */
function portAttribute(of: SysfsFunction): Attribute {
  const registers = rootPortConfig(of.port);
  return configFile(portPath(of), { read: (offset, size) => registers.read(offset, size), write: () => {} });
}

/** An access wakes a function that its program has put in low power. */
function functionSpace(device: VfioDevice): ConfigSpace {
  const { fn } = device;
  const wake = (): void => device.binding?.lowPower.access();
  return {
    read(offset, size) {
      wake();
      return fn.readConfig(offset, size);
    },
    write(offset, size, value) {
      wake();
      fn.writeConfig(offset, size, value);
    },
  };
}

function configFile(folder: string, space: ConfigSpace): Attribute {
  const path = `${folder}/config`;
  return {
    path,
    size: CONFIG_BYTES,
    read(position, count) {
      const bytes = new Uint8Array(Math.max(0, Math.min(count, CONFIG_BYTES - position)));
      forEachAccess(position, bytes.length, (at, size) => {
        const value = space.read(position + at, size);
        for (let i = 0; i < size; i++) bytes[at + i] = value >>> (8 * i);
      });
      return bytes;
    },
    write(position, bytes) {
      if (position >= CONFIG_BYTES) throw fail('EFBIG', `${position} is beyond the ${CONFIG_BYTES} bytes of ${path}`);
      const length = Math.min(bytes.length, CONFIG_BYTES - position);
      forEachAccess(position, length, (at, size) => {
        let value = 0;
        for (let i = 0; i < size; i++) value |= bytes[at + i]! << (8 * i);
        space.write(position + at, size, value >>> 0);
      });
      return length;
    },
  };
}

/** The largest accesses that are aligned, in order. @param access told where in the `length` bytes, and of what size */
function forEachAccess(start: number, length: number, access: (at: number, size: number) => void): void {
  for (let at = 0; at < length; ) {
    const size = [4, 2, 1].find((each) => (start + at) % each === 0 && at + each <= length)!;
    access(at, size);
    at += size;
  }
}

const powerState = (folder: string, { fn }: VfioDevice): Attribute =>
  textFile({
    path: `${folder}/power_state`,
    show: () => `${['D0', 'D1', 'D2', 'D3hot'][fn.config.get('PMCSR') & PMCSR_POWER_STATE]}\n`,
  });
