/**
 * A VM whose IOMMU is emulated without help from the host: each function has an IOAS of its own, in which the emulation
 * mirrors what the guest maps. Until there is an emulation, a function reaches nothing.
 */
import type { Machine } from '../../host/machine.ts';
import { Client } from '../client.ts';
import { GuestRam } from '../guest/ram.ts';
import { Passthrough } from '../passthrough.ts';
import type { ShadowFaults } from './faults.ts';
import { type HostSpace, IoasSpace } from './host-space.ts';
import { ShadowSpace } from './shadow-space.ts';
import { Type1Space } from './type1-space.ts';

export interface ShadowVmOptions {
  /** N of /dev/vfio/devices/vfioN, and what the guest knows each as: a source, endpoint or device ID. */
  readonly functions: readonly { readonly vfio: number; readonly id: number }[];
  readonly faults?: ShadowFaults;
  readonly ramBytes?: number;
  /** Mappings are made by VFIO's ioctls. An iommufd has these for one IOAS, and so the VM has one function. */
  readonly type1?: boolean;
  /** A host that is another one than the machine's. */
  readonly host?: (space: HostSpace) => HostSpace;
}

export interface ShadowFunction {
  readonly id: number;
  readonly fn: Passthrough;
  readonly space: ShadowSpace;
}

const DEFAULT_RAM = 4 * 2 ** 20;

export class ShadowVm {
  readonly client: Client;
  readonly iommufd: number;
  readonly ram: GuestRam;
  readonly functions: readonly ShadowFunction[];
  readonly faults: ShadowFaults;

  constructor(machine: Machine, options: ShadowVmOptions) {
    const { functions, faults = {}, ramBytes = DEFAULT_RAM, type1 = false, host = (space) => space } = options;
    this.faults = faults;
    this.client = new Client(machine, ramBytes, 42);
    this.iommufd = this.client.open('/dev/iommu');
    this.ram = new GuestRam(this.client.process.memory.bytes.subarray(0, ramBytes));
    this.functions = functions.map(({ vfio, id }) => {
      const { client, iommufd } = this;
      const fn = Passthrough.open(client, iommufd, `/dev/vfio/devices/vfio${vfio}`, id, {});
      const ioas = new IoasSpace(client, iommufd, faults);
      fn.attach(ioas.ioasId);
      const space = host(type1 ? new Type1Space(client, iommufd, ioas, faults) : ioas);
      return { id, fn, space: new ShadowSpace(space, { userVa: client.base, bytes: ramBytes }) };
    });
  }

  /** The process of the VMM ends. */
  exit(): void {
    for (const fd of this.client.process.descriptors) this.client.close(fd);
  }
}
