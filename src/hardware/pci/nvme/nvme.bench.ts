/**
 * Reads of an NVMe controller, from the doorbell to the interrupt: 4 KiB at random, and 128 KiB in a row; through an
 * identity IOMMU double, and through nested translation with 4 KiB leaves. Beside them the translations alone that those
 * reads ask of the SMMU, which is the share of their time that goes into translation.
 */
import { bench, describe } from '../../../../bench/harness.ts';
import { PhysicalMemory } from '../../../memory/physical-memory.ts';
import { SILENT } from '../../../trace/events.ts';
import { Clock } from '../../clock.ts';
import { type Iommu, NO_SUBSTREAM } from '../../iommu.ts';
import { at, Rig, S1_LEAF } from '../../smmuv3/test-rig.ts';
import { PciFunction } from '../pci-function.ts';
import { COMMAND_MASTER, COMMAND_MEMORY } from '../spec/config-space.ts';
import { IommuDouble } from '../testing.ts';
import { MemoryStore } from './disk.ts';
import { NVME } from './nvme.ts';
import { NvmeDriver, type NvmeHost } from './testing.ts';

const STREAM = 1;
/** IOVA frame n is frame FIRST + n of memory, in both cases. */
const FIRST = 0x8000;
const FRAMES = 0x400;
const DISK_BLOCKS = 2 ** 14;
const DATA = 0x10_0000;
const LIST = 0xf_f000;
const QUEUE_DEPTH = 32;

interface Reader {
  /** Rings for `QUEUE_DEPTH` reads that lie in the queue, and takes their completions. */
  run(): void;
}

function reader(memory: PhysicalMemory, iommu: Iommu, clock: Clock, blocksEach: number): Reader {
  const store = new MemoryStore(DISK_BLOCKS * 4096);
  for (let block = 0; block < DISK_BLOCKS; block += 16) store.write(block * 4096, new Uint8Array(4096).fill(block));
  const options = { ats: false, pri: false, pasidBits: 0, disks: [{ store, blockBytes: 4096 as const }] };
  const fn = new PciFunction({
    ...options,
    name: '0000:01:00.0',
    kind: NVME,
    iommu,
    stream: STREAM,
    requester: STREAM,
    memory,
    clock,
    tracer: SILENT,
  });
  fn.writeConfig(fn.config.offsetOf('COMMAND'), 2, COMMAND_MEMORY | COMMAND_MASTER);
  const host: NvmeHost = {
    read32: (offset) => fn.readRegister(offset, 4),
    write32: (offset, value) => fn.writeRegister(offset, 4, value >>> 0),
    peek(address, length) {
      const into = new Uint8Array(length);
      memory.read(FIRST + Math.floor(address / 4096), address % 4096, into);
      return into;
    },
    poke: (address, bytes) => memory.write(FIRST + Math.floor(address / 4096), address % 4096, bytes),
    settle: () => clock.settle(),
  };
  const driver = new NvmeDriver(host);
  driver.start();
  driver.createPair(1, QUEUE_DEPTH);
  const ring = driver.rings.get(1)!;
  const pages = Array.from({ length: 31 }, (_, page) => BigInt(DATA + (page + 1) * 4096));
  host.poke(LIST, new Uint8Array(BigUint64Array.from(pages).buffer));
  for (let slot = 0; slot < QUEUE_DEPTH; slot++) {
    const block = blocksEach === 1 ? (slot * 4099) % DISK_BLOCKS : slot * blocksEach;
    const data = blocksEach === 1 ? DATA + ((slot * 37) % 256) * 4096 : DATA;
    driver.queue(1, { opcode: 2, nsid: 1, prp1: data, prp2: LIST, dwords: [block, 0, blocksEach - 1] });
  }
  let head = 0;
  let tail = 0;
  return {
    run() {
      // One entry stays free: the ring is full with 31.
      tail = (tail + QUEUE_DEPTH - 1) % QUEUE_DEPTH;
      fn.writeRegister(0x1008, 4, tail);
      clock.settle();
      head = (head + QUEUE_DEPTH - 1) % QUEUE_DEPTH;
      fn.writeRegister(0x100c, 4, head);
      if (ring.phase !== 1 || fn.readRegister(0x1c, 4) !== 1) throw new Error('the controller has stopped');
    },
  };
}

function identity(blocksEach: number): Reader {
  const memory = new PhysicalMemory();
  memory.addRam(0, 0x10000);
  const iommu = new IommuDouble();
  for (let frame = 0; frame < FRAMES; frame++) iommu.map(frame, FIRST + frame);
  return reader(memory, iommu, new Clock(), blocksEach);
}

/** Both stages with 4 KiB leaves. */
function nested(): Rig {
  const rig = new Rig();
  const { root } = rig.nestedStream(STREAM);
  for (let frame = 0; frame < FRAMES; frame++) rig.map(root, frame, S1_LEAF | at(FIRST + frame));
  return rig;
}

/** Notes what is asked of an IOMMU. */
function recorded(iommu: Iommu): { iommu: Iommu; frames: number[]; accesses: number[] } {
  const frames: number[] = [];
  const accesses: number[] = [];
  const recording = Object.create(iommu) as Iommu;
  recording.translate = (stream, substream, frame, offset, access, requester) => {
    frames.push(frame);
    accesses.push(access);
    return iommu.translate(stream, substream, frame, offset, access, requester);
  };
  return { iommu: recording, frames, accesses };
}

function translations(blocksEach: number): () => void {
  const rig = nested();
  const { iommu, frames, accesses } = recorded(rig.smmu);
  const each = reader(rig.memory, iommu, rig.clock, blocksEach);
  frames.length = 0;
  accesses.length = 0;
  each.run();
  const count = frames.length;
  return () => {
    for (let i = 0; i < count; i++) rig.smmu.translate(STREAM, NO_SUBSTREAM, frames[i]!, 0, accesses[i]!);
  };
}

for (const [what, blocksEach] of [
  ['4 KiB at random', 1],
  ['128 KiB in a row', 32],
] as const) {
  const plain = identity(blocksEach);
  const rig = nested();
  const behind = reader(rig.memory, rig.smmu, rig.clock, blocksEach);
  const alone = translations(blocksEach);

  describe(`31 NVMe reads of ${what}`, () => {
    bench('through an identity', () => plain.run());
    bench('through nested translation', () => behind.run());
    bench('the translations of those alone', alone);
  });
}
