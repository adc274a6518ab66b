/**
 * What a TLBI and the CMD_SYNC behind it cost by a guest's VCMDQ, against the same two by the SMMU's own queue. The rings
 * are full of such pairs; a write of PROD lets one of them be carried out. Each task does 1000 of them.
 */
import { bench, describe } from '../../../bench/harness.ts';
import type { MmioDevice } from '../iommu.ts';
import { CMD, CMD_ATC_INV, CMD_SYNC, CMD_TLBI_NH_VA, COMMAND_WORDS } from '../smmuv3/spec/commands.ts';
import { REGISTERS } from '../smmuv3/spec/registers.ts';
import { Rig, S1_LEAF, at as to, type Values } from '../smmuv3/test-rig.ts';
import { CmdqvRig, PROD, QUEUE_LOG2, vintfPage0 } from './test-rig.ts';

const OPERATIONS = 1000;
const VMID = 7;
const TLBI = { Opcode: CMD_TLBI_NH_VA, ASID: 1, VMID, Address: 0x12345 };
const ATC_INV = { Opcode: CMD_ATC_INV, StreamID: 6, Size: 0, Address: 0x12345 };

/** Translations of the guest that are in the IOTLB, and stay there. */
function cache(rig: Rig): void {
  const { root } = rig.stage1Stream(1, { ASID: 1 }, { S2VMID: VMID });
  for (let page = 0; page < 64; page++) {
    rig.map(root, page, S1_LEAF | to(0x90));
    rig.translate(1, page);
  }
}

function fill(rig: Rig, frame: number, log2: number, command: Values<typeof CMD>): void {
  for (let n = 0; n < 2 ** log2; n += 2) {
    rig.write(frame, n * 16, COMMAND_WORDS, CMD, command);
    rig.write(frame, n * 16 + 16, COMMAND_WORDS, CMD, { Opcode: CMD_SYNC });
  }
}

/** A task that moves PROD at `offset` of `device` on by two commands, of a ring of 2^log2. */
function pairs(device: MmioDevice, offset: number, log2: number): () => void {
  const mask = 2 ** (log2 + 1) - 1;
  let index = 0;
  return () => {
    for (let n = 0; n < OPERATIONS; n++) {
      index = (index + 2) & mask;
      device.writeRegister(offset, 4, index);
    }
    if (device.readRegister(offset - 4, 4) !== index && device.readRegister(offset + 4, 4) !== index) {
      throw new Error('the benchmark has lost its queue');
    }
  };
}

function own(command: Values<typeof CMD>): () => void {
  const rig = new Rig();
  const frame = rig.alloc();
  cache(rig);
  rig.set('CR0', 0b10111);
  rig.setWide('CMDQ_BASE', frame, QUEUE_LOG2);
  rig.set('CR0', 0b11111);
  fill(rig, frame, QUEUE_LOG2, command);
  return pairs(rig.smmu, REGISTERS.CMDQ_PROD.offset, QUEUE_LOG2);
}

function virtual(command: Values<typeof CMD>): () => void {
  const rig = new CmdqvRig();
  cache(rig);
  const { frame } = rig.guest(1, VMID);
  rig.match(1, 0, 6, 6);
  fill(rig, frame, QUEUE_LOG2, command);
  return pairs(rig.cmdqv, vintfPage0(1) + PROD, QUEUE_LOG2);
}

describe('a command and CMD_SYNC, per 1000', () => {
  bench("TLBI_NH_VA by the SMMU's queue (the measure)", own(TLBI));
  bench('TLBI_NH_VA by a VCMDQ', virtual(TLBI));
  bench("ATC_INV by the SMMU's queue", own(ATC_INV));
  bench('ATC_INV by a VCMDQ', virtual(ATC_INV));
});
