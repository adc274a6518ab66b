/** This process as the program: real system calls, through the C library, and so through a preloaded shim. */
import koffi from 'koffi';
import { IOMMU_TEST_CMD, TestCmd } from '../../src/abi/iommufd-test.ts';
import {
  Iommufd,
  IommufdV2,
  koffiSystem,
  OPEN_FLAGS,
  type System,
  type UserMemory,
  VfioDevice,
} from '../../src/client/index.ts';
import { type Mapped, MEMFD_BYTES, type Need, type Program } from './program.ts';
import { errnoOf } from './suite.ts';

const PAGE = 4096;
const EFD_NONBLOCK = 0o4000;
const PROT_NONE = 0;
const PROT_READ = 1;
const TIMEOUT_NONE = 0;
const RLIMIT_NOFILE = 7;
const SMMUV3 = 2;
const CMDQV_INFO = 3;
const V2_CMDQV = 1;
const NEST_PARENT = 1;
const CONFIG_SPACE = 7n << 40n;
/** Vendor 8086, device 2021: the machine's copy engine. */
const IOAT = 0x2021_8086;
/** 1b36:0d3a: its device that touches what it is told to. */
const DMA_PROBE = 0x0d3a_1b36;

const library = koffi.load(null);
const system = koffiSystem(koffi);
const mmap = library.func('void *mmap(void *at, size_t length, int protection, int flags, int fd, int64_t offset)');
const munmap = library.func('int munmap(void *address, size_t length)');
const mprotect = library.func('int mprotect(uint64_t address, size_t length, int protection)');
const memfdCreate = library.func('int memfd_create(const char *name, unsigned int flags)');
const eventfd = library.func('int eventfd(unsigned int count, int flags)');
const ftruncate = library.func('int ftruncate(int fd, int64_t length)');
const poll = library.func('int poll(uint64_t descriptors, unsigned long count, int timeout)');
const getrlimit = library.func('int getrlimit(int resource, uint64_t limit)');
const setrlimit = library.func('int setrlimit(int resource, uint64_t limit)');

/** Why there is nothing to run on, in a sentence; null when there is. */
export function whyNot(): string | null {
  const fd = system.open('/dev/iommu', 2);
  if (fd >= 0) system.close(fd);
  return fd < 0 ? `/dev/iommu cannot be opened (errno ${-fd})` : null;
}

/** @param release what the /dev/iommu of this process speaks */
export async function nativePrograms(release: 'linux-7.1' | 'viommu-v2'): Promise<() => Program> {
  const has = new Set<Need>([release]);
  if (release === 'linux-7.1' && (await hasTestCommand())) has.add('mock');
  else if (await hasSmmus()) {
    has.add('smmuv3');
    if (await hasProbes()) has.add('groups');
    if (await hasCmdqv(release)) has.add('cmdqv');
  }
  return () => new NativeProgram(has);
}

async function hasTestCommand(): Promise<boolean> {
  const iommufd = Iommufd.open(system);
  const errno = await errnoOf(() => iommufd.call(IOMMU_TEST_CMD, TestCmd));
  iommufd.close();
  return errno === 'EOPNOTSUPP';
}

/** Nothing else is told to make DMA: what a register of another device does, who knows? */
async function hasSmmus(): Promise<boolean> {
  const iommufd = Iommufd.open(system);
  const devices: VfioDevice[] = [];
  try {
    for (const n of [0, 1]) {
      const device = VfioDevice.open(system, `/dev/vfio/devices/vfio${n}`);
      devices.push(device);
      const { outDevid: devId } = await device.bindIommufd({ iommufd: iommufd.fd });
      if ((await iommufd.getHwInfo({ devId })).outDataType !== SMMUV3) return false;
      if ((await identityOf(device)) !== IOAT) return false;
    }
    return true;
  } catch {
    return false;
  } finally {
    for (const file of [...devices, iommufd]) file.close();
  }
}

async function identityOf(device: VfioDevice): Promise<number> {
  return new DataView((await device.read(4, CONFIG_SPACE)).buffer).getUint32(0, true);
}

/** No other device of this identity exists: where it is, the rest is as in the suite's machine. */
async function hasProbes(): Promise<boolean> {
  const fd = system.open('/dev/vfio/devices/vfio4', OPEN_FLAGS);
  if (fd < 0) return false;
  const [iommufd, device] = [Iommufd.open(system), new VfioDevice(system, fd)];
  try {
    await device.bindIommufd({ argsz: 16, iommufd: iommufd.fd });
    return (await identityOf(device)) === DMA_PROBE;
  } finally {
    for (const file of [device, iommufd]) file.close();
  }
}

/** GET_HW_INFO tells, where it has a type for that; elsewhere only a vIOMMU does. */
async function hasCmdqv(release: 'linux-7.1' | 'viommu-v2'): Promise<boolean> {
  const iommufd = release === 'viommu-v2' ? IommufdV2.open(system) : Iommufd.open(system);
  const device = VfioDevice.open(system, '/dev/vfio/devices/vfio0');
  try {
    const { outDevid: devId } = await device.bindIommufd({ argsz: 16, iommufd: iommufd.fd });
    if (iommufd instanceof Iommufd) await iommufd.getHwInfo({ devId, flags: 1, inDataType: CMDQV_INFO });
    else {
      const { outIoasId: ptId } = await iommufd.ioasAlloc();
      const { outHwptId: hwptId } = await iommufd.hwptAlloc({ devId, ptId, flags: NEST_PARENT });
      await iommufd.viommuAlloc({ type: V2_CMDQV, devId, hwptId });
    }
    return true;
  } catch {
    return false;
  } finally {
    for (const file of [device, iommufd]) file.close();
  }
}

class NativeProgram implements Program {
  readonly has: ReadonlySet<Need>;
  readonly open: System['open'];
  readonly close: System['close'];
  readonly ioctl: System['ioctl'];
  readonly read: System['read'];
  readonly write: System['write'];
  readonly pread: System['pread'];
  readonly pwrite: System['pwrite'];
  private readonly allocated: Set<UserMemory>;

  constructor(has: ReadonlySet<Need>) {
    this.has = has;
    ({ open: this.open, close: this.close, ioctl: this.ioctl } = system);
    ({ read: this.read, write: this.write, pread: this.pread, pwrite: this.pwrite } = system);
    this.allocated = new Set();
  }

  allocate(length: number): UserMemory {
    const memory = system.allocate(length);
    this.allocated.add(memory);
    return memory;
  }

  release(memory: UserMemory): void {
    if (this.allocated.delete(memory)) system.release(memory);
  }

  readOnly(bytes: Uint8Array): UserMemory {
    const memory = this.allocate(PAGE);
    memory.bytes.set(bytes);
    mprotect(memory.address, PAGE, PROT_READ);
    return memory;
  }

  edge(length: number): UserMemory {
    const memory = this.allocate(2 * PAGE);
    mprotect(memory.address + BigInt(PAGE), PAGE, PROT_NONE);
    return { address: memory.address + BigInt(PAGE - length), bytes: memory.bytes.subarray(PAGE - length, PAGE) };
  }

  memfd(): number {
    const fd = memfdCreate('conformance', 0);
    ftruncate(fd, Number(MEMFD_BYTES));
    return fd;
  }

  eventfd(): number {
    return eventfd(0, EFD_NONBLOCK);
  }

  mmap(fd: number, length: number, protection: number, flags: number, offset: bigint): Mapped {
    const address = mmap(null, length, protection, flags, fd, offset);
    const failed = BigInt.asIntN(64, BigInt(address)) === -1n;
    return failed ? { result: -koffi.errno(), unmap: () => {} } : { result: 0, unmap: () => munmap(address, length) };
  }

  poll(fd: number): number {
    const memory = this.allocate(8);
    const view = new DataView(memory.bytes.buffer);
    view.setInt32(0, fd, true);
    view.setInt16(4, 0x7fff, true);
    poll(memory.address, 1, TIMEOUT_NONE);
    const { POLLIN, POLLOUT } = { POLLIN: 1, POLLOUT: 4 };
    return view.getInt16(6, true) & (POLLIN | POLLOUT);
  }

  async withoutDescriptors<T>(call: () => Promise<T>): Promise<T> {
    const { address, bytes } = this.allocate(16);
    getrlimit(RLIMIT_NOFILE, address);
    const before = bytes.slice();
    new DataView(bytes.buffer, bytes.byteOffset).setBigUint64(0, 0n, true);
    setrlimit(RLIMIT_NOFILE, address);
    try {
      return await call();
    } finally {
      bytes.set(before);
      setrlimit(RLIMIT_NOFILE, address);
    }
  }

  limit(): never {
    throw new Error('the limits of this process stay as they are');
  }

  end(): readonly string[] {
    for (const memory of [...this.allocated]) this.release(memory);
    return [];
  }
}
