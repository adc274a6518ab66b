/**
 * A program that means no good: random calls on random descriptors, with structs that are noise, or a plausible command
 * with some fields turned; pointers and lengths that are wild, unaligned, or end where its memory ends. One seed, one
 * sequence of calls.
 */
import { Errno } from '../../src/abi/errno.ts';
import type { AnyStruct } from '../../src/abi/struct.ts';
import type { Machine } from '../../src/host/machine.ts';
import { Program } from '../host/program.ts';
import { Dice } from './dice.ts';

const MEMORY_BYTES = 2 ** 20;
/** Enough for the largest struct of any dialect with a tail behind it. */
const STRUCT_BYTES = 192;
const DESCRIPTORS = 8;

interface Command {
  readonly number: number;
  readonly struct: AnyStruct | null;
}

export class HostileProgram {
  /** The call that is being made, for the message when it does what no call may. */
  current: string;
  /** Answers by errno name ('ok' for success). */
  readonly answers: Map<string, number>;
  private readonly dice: Dice;
  private readonly machine: Machine;
  private readonly program: Program;
  private readonly commands: readonly Command[];

  constructor(machine: Machine, seed: number, pid = 42) {
    this.current = 'nothing';
    this.answers = new Map();
    this.dice = new Dice(seed);
    this.machine = machine;
    this.program = new Program(machine, MEMORY_BYTES, pid);
    const { commands, vfioCommands } = machine.dialect;
    this.commands = [...commands.values(), ...vfioCommands.values()].map(({ command, struct }) => ({
      number: command,
      struct,
    }));
    for (let i = 0; i < 4; i++) this.program.eventfd();
    for (const { path } of machine.deviceNodes) this.program.open(path);
  }

  /** One call. Throws what is neither a result nor an Errno: a defect of ours. */
  async step(): Promise<void> {
    const roll = this.dice.below(100);
    let answer = 'ok';
    try {
      if (roll < 82) await this.ioctl();
      else if (roll < 94) this.transfer();
      else if (roll < 96) this.mmap();
      else this.reopen();
    } catch (error) {
      if (!(error instanceof Errno)) throw error;
      answer = error.code;
    }
    this.answers.set(answer, (this.answers.get(answer) ?? 0) + 1);
    this.machine.settle();
  }

  /** The end of the process. */
  die(): void {
    this.current = 'exit';
    this.program.die((fds) => fds.sort(() => this.dice.below(3) - 1));
  }

  private async ioctl(): Promise<void> {
    const { dice, program } = this;
    const command = dice.pick(this.commands);
    const number = dice.chance(94) ? command.number : dice.chance(50) ? 0x3b00 + dice.below(256) : dice.word();
    const bytes = new Uint8Array(STRUCT_BYTES);
    this.noise(bytes, dice.chance(85) ? 12 : 100);
    if (command.struct && dice.chance(95)) this.plausible(bytes, command.struct);
    const address = dice.chance(92) ? this.own(STRUCT_BYTES) : this.wild();
    program.memory.write(Number(address), bytes);
    const [fd, file] = this.descriptor();
    this.current = `ioctl(${fd}, 0x${number.toString(16)}, 0x${address.toString(16)}) of ${Buffer.from(bytes).toString('hex')}`;
    await file.ioctl(program.process, number, address);
  }

  /** Each field on its own: mostly what such a field may hold, sometimes not. */
  private plausible(bytes: Uint8Array, layout: AnyStruct): void {
    const { dice } = this;
    const view = new DataView(bytes.buffer);
    for (const [name, { offset, bytes: length, format }] of Object.entries(layout.fields)) {
      if (length !== 4 && length !== 8) continue;
      if (dice.chance(6)) continue;
      let value = BigInt(dice.below(4));
      if (name === 'size' || name === 'argsz') value = BigInt(dice.chance(90) ? layout.size : dice.below(STRUCT_BYTES));
      else if (name.startsWith('reserved')) value = 0n;
      else if (format === 'id') value = BigInt(dice.below(24));
      else if (format === 'fd') value = BigInt(dice.chance(70) ? dice.below(DESCRIPTORS) : 1000 + dice.below(5));
      else if (/uptr|Uva|userVa|data|Ptr/i.test(name) && length === 8) value = this.own(4096);
      else if (format === 'address') value = BigInt(dice.below(64)) * 0x1000n + 0x4000_0000n;
      else if (format === 'length') value = BigInt(1 + dice.below(32)) * 0x1000n;
      else if (typeof format === 'object' && 'names' in format)
        value = BigInt(dice.pick(Object.values(format.names)) >>> 0);
      else if (typeof format === 'object')
        value = BigInt(dice.pick([0, ...Object.values(format.flags)]) | (dice.chance(40) ? 6 : 0));
      if (length === 8) view.setBigUint64(offset, BigInt.asUintN(64, value), true);
      else view.setUint32(offset, Number(value & 0xffff_ffffn), true);
    }
  }

  private transfer(): void {
    const { dice, program } = this;
    const [fd, file] = this.descriptor();
    const region = BigInt(dice.below(12)) << 40n;
    const position = dice.chance(20) ? null : dice.chance(85) ? region + BigInt(dice.below(0x5000)) : this.wild();
    const count = dice.chance(85) ? dice.below(16) : dice.pick([0, 4096, 2 ** 31 - 4096, 2 ** 32, 2 ** 46]);
    const address = dice.chance(90) ? this.own(16) : this.wild();
    const write = dice.chance(60);
    this.current = `${write ? 'write' : 'read'}(${fd}, 0x${address.toString(16)}, ${count}) at ${position}`;
    if (write) file.write(program.process, address, count, position);
    else file.read(program.process, address, count, position);
  }

  private mmap(): void {
    const [fd, file] = this.descriptor();
    this.current = `mmap of ${fd}`;
    file.mmap(this.program.process, this.wild(), this.dice.below(8), this.dice.below(4), this.wild());
  }

  private reopen(): void {
    const open = [...this.program.process.files.keys()];
    const { path } = this.dice.pick(this.machine.deviceNodes);
    this.current = `open(${path}) or close`;
    if (open.length >= DESCRIPTORS) this.program.close(this.dice.pick(open));
    else this.program.open(path);
  }

  private descriptor(): [number, ReturnType<Program['file']>] {
    const open = [...this.program.process.files.keys()];
    const fd = open.length ? this.dice.pick(open) : this.program.open('/dev/iommu');
    return [fd, this.program.file(fd)];
  }

  private noise(bytes: Uint8Array, percent: number): void {
    for (let i = 0; i < bytes.length; i++) if (this.dice.chance(percent)) bytes[i] = this.dice.word();
  }

  /** An address with `room` bytes of the program's memory behind it, often unaligned; sometimes with too little room. */
  private own(room: number): bigint {
    const { dice, program } = this;
    if (dice.chance(4)) return program.base + BigInt(program.memory.bytes.length - dice.below(room));
    const page = dice.below(200) * 4096;
    return program.base + BigInt(page + (dice.chance(30) ? dice.below(4096 - (room % 4096)) : 0));
  }

  private wild(): bigint {
    const { dice } = this;
    const edges = [
      0n,
      1n,
      4095n,
      2n ** 31n,
      2n ** 47n - 1n,
      2n ** 47n,
      2n ** 53n,
      2n ** 63n,
      2n ** 64n - 4096n,
      2n ** 64n - 1n,
    ];
    return dice.chance(60) ? dice.pick(edges) : (BigInt(dice.word()) << 32n) | BigInt(dice.word());
  }
}
