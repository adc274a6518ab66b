/**
 * A program that means no good: random calls on random descriptors, with structs that are noise, or a plausible command
 * with some fields turned; pointers and lengths that are wild, unaligned, or end where its memory ends. One seed, one
 * sequence of calls.
 */
import * as test from '../../src/abi/iommufd-test.ts';
import type { AnyStruct } from '../../src/abi/struct.ts';
import * as group from '../../src/abi/vfio-group.ts';
import * as type1 from '../../src/abi/vfio-type1.ts';
import type { Call, Target } from './calls.ts';
import { Dice } from './dice.ts';

/** Enough for the largest struct of any dialect with a tail behind it. */
const STRUCT_BYTES = 192;
const DESCRIPTORS = 10;

interface Command {
  readonly number: number;
  readonly struct: AnyStruct | null;
}

/** Those that no dialect lists: of containers and groups. */
const COMPATIBLE: readonly Command[] = [
  { number: type1.VFIO_GET_API_VERSION, struct: null },
  { number: type1.VFIO_CHECK_EXTENSION, struct: null },
  { number: type1.VFIO_SET_IOMMU, struct: null },
  { number: type1.VFIO_IOMMU_GET_INFO, struct: type1.Type1Info },
  { number: type1.VFIO_IOMMU_MAP_DMA, struct: type1.Type1DmaMap },
  { number: type1.VFIO_IOMMU_UNMAP_DMA, struct: type1.Type1DmaUnmap },
  { number: group.VFIO_GROUP_GET_STATUS, struct: group.GroupStatus },
  { number: group.VFIO_GROUP_SET_CONTAINER, struct: null },
  { number: group.VFIO_GROUP_UNSET_CONTAINER, struct: null },
  { number: group.VFIO_GROUP_GET_DEVICE_FD, struct: null },
];

/** Payloads of IOMMU_TEST_CMD by operation. */
const PAYLOADS: Readonly<Record<number, AnyStruct>> = {
  [test.IOMMU_TEST_OP_ADD_RESERVED]: test.TestAddReserved,
  [test.IOMMU_TEST_OP_MOCK_DOMAIN]: test.TestMockDomain,
  [test.IOMMU_TEST_OP_MD_CHECK_MAP]: test.TestCheckMap,
  [test.IOMMU_TEST_OP_MD_CHECK_REFS]: test.TestCheckRefs,
  [test.IOMMU_TEST_OP_CREATE_ACCESS]: test.TestCreateAccess,
  [test.IOMMU_TEST_OP_DESTROY_ACCESS_PAGES]: test.TestDestroyAccessPages,
  [test.IOMMU_TEST_OP_ACCESS_PAGES]: test.TestAccessPages,
  [test.IOMMU_TEST_OP_ACCESS_RW]: test.TestAccessRw,
  [test.IOMMU_TEST_OP_SET_TEMP_MEMORY_LIMIT]: test.TestMemoryLimit,
  [test.IOMMU_TEST_OP_MOCK_DOMAIN_REPLACE]: test.TestMockDomainReplace,
  [test.IOMMU_TEST_OP_ACCESS_REPLACE_IOAS]: test.TestAccessReplaceIoas,
  [test.IOMMU_TEST_OP_MOCK_DOMAIN_FLAGS]: test.TestMockDomain,
  [test.IOMMU_TEST_OP_DIRTY]: test.TestDirty,
  [test.IOMMU_TEST_OP_MD_CHECK_IOTLB]: test.TestCheckIotlb,
  [test.IOMMU_TEST_OP_TRIGGER_IOPF]: test.TestTriggerIopf,
  [test.IOMMU_TEST_OP_DEV_CHECK_CACHE]: test.TestCheckDevCache,
  [test.IOMMU_TEST_OP_TRIGGER_VEVENT]: test.TestTriggerVevent,
  [test.IOMMU_TEST_OP_PASID_ATTACH]: test.TestPasidAttach,
  [test.IOMMU_TEST_OP_PASID_REPLACE]: test.TestPasidAttach,
  [test.IOMMU_TEST_OP_PASID_DETACH]: test.TestPasidDetach,
  [test.IOMMU_TEST_OP_PASID_CHECK_HWPT]: test.TestPasidCheck,
  [test.IOMMU_TEST_OP_DMABUF_GET]: test.TestDmabufGet,
  [test.IOMMU_TEST_OP_DMABUF_REVOKE]: test.TestDmabufRevoke,
};

/** Types of the mock driver, where a dialect's header names none of them. */
const MOCK_TYPES = [0xdead, 0xdeadbeef, 0xbeefbeef, 0xfeedbeef];
const PATHS_OF_DEVICES = ['0000:01:00.0', '0000:02:00.0', '0000:09:00.0'];

export class HostileProgram {
  private readonly dice: Dice;
  private readonly target: Target;
  private readonly commands: readonly Command[];
  /** By kind of descriptor, what makes sense on it. */
  private readonly fitting: Readonly<Record<string, readonly Command[]>>;

  constructor(target: Target, seed: number) {
    this.dice = new Dice(seed);
    this.target = target;
    const { commands, vfioCommands } = target.dialect;
    const [own, vfio] = [commands, vfioCommands].map((known) =>
      Array.from(known.values(), ({ command, struct }) => ({ number: command, struct })),
    ) as [Command[], Command[]];
    // IOMMU_TEST_CMD is many commands.
    const testCommands = own.filter(({ number }) => number === test.IOMMU_TEST_CMD);
    const iommufd = [...own, ...new Array<Command[]>(18).fill(testCommands).flat(), ...COMPATIBLE.slice(0, 6)];
    this.commands = [...own, ...vfio, ...COMPATIBLE];
    this.fitting = { iommufd, 'vfio-device': vfio, 'vfio-group': COMPATIBLE.slice(6) };
  }

  /** The next call, by what is open now. */
  next(): Call {
    const { dice } = this;
    const open = this.target.descriptors;
    if (open.length === 0) return { open: this.target.paths[0]! };
    if (open.length < 3) return { open: this.path() };
    const roll = dice.below(100);
    const fd = dice.pick(open);
    if (roll < 82) return this.ioctl(fd);
    if (roll < 92) return this.transfer(fd);
    if (roll < 93) return { poll: fd };
    if (roll < 95) return this.mmap(fd);
    if (roll < 97 && this.target.mapped) return this.access();
    return open.length >= DESCRIPTORS ? { close: fd } : { open: this.path() };
  }

  /** The order in which descriptors go with the program. */
  shuffle(fds: number[]): number[] {
    return fds.sort(() => this.dice.below(3) - 1);
  }

  /** Mostly a device, seldom a file of /proc. */
  private path(): string {
    const { paths } = this.target;
    const devices = paths.filter((path) => path.startsWith('/dev/'));
    return this.dice.pick(this.dice.chance(90) ? devices : paths);
  }

  private ioctl(fd: number): Call {
    const { dice } = this;
    const kind = this.target.program.file(fd).kind;
    const command = dice.pick((dice.chance(90) && this.fitting[kind]) || this.commands);
    const number = dice.chance(94) ? command.number : dice.chance(50) ? 0x3b00 + dice.below(256) : dice.word();
    const bytes = new Uint8Array(STRUCT_BYTES);
    this.noise(bytes, dice.chance(70) ? 0 : dice.chance(70) ? 6 : 100);
    if (command.struct && dice.chance(95)) this.plausible(bytes, command.struct);
    if (number === group.VFIO_GROUP_GET_DEVICE_FD && dice.chance(80))
      bytes.set(Buffer.from(`${dice.pick(PATHS_OF_DEVICES)}\0`));
    if (number === group.VFIO_GROUP_SET_CONTAINER && dice.chance(80)) bytes.set([dice.below(DESCRIPTORS), 0, 0, 0]);
    const address = command.struct || dice.chance(70) ? this.addressOf(bytes) : BigInt(dice.below(12));
    const call = { ioctl: fd, number, address, bytes: Buffer.from(bytes).toString('hex') };
    return dice.chance(4) ? { ...call, fails: 1 + dice.below(6) } : call;
  }

  private addressOf(bytes: Uint8Array): bigint {
    return this.dice.chance(94) ? this.own(bytes.length) : this.wild();
  }

  /** Each field on its own: mostly what such a field may hold, sometimes not. */
  private plausible(bytes: Uint8Array, layout: AnyStruct): void {
    const { dice } = this;
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    for (const [name, { offset, bytes: length }] of Object.entries(layout.fields)) {
      if (dice.chance(5) || offset + length > bytes.length) continue;
      const value = this.fieldValue(name, layout);
      if (length === 8) view.setBigUint64(offset, BigInt.asUintN(64, value), true);
      else if (length === 4) view.setUint32(offset, Number(value & 0xffff_ffffn), true);
      else if (length === 2) view.setUint16(offset, Number(value & 0xffffn), true);
      else if (name.startsWith('reserved')) bytes.fill(0, offset, offset + length);
    }
    if (layout !== test.TestCmd) return;
    const op = dice.chance(95) ? 1 + dice.below(23) : dice.word();
    view.setUint32(4, op, true);
    const payload = PAYLOADS[op];
    if (payload) this.plausible(bytes.subarray(test.TEST_PAYLOAD_OFFSET, test.TEST_PAYLOAD_OFFSET + 48), payload);
  }

  private fieldValue(name: string, layout: AnyStruct): bigint {
    const { dice } = this;
    const { format, bytes: length } = layout.fields[name]!;
    if (name === 'size' && 'vaddr' in layout.fields) return this.someLength();
    if ((name === 'size' && length === 4) || name === 'argsz') {
      return BigInt(dice.chance(92) ? layout.size : dice.below(STRUCT_BYTES));
    }
    if (name.startsWith('reserved')) return 0n;
    if (format === 'id') return BigInt(dice.below(20));
    if (format === 'fd') return BigInt(dice.chance(80) ? 3 + dice.below(DESCRIPTORS) : 1000 + dice.below(5));
    if (/uptr|userVa|vaddr|data$|allowedIovas|Ptr/i.test(name) && length === 8) return this.own(4096);
    if (format === 'address') return BigInt(dice.below(64)) * 0x1000n + 0x100_0000n;
    if (/length|size/i.test(name) && length === 8) return this.someLength();
    if (format === 'length') return BigInt(dice.pick([0, 8, 12, 16, 24, 0x1000, 0x2000]));
    if (typeof format === 'object' && 'names' in format) {
      const known = Object.values(format.names);
      return BigInt(dice.pick(dice.chance(60) ? known : [...known, ...MOCK_TYPES]) >>> 0);
    }
    if (typeof format === 'object')
      return BigInt(dice.pick([0, ...Object.values(format.flags)]) | (dice.chance(40) ? 6 : 0));
    return BigInt(dice.below(4));
  }

  private someLength(): bigint {
    const { dice } = this;
    return dice.chance(5) ? this.wild() : BigInt(1 + dice.below(32)) * 0x1000n;
  }

  /** Often a whole BAR, or the whole of what a vIOMMU offers. */
  private mmap(fd: number): Call {
    const { dice } = this;
    const length = dice.chance(60) ? dice.pick([0x1000n, 0x2000n, 0x4000n, 0x10000n]) : this.wild();
    const at = dice.chance(60) ? BigInt(dice.below(12)) * 0x1000n : this.wild();
    return { mmap: fd, length, protection: dice.chance(60) ? 3 : dice.below(8), flags: dice.below(4), at };
  }

  /** Of mapped registers. Who traps it sees to it that it is in the mapping. */
  private access(): Call {
    const { dice } = this;
    const index = dice.below(this.target.mapped);
    const count = dice.pick([1, 2, 4, 8, 16]);
    const at = dice.chance(70) ? dice.below(0x100) : dice.below(0x1000 - 16);
    if (dice.chance(40)) return { load: index, at, count };
    const bytes = new Uint8Array(count);
    this.noise(bytes, 40);
    return { store: index, at, bytes: Buffer.from(bytes).toString('hex') };
  }

  private transfer(fd: number): Call {
    const { dice } = this;
    const region = BigInt(dice.below(12)) << 40n;
    const at = dice.chance(40) ? null : dice.chance(85) ? region + BigInt(dice.below(0x5000)) : this.wild();
    const count = dice.chance(85) ? dice.below(16) * dice.pick([1, 8, 40]) : dice.pick([4096, 2 ** 31 - 4096, 2 ** 46]);
    const rest = { address: dice.chance(90) ? this.own(640) : this.wild(), count, at };
    return dice.chance(50) ? { write: fd, ...rest } : { read: fd, ...rest };
  }

  private noise(bytes: Uint8Array, percent: number): void {
    for (let i = 0; i < bytes.length; i++) if (this.dice.chance(percent)) bytes[i] = this.dice.word();
  }

  /** An address with `room` bytes of the program's memory behind it, often unaligned; sometimes with too little room. */
  private own(room: number): bigint {
    const { dice } = this;
    const { base, memory } = this.target.program;
    if (dice.chance(3)) return base + BigInt(memory.bytes.length - dice.below(room));
    const page = dice.below(200) * 4096;
    return base + BigInt(page + (dice.chance(30) ? dice.below(4096 - (room % 4096)) : 0));
  }

  private wild(): bigint {
    const { dice } = this;
    const powers = [0n, 1n, 4095n, 2n ** 31n, 2n ** 47n - 1n, 2n ** 47n, 2n ** 53n, 2n ** 63n];
    const edges = [...powers, 2n ** 64n - 4096n, 2n ** 64n - 1n];
    return dice.chance(60) ? dice.pick(edges) : (BigInt(dice.word()) << 32n) | BigInt(dice.word());
  }
}
