/**
 * One connection: the calls of one thread of a client process, strictly in order. Nothing that arrives here can throw
 * into the event loop; a frame out of turn closes this connection and nothing else.
 */
import { randomBytes, timingSafeEqual } from 'node:crypto';
import type { Socket } from 'node:net';
import type { ErrnoName } from '../abi/errno.ts';
import { ERRNO, Errno, fail } from '../abi/errno.ts';
import { FailurePoints } from '../drivers/failure-points.ts';
import type { ClientProcess, EventFd, MappedRegisters, Mapping, OpenFile } from '../iommufd/file.ts';
import { POLLOUT } from '../iommufd/file.ts';
import type { ProcessAccount } from '../iommufd/process-account.ts';
import type { PageSource, ProcessMemory } from '../memory/process-memory.ts';
import type { FileEvent, Tracer } from '../trace/events.ts';
import type { ClientImage, ClientProcesses } from './client-processes.ts';
import type { EventFds } from './event-fds.ts';
import type { Handle, Handles } from './handles.ts';
import * as wire from './protocol.ts';
import type { DeviceNode, ServedMachine } from './served-machine.ts';
import type { SharedRegions } from './shared-regions.ts';
import { mayMap, mayRead, mayWrite } from './vfs-checks.ts';

/** What the connections of one server share. */
export interface Shared {
  readonly machine: ServedMachine;
  readonly tracer: Tracer;
  readonly secret: Buffer;
  readonly handles: Handles;
  readonly processes: ClientProcesses;
  readonly eventFds: EventFds;
  readonly regions: SharedRegions;
  /** Of the calls of all programs together. */
  readonly failures: FailurePoints;
  /** Runs the machine's clock. */
  settle(): void;
  /** A mistake of ours: told to whoever runs the server; the call gets EIO. */
  internalError(error: unknown): void;
  note(text: string): void;
}

type Settle = (answer: number) => void;

/** In a reply: what a load has read. */
const LOADED_AT = wire.REPLY.token + wire.TOKEN_RANDOM;

const NO_TOKEN = Buffer.alloc(wire.TOKEN_BYTES);

/** A client that lets more than this wait for it has stopped reading. */
const MOST_WAITING = 1 << 16;

const ERRNO_NAMES = new Map<number, ErrnoName>(Object.entries(ERRNO).map(([name, n]) => [n, name as ErrnoName]));

const FILE_CALLS: Record<number, FileEvent['call']> = {
  [wire.OP_OPEN]: 'open',
  [wire.OP_READ]: 'read',
  [wire.OP_WRITE]: 'write',
  [wire.OP_MMAP]: 'mmap',
  [wire.OP_LOAD]: 'load',
  [wire.OP_STORE]: 'store',
};

export class Connection implements ClientProcess {
  readonly failures = new FailurePoints();
  private readonly shared: Shared;
  private readonly socket: Socket;
  private readonly out = Buffer.alloc(wire.REPLY_BYTES);
  private partial: Buffer | null = null;
  /** Who it is, once proven; until then the claim and the nonce that is to prove it. */
  private image: ClientImage | null = null;
  private claim: { pid: number; address: number; nonce: Buffer } | null = null;
  private closed = false;
  private calling = false;
  /** The shim answers in the order in which it was asked. */
  private readonly asked: Settle[] = [];
  private op = 0;
  private length = 0;
  private offset = 0;
  private drained: Handle | null = null;
  private drainedBytes = 0;

  constructor(shared: Shared, socket: Socket) {
    this.shared = shared;
    this.socket = socket;
    socket.on('data', (chunk) => this.receive(chunk));
    socket.on('error', () => socket.destroy());
    socket.on('close', () => this.close());
  }

  // ---- ClientProcess

  get pid(): number {
    return this.image!.pid;
  }

  get memory(): ProcessMemory {
    return this.image!.memory;
  }

  get account(): ProcessAccount {
    return this.image!.account;
  }

  memoryFile(fd: number): PageSource | null {
    return this.image!.memoryFile(fd);
  }

  registersAt(address: bigint, length: bigint): { registers: MappedRegisters; offset: number } | null {
    const mapping = this.image!.memory.mappingAt(Number(address));
    const registers = mapping && this.shared.regions.registersOf(mapping.file);
    if (!registers || Number(address) + Number(length) > mapping.end) return null;
    return { registers, offset: Number(address) - mapping.start + mapping.offset };
  }

  fileOf(fd: number): OpenFile | null {
    return this.shared.handles.behind(this.image!.describe(fd))?.file ?? null;
  }

  async eventFd(fd: number): Promise<EventFd> {
    const token = randomBytes(wire.TOKEN_BYTES);
    const answer = await this.ask(wire.ASK_SEND, token, fd, 0);
    const event = this.shared.eventFds.receive(token);
    if (answer < 0) {
      event?.release();
      throw this.refusal(answer, `descriptor ${fd} of process ${this.pid} cannot be passed on`);
    }
    if (event === null) throw fail('EINVAL', `descriptor ${fd} of process ${this.pid} is not an event fd`);
    return event;
  }

  openFd(file: OpenFile, flags: number): Promise<number> {
    return this.make(file, file.kind, (flags & ~wire.O_ACCMODE) | wire.O_RDWR);
  }

  async closeFd(fd: number): Promise<void> {
    const handle = this.shared.handles.behind(this.image!.describe(fd));
    if (handle === null) return;
    await this.ask(wire.ASK_CLOSE, handle.token, fd, 0);
    this.shared.handles.sweep();
  }

  // ---- Frames

  private receive(chunk: Buffer): void {
    let bytes = this.partial ? Buffer.concat([this.partial, chunk]) : chunk;
    this.partial = null;
    for (; bytes.length >= wire.REQUEST_BYTES; bytes = bytes.subarray(wire.REQUEST_BYTES)) {
      try {
        if (!this.frame(bytes)) this.socket.destroy();
      } catch (error) {
        this.broken(error);
      }
      if (this.socket.destroyed) return;
      if (bytes.length === wire.REQUEST_BYTES) return;
    }
    this.partial = bytes;
  }

  /** @returns false when the frame is out of turn */
  private frame(bytes: Buffer): boolean {
    const op = bytes.readUInt32LE(wire.REQUEST.op);
    if (this.image === null) return this.greet(op, bytes);
    if (op === wire.OP_DONE) {
      const answered = this.asked.shift();
      answered?.(Number(bytes.readBigInt64LE(wire.REQUEST.a)));
      return answered !== undefined;
    }
    if (this.calling || op < wire.OP_OPEN || op > wire.OP_SEEK) return false;
    this.drained = null;
    this.calling = true;
    this.call(op, bytes);
    return true;
  }

  private greet(op: number, bytes: Buffer): boolean {
    if (op === wire.OP_HELLO && this.claim === null) {
      const secret = bytes.subarray(wire.REQUEST.token + wire.TOKEN_RANDOM, wire.REQUEST.token + wire.TOKEN_BYTES);
      if (bytes.readUInt32LE(wire.REQUEST.word) !== wire.PROTOCOL_VERSION) return false;
      if (!timingSafeEqual(secret, this.shared.secret)) return false;
      const pid = Number(bytes.readBigUInt64LE(wire.REQUEST.a));
      const address = Number(bytes.readBigUInt64LE(wire.REQUEST.b));
      this.claim = { pid, address, nonce: randomBytes(16) };
      this.claim.nonce.copy(this.out, wire.REPLY.token + wire.TOKEN_RANDOM);
      this.reply(wire.NONCE, 0, 0, 0);
      return true;
    }
    if (op !== wire.OP_PROVE || this.claim === null) return false;
    const { pid, address, nonce } = this.claim;
    // Our own memory holds the nonce as well, and so proves nothing.
    this.image = pid === process.pid ? null : this.shared.processes.identify(pid, address, nonce);
    if (this.image === null) this.shared.note(`process ${pid} was refused: its memory does not show what it should`);
    this.reply(wire.RESULT, this.image === null ? -ERRNO.EPERM : 0, 0, 0);
    return this.image !== null;
  }

  // ---- Calls

  private call(op: number, bytes: Buffer): void {
    this.shared.handles.sweep();
    this.shared.eventFds.sweep();
    this.op = op;
    if (op === wire.OP_OPEN) {
      this.open(bytes.readUInt32LE(wire.REQUEST.word), bytes.readUInt32LE(wire.REQUEST.a));
      return;
    }
    if (op === wire.OP_LOAD || op === wire.OP_STORE) {
      this.access(op === wire.OP_STORE, bytes);
      return;
    }
    const handle = this.shared.handles.find(bytes, wire.REQUEST.token);
    if (handle === null) {
      this.calling = false;
      this.reply(wire.RESULT, -ERRNO.EBADF, 0, 0);
      return;
    }
    this.shared.handles.begin(handle);
    let result: number | Promise<number>;
    try {
      const points = this.armed();
      result = points ? points.during(() => this.perform(op, handle, bytes)) : this.perform(op, handle, bytes);
    } catch (error) {
      this.refuse(handle, error);
      return;
    }
    if (typeof result === 'number') {
      this.finish(handle, result, '');
      return;
    }
    result
      .then(
        (value) => this.finish(handle, value, ''),
        (error) => this.refuse(handle, error),
      )
      .catch((error) => this.broken(error));
  }

  /** Who makes an allocation of the present call fail, if anyone does. */
  private armed(): FailurePoints | null {
    if (this.failures.remaining) return this.failures;
    return this.shared.failures.remaining ? this.shared.failures : null;
  }

  private perform(op: number, { file, access }: Handle, bytes: Buffer): number | Promise<number> {
    const word = bytes.readUInt32LE(wire.REQUEST.word);
    const a = bytes.readBigUInt64LE(wire.REQUEST.a);
    if (op === wire.OP_IOCTL) return file.ioctl(this, word, a);
    if (op === wire.OP_SEEK) {
      if (!file.seek) throw fail('ESPIPE', `${file.kind} has no position`);
      return file.seek(BigInt.asIntN(64, a), word);
    }
    const b = bytes.readBigUInt64LE(wire.REQUEST.b);
    const c = bytes.readBigUInt64LE(wire.REQUEST.c);
    if (op === wire.OP_MMAP) {
      this.length = Number(a);
      this.offset = Number(b);
      mayMap(access, a, word, Number(c), b);
      return this.map(file.mmap(this, a, word, Number(c), b));
    }
    this.length = Number(b);
    this.offset = word === 1 ? Number(c) : -1;
    if (b > 0x7fffffffn) throw fail('EINVAL', `a count of ${b} bytes is more than the 2147483647 of one call`);
    const position = word === 1 ? c : null;
    if (op === wire.OP_READ) {
      mayRead(access);
      return file.read(this, a, this.length, position);
    }
    mayWrite(access);
    return file.write(this, a, this.length, position);
  }

  /** A load or store of mapped registers. */
  private access(write: boolean, bytes: Buffer): void {
    const registers = this.shared.regions.find(bytes, wire.REQUEST.token);
    const length = bytes.readUInt32LE(wire.REQUEST.word);
    const offset = Number(bytes.readBigUInt64LE(wire.REQUEST.a));
    this.length = length;
    this.offset = offset;
    let result = -ERRNO.EBADF;
    let reason = 'the registers are not mapped';
    if (registers && length <= wire.MOST_LOADED && offset + length <= registers.length) {
      try {
        if (write) registers.store(offset, bytes.subarray(wire.REQUEST.c, wire.REQUEST.c + length));
        else registers.load(offset, this.out.subarray(LOADED_AT, LOADED_AT + length));
        result = 0;
        reason = '';
      } catch (error) {
        result = -this.errnoOf(error);
        reason = reasonOf(error);
      }
    }
    this.done(result, registers?.name ?? '', reason);
  }

  /** Has the process map pages that a file offers. @returns where */
  private async map(mapping: Mapping): Promise<number> {
    const { regions } = this.shared;
    const { fd, token } = regions.begin(mapping);
    try {
      const address = await this.ask(wire.ASK_MAP, token ?? NO_TOKEN, fd, token ? 1 : 0);
      if (address < 0) throw this.refusal(address, `process ${this.pid} could not map the pages`);
      return address;
    } finally {
      regions.end(mapping);
    }
  }

  private open(node: number, flags: number): void {
    const path = this.shared.machine.deviceNodes[node]?.path ?? '';
    this.length = 0;
    this.offset = 0;
    this.openNode(path, flags)
      .then(
        (fd) => this.done(fd, path, ''),
        (error) => this.done(-this.errnoOf(error), path, reasonOf(error)),
      )
      .catch((error) => this.broken(error));
  }

  private async openNode(path: string, flags: number): Promise<number> {
    if (path === '') throw fail('ENXIO', 'there is no device node of that number');
    const { machine } = this.shared;
    const points = this.armed();
    const file = points ? points.during(() => machine.open(path, flags, this)) : machine.open(path, flags, this);
    try {
      return await this.make(file, path, flags);
    } catch (error) {
      file.release();
      throw error;
    }
  }

  /** A descriptor for `file` in the process. When it fails, the file is still the caller's. */
  private async make(file: OpenFile, name: string, flags: number): Promise<number> {
    const { handles, machine } = this.shared;
    const node = machine.deviceNodes.findIndex((n) => n.path === name || isDevice(n, file));
    const handle = handles.create(file, { name, pid: this.pid, access: flags & wire.O_ACCMODE, node });
    const kept = flags & (wire.O_CLOEXEC | wire.O_NONBLOCK);
    const fd = await this.ask(wire.ASK_MAKE, handle.token, file.pollMask & POLLOUT ? 1 : 0, kept);
    if (handles.adopt(handle, fd < 0 ? '' : this.image!.describe(fd))) return fd;
    handles.discard(handle);
    throw this.refusal(fd, `process ${this.pid} could not make a descriptor for ${name}`);
  }

  private refuse(handle: Handle, error: unknown): void {
    this.finish(handle, -this.errnoOf(error), reasonOf(error));
  }

  /** The end of every call on a handle. */
  private finish(handle: Handle, result: number, reason: string): void {
    if (!this.closed) {
      this.drainedBytes = this.shared.handles.takeUnread(handle);
      if (this.drainedBytes > 0) this.drained = handle;
    }
    this.done(result, handle.name, reason, this.closed ? 0 : this.drainedBytes);
    this.shared.handles.end(handle);
  }

  private done(result: number, file: string, reason: string, drain = 0): void {
    this.shared.settle();
    const stale = this.closed ? null : this.shared.handles.takeStale(this.pid);
    if (stale === null) {
      this.answer(result, file, reason, drain);
      return;
    }
    this.drainAll(stale)
      .then(() => this.answer(result, file, reason, drain))
      .catch((error) => this.broken(error));
  }

  /** Has the process take out what makes descriptors readable that no longer are, before it can poll them again. */
  private async drainAll(stale: readonly Handle[]): Promise<void> {
    const { handles } = this.shared;
    for (const handle of stale) {
      const fd = this.image!.descriptorOf(handle.link);
      const bytes = fd < 0 ? 0 : handles.takeUnread(handle);
      if (bytes > 0 && (await this.ask(wire.ASK_DRAIN, handle.token, fd, 0, bytes)) < 0) {
        handles.giveBackUnread(handle, bytes);
      }
    }
  }

  private answer(result: number, file: string, reason: string, drain: number): void {
    this.calling = false;
    if (this.shared.tracer.on && this.op in FILE_CALLS) this.trace(file, result, reason);
    this.reply(wire.RESULT, result, drain, 0);
  }

  private trace(file: string, result: number, reason: string): void {
    const positioned = this.offset >= 0 && (this.op === wire.OP_READ || this.op === wire.OP_WRITE);
    const call = `${positioned ? 'p' : ''}${FILE_CALLS[this.op]}` as FileEvent['call'];
    const offset = Math.max(0, this.offset);
    this.shared.tracer.emit({ type: 'file', pid: this.pid, file, call, offset, length: this.length, result, reason });
  }

  private broken(error: unknown): void {
    this.shared.internalError(error);
    this.socket.destroy();
  }

  private errnoOf(error: unknown): number {
    if (error instanceof Errno) return error.errno;
    this.shared.internalError(error);
    return ERRNO.EIO;
  }

  private refusal(answer: number, reason: string): Errno {
    return fail(ERRNO_NAMES.get(-answer) ?? 'EIO', reason);
  }

  // ---- Towards the shim

  /** Has the shim do what only the process can do, within the present call. @returns its answer; -EIO when it has gone */
  private ask(kind: number, token: Buffer, value: number, flags: number, drain = 0): Promise<number> {
    if (this.closed || !this.calling) return Promise.resolve(-ERRNO.EIO);
    this.reply(kind, value, drain, flags, token);
    return new Promise((resolve) => this.asked.push(resolve));
  }

  /** @param result a value, or -errno */
  private reply(kind: number, result: number, drain: number, flags: number, token?: Buffer): void {
    if (this.closed) return;
    const refused = kind === wire.RESULT && result < 0;
    const out = kind === wire.RESULT ? this.out : Buffer.from(this.out);
    token?.copy(out, wire.REPLY.token);
    out.writeUInt32LE(kind, wire.REPLY.kind);
    out.writeInt32LE(refused ? -result : 0, wire.REPLY.error);
    out.writeInt32LE(result | 0, wire.REPLY.value);
    out.writeInt32LE(Math.floor(result / 2 ** 32), wire.REPLY.value + 4);
    out.writeUInt32LE(drain, wire.REPLY.drain);
    out.writeUInt32LE(flags, wire.REPLY.flags);
    this.socket.write(out);
    if (this.socket.writableLength > MOST_WAITING) this.socket.destroy();
  }

  /** Ends every call under way: what was asked is answered with -EIO, and the handlers undo what they did. */
  private close(): void {
    this.closed = true;
    if (this.drained !== null) this.shared.handles.giveBackUnread(this.drained, this.drainedBytes);
    if (this.image !== null) this.shared.processes.disconnect(this.image);
    for (const answer of this.asked.splice(0)) answer(-ERRNO.EIO);
    this.shared.handles.sweep();
  }

  destroy(): void {
    this.socket.destroy();
  }
}

const isDevice = ({ major, minor }: DeviceNode, { device }: OpenFile): boolean =>
  major === device?.major && minor === device.minor;

function reasonOf(error: unknown): string {
  return error instanceof Errno ? error.reason : String(error);
}
