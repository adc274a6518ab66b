/** A VM on a machine with DMA probes, its guest booted, and two pages of text that its devices may find. */
import type { ErrnoName } from '../../src/abi/errno.ts';
import { Refused } from '../../src/vmm/client.ts';
import type { AddressSpace } from '../../src/vmm/guest/address-space.ts';
import type { CmdqvOptions } from '../../src/vmm/guest/cmdqv-driver.ts';
import { Guest } from '../../src/vmm/guest/guest.ts';
import { ProbeDriver } from '../../src/vmm/guest/probe-driver.ts';
import type { AttachOptions, GuestSmmuDriver } from '../../src/vmm/guest/smmu-driver.ts';
import { Vm, type VmOptions } from '../../src/vmm/vm.ts';
import { leftovers, type MutableMachine, testMachine } from '../host/program.ts';

export const IOVA = 0x10_0000n;
export const SID = 0x10;

const SMMUS = ['smmu3.0x000000002b400000', 'smmu3.0x000000002b500000'];

/** Kinds of uAPI: vDEVICEs and vEVENTQs; virtual IDs and VIRQs. */
export const ABIS = ['linux-7.1', 'viommu-v2'] as const;

export interface Choice extends Partial<VmOptions>, CmdqvOptions {
  readonly abi?: string;
  /** Without, the probes cache nothing. */
  readonly ats?: boolean;
  readonly change?: (machine: MutableMachine) => void;
}

/** Two SMMUs: vfio0 and vfio1 behind the first, vfio2 behind the second. All are probes with 8 bits of PASID. */
export function probeMachine({ abi, ats = false, change }: Choice = {}) {
  return testMachine({
    preset: 'two-smmus',
    ...(abi ? { abi } : {}),
    change: (machine) => {
      machine.functions = [0, 0, 1].map((smmu, index) => ({
        bdf: `0000:0${index + 1}:00.0`,
        iommu: SMMUS[smmu],
        model: 'dma-probe',
        ats,
        pasidBits: 8,
      }));
      change?.(machine);
    },
  });
}

/** A VM with vfio0 at SID, unless `choice` says otherwise. */
export async function startVm(choice: Choice = {}) {
  const { machine, events } = probeMachine(choice);
  const smmus = choice.smmus ?? [[{ vfio: 0, sid: SID }]];
  const tracer = { on: true, emit: (event: (typeof events)[number]) => void events.push(event) };
  const vm = await Vm.start(machine, { tracer, ...choice, smmus });
  return { machine, events, vm };
}

/** With the guest booted, and its first device behind an address space in which IOVA leads to the first page. */
export async function startGuest(choice: Choice & AttachOptions = {}) {
  const made = await startVm(choice);
  const guest = Guest.boot(made.vm, choice);
  const smmu = guest.smmus[0]!;
  const fn = made.vm.smmus[0]!.functions[0]!;
  const probe = new ProbeDriver(fn);
  const { log2Ssids = 0, ats = false } = choice;
  const space = guest.attach(smmu, fn, { log2Ssids, ats });
  const [first, second] = textPages(guest);
  smmu.map(space, IOVA, first);
  return { ...made, guest, smmu, fn, probe, space, first, second };
}

/** startVm() and startGuest() with another ABI than the newest. */
export const rigFor = (abi: string) => ({
  startVm: (choice: Choice = {}) => startVm({ abi, ...choice }),
  startGuest: (choice: Choice & AttachOptions = {}) => startGuest({ abi, ...choice }),
});

/** Guest-physical addresses of two pages that say what they are. */
export function textPages({ ram }: Guest): [bigint, bigint] {
  return ['first page', 'second page'].map((text) => {
    const gpa = ram.allocate();
    ram.at(gpa, 16).set(new TextEncoder().encode(text.padEnd(16)));
    return gpa;
  }) as [bigint, bigint];
}

/** Unmaps a page and maps another one there, as a driver does from one DMA to the next. */
export function remap(smmu: GuestSmmuDriver, space: AddressSpace, iova: bigint, gpa: bigint): void {
  smmu.unmap(space, iova);
  smmu.map(space, iova, gpa);
}

/** Why a step is refused; '' when it is not. */
export async function refusal(step: () => unknown): Promise<ErrnoName | ''> {
  try {
    await step();
    return '';
  } catch (error) {
    if (error instanceof Refused) return error.code;
    throw error;
  }
}

/** Opcodes of the commands that an SMMU of the host has consumed. */
export const opcodes = (events: readonly { type: string }[]): number[] =>
  events.flatMap((event) =>
    event.type === 'command' ? [(event as unknown as { words: number[] }).words[0]! & 0xff] : [],
  );

export { leftovers };
