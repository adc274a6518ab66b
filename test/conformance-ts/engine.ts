/** Programs on the engine in this process. */
import { dialect } from '../../src/abi/dialects.ts';
import { ERRNO, Errno, fail } from '../../src/abi/errno.ts';
import type { UserMemory } from '../../src/client/index.ts';
import { Machine } from '../../src/host/machine.ts';
import { type MachineInput, parseMachine } from '../../src/host/machine-description.ts';
import { MockMachine } from '../../src/host/mock-machine.ts';
import { preset } from '../../src/host/presets.ts';
import type { EventFd, OpenFile } from '../../src/iommufd/file.ts';
import { BufferMemory, FakeFile, LimitedAccount, TestProcess } from '../../src/iommufd/testing.ts';
import { notMemory, type PageSource } from '../../src/memory/process-memory.ts';
import { withCmdqv } from '../host/cmdqv.ts';
import { CountingEventFd, type MutableMachine } from '../host/program.ts';
import type { Mapped, Need, Program } from './program.ts';

const PAGE = 4096;
const MEMORY_BYTES = 0x20_0000;
const MEMORY_BASE = 0x20_0000_0000;
const FIRST_MEMFD = 1000;
const FIRST_EVENTFD = 2000;
const EBADF = -ERRNO.EBADF;
const EAGAIN = -ERRNO.EAGAIN;

type ServedMachine = Machine | MockMachine;

export interface EngineChoice {
  readonly machine: string;
  readonly abi: string;
  /** With a CMDQV in front of each SMMU. */
  readonly cmdqv?: boolean;
}

/** 'two-smmus with CMDQVs, linux-7.1' */
export const choiceText = ({ machine, abi, cmdqv = false }: EngineChoice): string =>
  `${machine}${cmdqv ? ' with CMDQVs' : ''}, ${abi}`;

/** Makes programs, one after the other, on one machine. */
export function engine(choice: EngineChoice): () => Program {
  let machine = makeMachine(choice);
  let pid = 100;
  return () => {
    // What a failed case left behind is not for the next one.
    if (leftovers(machine).length) machine = makeMachine(choice);
    return new EngineProgram(machine, pid++);
  };
}

export function makeMachine({ machine: name, abi, cmdqv }: EngineChoice): ServedMachine {
  if (name === 'mock') return new MockMachine({ dialect: dialect(abi) });
  const text = structuredClone(preset(name).machine) as MutableMachine & MachineInput;
  if (cmdqv) withCmdqv(text);
  else withGroups(text);
  return new Machine(parseMachine(text), { dialect: dialect(abi) });
}

/**
 * What the need 'groups' names: vfio2 and vfio3 in one group, vfio4 beside them on the bus with a BAR that cannot be mapped.
 */
function withGroups({ iommus, functions }: MutableMachine): void {
  iommus[1]!.httu = 2;
  const { iommu } = functions[0]!;
  const probe = { iommu, model: 'dma-probe', pasidBits: 4 };
  functions.push({ ...probe, bdf: '0000:03:00.0', acs: false });
  functions.push({ ...probe, bdf: '0000:03:00.1', acs: false });
  functions.push({ ...probe, bdf: '0000:03:00.2', mmap: false });
}

const leftovers = (machine: ServedMachine): string[] =>
  Object.entries(machine.leftovers())
    .filter(([, count]) => count !== 0)
    .map(([resource, count]) => `${count} ${resource}`);

/** The errnos of what was refused, for whoever wants to know where they come from. */
export const refusals: Errno[] = [];

class EventProcess extends TestProcess {
  readonly eventFds = new Map<number, CountingEventFd>();

  override eventFd(fd: number): EventFd {
    const found = this.eventFds.get(fd);
    if (!found) throw fail(this.memoryFile(fd) ? 'EINVAL' : 'EBADF', `descriptor ${fd} is not an eventfd`);
    found.held++;
    return found;
  }

  override memoryFile(fd: number): PageSource | null {
    return this.eventFds.has(fd) ? notMemory('an eventfd') : super.memoryFile(fd);
  }
}

class EngineProgram implements Program {
  readonly has: ReadonlySet<Need>;
  private readonly machine: ServedMachine;
  private readonly process: EventProcess;
  private used: number;

  constructor(machine: ServedMachine, pid: number) {
    this.machine = machine;
    this.process = new EventProcess(new BufferMemory(MEMORY_BASE, MEMORY_BYTES, `program ${pid}`), pid);
    this.used = 0;
    const devices: Need[] = machine instanceof MockMachine ? ['mock'] : ['smmuv3'];
    if (machine instanceof Machine) devices.push(machine.iommus[0]?.cmdqv ? 'cmdqv' : 'groups');
    const release: Need = machine.dialect.name === 'viommu-v2' ? 'viommu-v2' : 'linux-7.1';
    this.has = new Set([...devices, release, 'limits']);
  }

  open(path: string, flags: number): number {
    return this.refusable(() => {
      const { machine, process } = this;
      const file = machine instanceof MockMachine ? machine.open(path, flags, process) : machine.open(path);
      return process.openFd(file) as number;
    });
  }

  close(fd: number): number {
    const { memoryFiles, eventFds } = this.process;
    if (!memoryFiles.delete(fd) && !eventFds.has(fd)) this.process.closeFd(fd);
    this.machine.settle();
    return 0;
  }

  async ioctl(fd: number, command: number, argument: bigint): Promise<number> {
    const file = this.process.fileOf(fd);
    if (!file) return EBADF;
    try {
      return await file.ioctl(this.process, command, argument);
    } catch (error) {
      return refused(error);
    } finally {
      this.machine.settle();
    }
  }

  read(fd: number, address: bigint, count: number): number {
    const event = this.process.eventFds.get(fd);
    if (event) return this.takeCount(event, address);
    return this.onFile(fd, (file) => file.read(this.process, address, count, null));
  }

  write(fd: number, address: bigint, count: number): number {
    const event = this.process.eventFds.get(fd);
    if (event) return this.signal(event, count);
    return this.onFile(fd, (file) => file.write(this.process, address, count, null));
  }

  pread(fd: number, address: bigint, count: number, position: bigint): number {
    return this.onFile(fd, (file) => file.read(this.process, address, count, position));
  }

  pwrite(fd: number, address: bigint, count: number, position: bigint): number {
    return this.onFile(fd, (file) => file.write(this.process, address, count, position));
  }

  allocate(length: number): UserMemory {
    const start = this.used;
    this.used += Math.ceil(length / PAGE) * PAGE;
    if (this.used > MEMORY_BYTES - PAGE) throw new Error('the program has no memory left');
    return this.at(start, length);
  }

  release(): void {}

  readOnly(bytes: Uint8Array): UserMemory {
    const memory = this.allocate(bytes.length);
    memory.bytes.set(bytes);
    this.process.memory.protect(Number(memory.address), PAGE);
    return memory;
  }

  edge(length: number): UserMemory {
    return this.at(MEMORY_BYTES - length, length);
  }

  memfd(): number {
    const { memoryFiles } = this.process;
    const fd = FIRST_MEMFD + memoryFiles.size;
    memoryFiles.set(fd, new FakeFile());
    return fd;
  }

  eventfd(): number {
    const { eventFds } = this.process;
    const fd = FIRST_EVENTFD + eventFds.size;
    eventFds.set(fd, new CountingEventFd());
    return fd;
  }

  mmap(fd: number, length: number, protection: number, flags: number, offset: bigint): Mapped {
    let unmap = (): void => {};
    const result = this.onFile(fd, (file) => {
      const mapping = file.mmap(this.process, BigInt(length), protection, flags, offset);
      unmap = () => mapping.ended();
      return 0;
    });
    return { result, unmap };
  }

  poll(fd: number): number {
    return this.process.fileOf(fd)!.pollMask;
  }

  async withoutDescriptors<T>(call: () => Promise<T>): Promise<T> {
    this.process.onOpen = () => {
      throw fail('EMFILE', 'no descriptor is left');
    };
    try {
      return await call();
    } finally {
      this.process.onOpen = null;
    }
  }

  limit(pages: number): void {
    this.process.account = new LimitedAccount(pages);
  }

  end(): readonly string[] {
    for (const fd of [...this.process.files.keys()]) this.close(fd);
    const held = [...this.process.eventFds.values()].reduce((sum, event) => sum + event.held, 0);
    return [...leftovers(this.machine), ...(held ? [`${held} eventfds`] : [])];
  }

  private takeCount(event: CountingEventFd, address: bigint): number {
    if (event.count === 0) return EAGAIN;
    this.process.memory.write(Number(address), new Uint8Array(BigUint64Array.of(BigInt(event.count)).buffer));
    event.count = 0;
    return 8;
  }

  private signal(event: CountingEventFd, count: number): number {
    event.signal();
    this.machine.settle();
    return count;
  }

  private at(start: number, length: number): UserMemory {
    const { base, bytes } = this.process.memory;
    return { address: BigInt(base + start), bytes: bytes.subarray(start, start + length) };
  }

  private onFile(fd: number, call: (file: OpenFile) => number): number {
    const file = this.process.fileOf(fd);
    return file ? this.refusable(() => call(file)) : EBADF;
  }

  private refusable(call: () => number): number {
    try {
      return call();
    } catch (error) {
      return refused(error);
    } finally {
      this.machine.settle();
    }
  }
}

function refused(error: unknown): number {
  if (!(error instanceof Errno)) throw error;
  refusals.push(error);
  return -error.errno;
}
