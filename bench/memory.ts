/**
 * What a mapped page costs beyond the page table itself, in bytes: 1 GiB scattered page by page (each run a map() of its
 * own), and 64 GiB of 1 GiB blocks. Prints one JSON object. Run with --expose-gc.
 */
import { dialect } from '../src/abi/dialects.ts';
import {
  HwptAlloc,
  IOMMU_HWPT_ALLOC,
  IOMMU_IOAS_ALLOC,
  IOMMU_IOAS_MAP,
  IoasAlloc,
  IoasMap,
} from '../src/abi/iommufd.ts';
import { DeviceBindIommufd, VFIO_DEVICE_BIND_IOMMUFD } from '../src/abi/vfio.ts';
import { Machine } from '../src/host/machine.ts';
import { parseMachine } from '../src/host/machine-description.ts';
import { preset } from '../src/host/presets.ts';
import { BufferMemory, TestProcess } from '../src/iommufd/testing.ts';
import { ownPages } from '../src/memory/process-memory.ts';

const GiB = 2 ** 30;

/** Memory that is there, but only where structs are: pages are mapped, never touched. */
class Sparse extends BufferMemory {
  override resolve(address: number, length: number) {
    return ownPages(this, address, length);
  }
}

function used(): number {
  globalThis.gc!();
  globalThis.gc!();
  const { heapUsed, arrayBuffers } = process.memoryUsage();
  return heapUsed + arrayBuffers;
}

function perPage(presetName: string, gibibytes: number): number {
  const machine = new Machine(parseMachine(preset(presetName).machine), { dialect: dialect('linux-7.1') });
  const memory = new Sparse(0x1000, 0x1000);
  const program = new TestProcess(memory);
  const open = (path: string) => {
    const file = machine.open(path);
    return { file, fd: program.openFd(file) as number };
  };
  const call = <T extends { bytes: Uint8Array }>(file: ReturnType<Machine['open']>, command: number, s: T): T => {
    memory.write(0x1000, s.bytes);
    file.ioctl(program, command, 0x1000n);
    memory.read(0x1000, s.bytes);
    return s;
  };
  const iommu = open('/dev/iommu');
  const device = open('/dev/vfio/devices/vfio0');
  const bound = Object.assign(new DeviceBindIommufd(), { argsz: DeviceBindIommufd.size, iommufd: iommu.fd });
  const devId = call(device.file, VFIO_DEVICE_BIND_IOMMUFD, bound).outDevid;
  const ioas = call(iommu.file, IOMMU_IOAS_ALLOC, Object.assign(new IoasAlloc(), { size: IoasAlloc.size })).outIoasId;
  const hwpt = Object.assign(new HwptAlloc(), { size: HwptAlloc.size, devId, ptId: ioas });
  call(iommu.file, IOMMU_HWPT_ALLOC, hwpt);
  const tables = machine.leftovers().tableFrames!;
  const before = used();
  call(
    iommu.file,
    IOMMU_IOAS_MAP,
    Object.assign(new IoasMap(), {
      size: IoasMap.size,
      flags: 7,
      ioasId: ioas,
      userVa: BigInt(64 * GiB),
      length: BigInt(gibibytes * GiB),
      iova: BigInt(64 * GiB),
    }),
  );
  const grown = used() - before - (machine.leftovers().tableFrames! - tables) * 4096;
  program.closeFd(device.fd);
  program.closeFd(iommu.fd);
  return grown / ((gibibytes * GiB) / 4096);
}

perPage('two-smmus-fragmented', 1); // code is compiled once
console.log(JSON.stringify({ scattered: perPage('two-smmus-fragmented', 1), blocks: perPage('two-smmus', 64) }));
