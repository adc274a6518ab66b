/** An open /dev/vfio/N: a group of devices, used with a container (/dev/vfio/vfio, or an iommufd). */
import * as vfio from '../abi/vfio-group.ts';
import { takes, takesNumber, withCommands } from './command-file.ts';
import { OPEN_FLAGS } from './iommufd.ts';
import { checked } from './refusal.ts';
import type { System } from './system.ts';
import { VfioDevice } from './vfio.ts';

const NAME_BYTES = 256;

export const VFIO_GROUP_COMMANDS = {
  getStatus: takes(vfio.VFIO_GROUP_GET_STATUS, vfio.GroupStatus),
  unsetContainer: takesNumber(vfio.VFIO_GROUP_UNSET_CONTAINER),
} as const;

export class VfioGroup extends withCommands(VFIO_GROUP_COMMANDS) {
  static open(system: System, path: string): VfioGroup {
    return new VfioGroup(system, checked(system.open(path, OPEN_FLAGS), `open of ${path}`));
  }

  /** @param fd of an open container */
  async setContainer(fd: number): Promise<void> {
    await this.callBytes(vfio.VFIO_GROUP_SET_CONTAINER, new Uint8Array(Int32Array.of(fd).buffer));
  }

  /** @param name '0000:01:00.0', and after it what the driver asks for */
  async device(name: string): Promise<VfioDevice> {
    const text = new Uint8Array(NAME_BYTES);
    const { read, written } = new TextEncoder().encodeInto(name, text.subarray(0, NAME_BYTES - 1));
    if (read < name.length) throw new RangeError(`name of ${name.length} characters, at most ${written} fit`);
    return new VfioDevice(this.system, await this.callBytes(vfio.VFIO_GROUP_GET_DEVICE_FD, text));
  }
}
