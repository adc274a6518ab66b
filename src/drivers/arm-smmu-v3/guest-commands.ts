/**
 * Commands that a guest may have issued on its behalf (HWPT_INVALIDATE), with what it may not choose replaced: the VMID
 * by the one of its vIOMMU, the StreamID by the device behind its virtual one. Everything else passes as it is.
 */

import { type Errno, fail } from '../../abi/errno.ts';
import { IOMMU_VIOMMU_INVALIDATE_DATA_ARM_SMMUV3 } from '../../abi/iommufd.ts';
import * as spec from '../../hardware/smmuv3/spec/commands.ts';
import { CMD, COMMAND_BYTES, COMMAND_WORDS } from '../../hardware/smmuv3/spec/commands.ts';
import { get, put } from '../../hardware/smmuv3/spec/field.ts';
import { mayFail } from '../failure-points.ts';
import type { InvalidateResult, UserDataArray } from '../iommu-driver.ts';
import type { CommandSink } from './command-queue.ts';
import { CommandBatch } from './commands.ts';

/** StreamID behind a virtual one, or -1. */
export type StreamLookup = (virtualStream: number) => number;

/** What a kernel can allocate at once (4 MiB) holds no more. */
const MOST_COMMANDS = 2 ** 22 / COMMAND_BYTES;

/**
 * Issues the guest's commands up to the first that is refused (EIO), all with one CMD_SYNC. Nothing is issued when the
 * array as such is bad: ENOMEM when it is too long, EINVAL for another type, and what copying it gives.
 * @param streamOf null where only TLBI commands are taken
 */
export function issueGuestCommands(
  queue: CommandSink,
  vmid: number,
  streamOf: StreamLookup | null,
  commands: UserDataArray,
): InvalidateResult {
  try {
    makeRoom(commands.entryCount);
  } catch (error) {
    // Kernels leave entry_num as it was here, though nothing was done.
    return { done: commands.entryCount, error: error as Error };
  }
  let words: Uint32Array;
  try {
    words = copyAll(commands);
  } catch (error) {
    return { done: 0, error: error as Error };
  }
  const batch = new CommandBatch();
  let refusal: Errno | null = null;
  for (let base = 0; base < words.length && !refusal; base += COMMAND_WORDS) {
    refusal = convert(words, base, vmid, streamOf);
    if (!refusal) batch.raw(words[base]!, words[base + 1]!, words[base + 2]!, words[base + 3]!);
  }
  const done = batch.length;
  try {
    if (done) queue.submit(batch);
  } catch (error) {
    return { done: 0, error: error as Error };
  }
  return { done, error: refusal };
}

function makeRoom(entryCount: number): void {
  mayFail('invalidation commands');
  if (entryCount > MOST_COMMANDS) throw fail('ENOMEM', `entry_num ${entryCount} is more than ${MOST_COMMANDS}`);
}

function copyAll(commands: UserDataArray): Uint32Array {
  if (commands.type !== IOMMU_VIOMMU_INVALIDATE_DATA_ARM_SMMUV3) {
    const expected = IOMMU_VIOMMU_INVALIDATE_DATA_ARM_SMMUV3;
    throw fail('EINVAL', `invalidation data_type is ${commands.type}, this IOMMU takes ${expected}`);
  }
  // The mock driver takes an empty array, to be asked for the type; kernels' SMMUv3 driver does not.
  if (commands.entryCount === 0) throw fail('EINVAL', 'entry_num is 0');
  const bytes = commands.entryLength === COMMAND_BYTES && commands.copyAll ? commands.copyAll() : copyEach(commands);
  return new Uint32Array(bytes.slice().buffer);
}

function copyEach(commands: UserDataArray): Uint8Array {
  const bytes = new Uint8Array(commands.entryCount * COMMAND_BYTES);
  for (let i = 0; i < commands.entryCount; i++) bytes.set(commands.copy(i, 0, COMMAND_BYTES), i * COMMAND_BYTES);
  return bytes;
}

/** Rewrites one command in place. @returns why it is refused, or null */
function convert(words: Uint32Array, base: number, vmid: number, streamOf: StreamLookup | null): Errno | null {
  const opcode = get(words, base, CMD.Opcode);
  switch (opcode) {
    case spec.CMD_TLBI_NSNH_ALL:
      words.fill(0, base, base + COMMAND_WORDS);
      words[base] = spec.CMD_TLBI_NH_ALL;
      put(words, base, CMD.VMID, vmid);
      return null;
    case spec.CMD_TLBI_NH_ALL:
    case spec.CMD_TLBI_NH_ASID:
    case spec.CMD_TLBI_NH_VA:
    case spec.CMD_TLBI_NH_VAA:
      put(words, base, CMD.VMID, vmid);
      return null;
    case spec.CMD_ATC_INV:
    case spec.CMD_CFGI_CD:
    case spec.CMD_CFGI_CD_ALL: {
      if (!streamOf) return fail('EIO', `command 0x${opcode.toString(16)} needs a vIOMMU, not a nested HWPT`);
      const virtualStream = get(words, base, CMD.StreamID);
      const stream = streamOf(virtualStream);
      if (stream < 0)
        return fail('EIO', `command 0x${opcode.toString(16)} names vSID ${virtualStream}: no vDEVICE has it`);
      put(words, base, CMD.StreamID, stream);
      return null;
    }
    default:
      return fail('EIO', `command 0x${opcode.toString(16)} is not one that a guest may issue`);
  }
}
