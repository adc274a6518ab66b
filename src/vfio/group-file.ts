/** An open /dev/vfio/N. */
import { fail } from '../abi/errno.ts';
import { GROUP_COMMANDS } from '../abi/vfio-commands.ts';
import {
  GroupStatus,
  VFIO_GROUP_FLAGS_CONTAINER_SET,
  VFIO_GROUP_FLAGS_VIABLE,
  VFIO_GROUP_GET_DEVICE_FD,
  VFIO_GROUP_GET_STATUS,
  VFIO_GROUP_SET_CONTAINER,
  VFIO_GROUP_UNSET_CONTAINER,
} from '../abi/vfio-group.ts';
import { IommufdContext } from '../iommufd/context.ts';
import { openDescriptor } from '../iommufd/descriptor.ts';
import { type ClientProcess, type OpenFile, POLLIN, POLLOUT } from '../iommufd/file.ts';
import { tracedIoctl } from '../iommufd/traced.ts';
import { Call } from './call.ts';
import type { VfioDevice } from './device.ts';
import type { VfioGroup } from './group.ts';

export class VfioGroupFile implements OpenFile {
  readonly kind = 'vfio-group';
  readonly device: { readonly major: number; readonly minor: number };
  readonly pollMask = POLLIN | POLLOUT;
  onPollChange: (() => void) | null;
  readonly group: VfioGroup;

  constructor(group: VfioGroup) {
    this.device = group.node;
    this.onPollChange = null;
    this.group = group;
  }

  ioctl(caller: ClientProcess, command: number, arg: bigint): number | Promise<number> {
    const { tracer, path } = this.group;
    const struct = GROUP_COMMANDS.get(command)?.struct ?? null;
    return tracedIoctl(tracer, caller, { file: path, command, struct, arg }, () =>
      this.run(command, new Call(caller, arg)),
    );
  }

  read(): never {
    throw fail('EINVAL', `${this.group.path} cannot be read`);
  }

  write(): never {
    throw fail('EINVAL', `${this.group.path} cannot be written`);
  }

  mmap(): never {
    throw fail('ENODEV', `${this.group.path} cannot be mapped`);
  }

  release(): void {
    this.group.close();
  }

  private run(command: number, call: Call): number | Promise<number> {
    switch (command) {
      case VFIO_GROUP_GET_STATUS:
        return this.getStatus(call);
      case VFIO_GROUP_SET_CONTAINER:
        return this.setContainer(call);
      case VFIO_GROUP_UNSET_CONTAINER:
        this.group.unsetContainer();
        return 0;
      case VFIO_GROUP_GET_DEVICE_FD:
        return this.getDeviceFd(call);
    }
    throw fail('ENOTTY', `0x${command.toString(16)} is not a command of a group`);
  }

  private getStatus(call: Call): number {
    const status = call.take(GroupStatus, 'flags');
    const { container, claimed } = this.group;
    status.flags = container || !claimed ? VFIO_GROUP_FLAGS_VIABLE : 0;
    if (container) status.flags |= VFIO_GROUP_FLAGS_CONTAINER_SET;
    call.write(0, status.bytes);
    return 0;
  }

  private setContainer(call: Call): number {
    const fd = new DataView(call.read(0, 4).buffer).getInt32(0, true);
    const file = call.caller.fileOf(fd);
    if (!file && !call.caller.memoryFile(fd)) throw fail('EBADF', `descriptor ${fd} is not open`);
    if (this.group.container) throw fail('EINVAL', `${this.group.path} has a container already`);
    if (!(file instanceof IommufdContext)) {
      throw fail('EBADFD', `descriptor ${fd} is ${file ? `a ${file.kind}` : 'a file of another kind'}`);
    }
    this.group.setContainer(file);
    return 0;
  }

  private async getDeviceFd(call: Call): Promise<number> {
    const device = this.find(call.string());
    const { container, path } = this.group;
    if (!container) throw fail('EINVAL', `${path} has no container`);
    let opened = -1;
    await openDescriptor(call.caller, device.openInGroup(container), (fd) => {
      opened = fd;
    });
    return opened;
  }

  /** @param text a PCI address; the one option that may follow, 'vf_token=', takes a device with virtual functions */
  private find(text: string): VfioDevice {
    const [name, ...options] = text.split(' ');
    const device = this.group.devices.find(({ fn }) => fn.name === name);
    if (!device) throw fail('ENODEV', `"${name}" is no device of group ${this.group.number}`);
    const option = options.find((word) => word !== '');
    if (option !== undefined) throw fail('EINVAL', `${name} takes no option "${option}"`);
    return device;
  }
}
