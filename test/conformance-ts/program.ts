/** The program that makes the calls: on the engine in this process, or on the real system calls of this process. */
import type { System, UserMemory } from '../../src/client/index.ts';

/** What a case may need of where it runs. */
export const NEEDS = {
  mock: 'IOMMU_TEST_CMD',
  smmuv3: 'two VFIO devices (IOAT) behind two SMMUv3',
  groups: "the suite's own machine: DMA probes on bus 03 (vfio2 to vfio4), and an SMMU that tracks writes (of vfio1)",
  cmdqv: 'a Tegra241 CMDQV in front of the first SMMUv3',
  'linux-7.1': 'the commands of Linux 7.1',
  'viommu-v2': 'the dialect viommu-v2',
  limits: 'a program without CAP_IPC_LOCK, whose RLIMIT_MEMLOCK can be set',
} as const;

export type Need = keyof typeof NEEDS;

/** Length of every memfd. */
export const MEMFD_BYTES = 0x10000n;

export interface Mapped {
  /** 0, or a negative errno. */
  readonly result: number;
  unmap(): void;
}

/** What cases need of the system beyond what the client does. */
export interface Program extends System {
  readonly has: ReadonlySet<Need>;
  /** Memory that can be read only, but holds `bytes`. */
  readOnly(bytes: Uint8Array): UserMemory;
  /** Memory directly behind which there is none. */
  edge(length: number): UserMemory;
  /** A new descriptor of shared memory, MEMFD_BYTES long. */
  memfd(): number;
  /** A new eventfd, which does not block. */
  eventfd(): number;
  mmap(fd: number, length: number, protection: number, flags: number, offset: bigint): Mapped;
  /** Events of poll(2) that are there now. */
  poll(fd: number): number;
  /** Makes a call when the program can open no further descriptor. */
  withoutDescriptors<T>(call: () => Promise<T>): Promise<T>;
  /** Sets RLIMIT_MEMLOCK, in pages. */
  limit(pages: number): void;
  /** Ends the program with all that it has open. @returns what is left of it in the engine: names of counts */
  end(): readonly string[];
}
