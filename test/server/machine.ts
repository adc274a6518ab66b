/**
 * A tiny machine for the server's tests: two device nodes whose ioctls try what a handler may do with its caller, and
 * queues whose readiness is theirs to change. `alive` counts files that have not been released.
 */
import { fail } from '../../src/abi/errno.ts';
import type { ClientProcess, EventFd, OpenFile } from '../../src/iommufd/file.ts';
import { POLLIN, POLLOUT } from '../../src/iommufd/file.ts';
import type { DeviceNode, ServedMachine, SysfsEntry } from '../../src/server/served-machine.ts';

/** Commands of /dev/toy/*, as in client.h. */
const ECHO = 0x4001;
const INCREMENT = 0x4002;
const OPEN_QUEUE = 0x4003;
const SLOW = 0x4004;
const KEEP_EVENT = 0x4005;
const SIGNAL_EVENT = 0x4006;
const DROP_EVENT = 0x4007;
const KIND_OF = 0x4008;
const PUSH = 0x4009;
const FORGET = 0x4012;
const BREAK = 0x400a;
const LIVE_QUEUES = 0x400b;
const OPEN_THEN_FAIL = 0x400c;
const PINNABLE = 0x400d;
const WATCH_EVENT = 0x4010;
const SIGNALS = 0x4011;

const RECORD_BYTES = 8;

export class TestMachine implements ServedMachine {
  readonly deviceNodes: readonly DeviceNode[] = [
    { path: '/dev/toy/a', major: 240, minor: 7, mode: 0o660 },
    { path: '/dev/toy/b', major: 240, minor: 300 },
  ];
  readonly sysfs: readonly SysfsEntry[] = [
    { path: '/sys/devices/toy0/vendor', kind: 'file', content: '0x8086\n' },
    { path: '/sys/devices/toy0/empty', kind: 'dir' },
    { path: '/sys/devices/toy0/bus', kind: 'link', target: '/sys/bus/toy' },
    { path: '/sys/bus/toy/devices/0000:01:00.0', kind: 'link', target: '../../../devices/toy0' },
  ];
  readonly ownedRoots = ['/dev/toy', '/sys/bus/toy', '/sys/devices/toy0'];
  alive = 0;
  readonly events: EventFd[] = [];
  /** How often a watched event fd was signalled. */
  signals = 0;
  readonly queues = new Set<QueueFile>();
  settled = 0;
  /** Calls of settle() that it takes until there is nothing more to do. */
  slices = 0;

  open(path: string, flags: number, _caller: ClientProcess): OpenFile {
    if (flags & 0o1000) throw fail('EBUSY', `${path} is never truncated`);
    const node = this.deviceNodes.find((n) => n.path === path)!;
    return new ToyFile(this, node);
  }

  settle(): boolean {
    this.settled++;
    return this.slices === 0 || --this.slices === 0;
  }
}

/** Shared memory of 64 bytes behind read and write; commands behind ioctl. */
class ToyFile implements OpenFile {
  readonly kind = 'toy';
  readonly pollMask = POLLIN | POLLOUT;
  onPollChange: (() => void) | null = null;
  private readonly bytes = new Uint8Array(64);
  private readonly machine: TestMachine;
  readonly device: DeviceNode;

  constructor(machine: TestMachine, device: DeviceNode) {
    this.machine = machine;
    this.device = device;
    machine.alive++;
  }

  ioctl(caller: ClientProcess, command: number, arg: bigint): number | Promise<number> {
    const n = Number(arg);
    switch (command) {
      case ECHO:
        return n & 0x7fffffff;
      case INCREMENT:
        return this.increment(caller, n);
      case OPEN_QUEUE:
        return this.openQueue(caller, n);
      case SLOW:
        return new Promise((resolve) => setTimeout(() => resolve(n), n));
      case KEEP_EVENT:
        return this.keep(caller, Number(BigInt.asIntN(32, arg)));
      case SIGNAL_EVENT:
        for (let i = 0; i < n; i++) this.machine.events[0]!.signal();
        return 0;
      case WATCH_EVENT:
        return this.keep(caller, Number(BigInt.asIntN(32, arg))).then(() => this.watchLast());
      case SIGNALS:
        return this.machine.signals;
      case DROP_EVENT:
        this.machine.events.pop()?.release();
        return 0;
      case KIND_OF:
        return ['toy', 'queue'].indexOf(caller.fileOf(Number(BigInt.asIntN(32, arg)))?.kind ?? '');
      case PUSH:
        for (const queue of this.machine.queues) queue.push(n);
        return this.machine.queues.size;
      case FORGET:
        for (const queue of this.machine.queues) queue.forget();
        return 0;
      case LIVE_QUEUES:
        return this.machine.queues.size;
      case OPEN_THEN_FAIL:
        return this.openThenFail(caller);
      case PINNABLE:
        return this.pinnable(caller, n);
      case BREAK:
        throw new TypeError('an invariant of ours is broken');
      default:
        throw fail('ENOTTY', `${command} is no command of a toy`);
    }
  }

  read(caller: ClientProcess, address: bigint, count: number, position: bigint | null): number {
    const at = Number(position ?? 0n);
    if (at > 64) throw fail('ESPIPE', `position ${at} is beyond 64`);
    const bytes = this.bytes.subarray(at, at + count);
    if (!caller.memory.write(Number(address), bytes)) throw fail('EFAULT', `${address} cannot be written`);
    return bytes.length;
  }

  write(caller: ClientProcess, address: bigint, count: number, position: bigint | null): number {
    const bytes = this.bytes.subarray(Number(position ?? 0n), Number(position ?? 0n) + count);
    if (!caller.memory.read(Number(address), bytes)) throw fail('EFAULT', `${address} cannot be read`);
    return bytes.length;
  }

  mmap(_caller: ClientProcess, length: bigint): never {
    throw fail(length === 4096n ? 'ENODEV' : 'EINVAL', 'a toy cannot be mapped');
  }

  release(): void {
    this.machine.alive--;
  }

  private increment(caller: ClientProcess, address: number): number {
    const word = new Uint32Array(1);
    const bytes = new Uint8Array(word.buffer);
    if (!caller.memory.read(address, bytes)) throw fail('EFAULT', `${address} cannot be read`);
    word[0]!++;
    if (!caller.memory.write(address, bytes)) throw fail('EFAULT', `${address} cannot be written`);
    return 0;
  }

  private async keep(caller: ClientProcess, fd: number): Promise<number> {
    this.machine.events.push(await caller.eventFd(fd));
    return 0;
  }

  private watchLast(): number {
    this.machine.events.at(-1)!.watch(() => {
      this.machine.signals++;
    });
    return 0;
  }

  private async openQueue(caller: ClientProcess, flags: number): Promise<number> {
    const queue = new QueueFile(this.machine);
    try {
      return await caller.openFd(queue, flags);
    } catch (error) {
      queue.release();
      throw error;
    }
  }

  private async openThenFail(caller: ClientProcess): Promise<number> {
    const fd = await this.openQueue(caller, 0);
    await caller.closeFd(fd);
    throw fail('ENOSPC', `queue ${fd} is taken back`);
  }

  /** The struct at `address`: address, length, writable, 64 bits each. */
  private pinnable(caller: ClientProcess, address: number): number {
    const words = new BigUint64Array(3);
    caller.memory.read(address, new Uint8Array(words.buffer));
    const [from, length, writable] = words;
    return caller.memory.resolve(Number(from), Number(length), writable === 1n) ? 1 : 0;
  }
}

/** Records of 8 bytes; readable while there are some, never writable. */
class QueueFile implements OpenFile {
  readonly kind = 'queue';
  readonly device = null;
  onPollChange: (() => void) | null = null;
  private readonly records: number[] = [];
  private readonly machine: TestMachine;

  constructor(machine: TestMachine) {
    this.machine = machine;
    machine.alive++;
    machine.queues.add(this);
  }

  get pollMask(): number {
    return this.records.length > 0 ? POLLIN : 0;
  }

  push(value: number): void {
    this.records.push(value);
    this.onPollChange?.();
  }

  /** What waits is answered otherwise than by a read. */
  forget(): void {
    this.records.length = 0;
    this.onPollChange?.();
  }

  ioctl(): number {
    throw fail('ENOTTY', 'a queue has no commands');
  }

  read(caller: ClientProcess, address: bigint, count: number): number {
    const record = this.records[0];
    if (record === undefined || count < RECORD_BYTES) return 0;
    const bytes = new BigUint64Array([BigInt(record)]);
    if (!caller.memory.write(Number(address), new Uint8Array(bytes.buffer))) throw fail('EFAULT', 'no room');
    this.records.shift();
    this.onPollChange?.();
    return RECORD_BYTES;
  }

  write(): number {
    throw fail('EINVAL', 'a queue is not written');
  }

  mmap(): never {
    throw fail('ENODEV', 'a queue cannot be mapped');
  }

  release(): void {
    this.machine.alive--;
    this.machine.queues.delete(this);
  }
}
