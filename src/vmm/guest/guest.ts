/** A guest kernel, as far as DMA goes: a driver for each SMMU, and address spaces for the drivers of devices. */
import type { Vm } from '../vm.ts';
import { AddressSpace } from './address-space.ts';
import { type CmdqvOptions, GuestCmdqvDriver } from './cmdqv-driver.ts';
import type { GuestFunction } from './function.ts';
import type { GuestRam } from './ram.ts';
import { type AttachOptions, GuestSmmuDriver } from './smmu-driver.ts';

export class Guest {
  readonly ram: GuestRam;
  /** One for each of the VM's. */
  readonly smmus: readonly GuestSmmuDriver[];
  private nextAsid: number;

  private constructor(ram: GuestRam, smmus: readonly GuestSmmuDriver[]) {
    this.ram = ram;
    this.smmus = smmus;
    this.nextAsid = 1;
  }

  /** Finds the SMMUs and switches them on: from here on no device reaches anything that is not mapped for it. */
  static boot(vm: Vm, options: CmdqvOptions = {}): Guest {
    const smmus = vm.smmus.map((smmu) => {
      const cmdqv = smmu.cmdqv && new GuestCmdqvDriver(smmu.cmdqv, vm.ram, options);
      const driver = new GuestSmmuDriver(smmu.mmio, vm.ram, cmdqv);
      smmu.handler = () => driver.interrupt();
      smmu.cmdqvHandler = () => cmdqv?.interrupt();
      driver.start();
      return driver;
    });
    return new Guest(vm.ram, smmus);
  }

  /** A fresh address space with nothing in it. */
  space(): AddressSpace {
    return new AddressSpace(this.ram, this.nextAsid++);
  }

  /** A fresh one for a function, which is attached to it. */
  attach(smmu: GuestSmmuDriver, fn: GuestFunction, options: AttachOptions = {}): AddressSpace {
    const space = this.space();
    smmu.attach(fn.sid, space, options);
    return space;
  }
}
