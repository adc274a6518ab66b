/** A guest whose SMMU comes with command queues that the hardware reads, on a machine like Grace with fragmented memory. */
import { preset } from '../../src/host/presets.ts';
import type { AttachOptions } from '../../src/vmm/guest/smmu-driver.ts';
import type { MutableMachine } from '../host/program.ts';
import { type Choice, startGuest } from './rig.ts';

const SMMUS = ['smmu3.0x0000000011000000', 'smmu3.0x0000000012000000'];

export interface CmdqvChoice extends Choice, AttachOptions {
  /** What the host hands memory out in. */
  readonly pageKiB?: 4 | 2048 | 1048576;
}

/** As startGuest(), with a CMDQV. */
export async function startQueues(choice: CmdqvChoice = {}) {
  const { pageKiB = 4, change, ...rest } = choice;
  const made = await startGuest({
    cmdqv: true,
    ats: true,
    ...rest,
    pageBytes: pageKiB * 1024,
    change: (machine: MutableMachine) => {
      machine.iommus = structuredClone(preset('grace').machine.iommus) as MutableMachine['iommus'];
      machine.memory = { fragmentSeed: 3, pageKiB };
      for (const fn of machine.functions) fn.iommu = SMMUS[fn.iommu === 'smmu3.0x000000002b400000' ? 0 : 1];
      change?.(machine);
    },
  });
  return { ...made, cmdqv: made.smmu.cmdqv! };
}
