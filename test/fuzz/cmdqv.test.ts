/**
 * A guest that means no good, with command queues of its own: noise in its queues, and in every register of the page that
 * it has, while its VMM allocates and destroys. Nothing throws, another VM on the same SMMU keeps all that is cached for it,
 * and when all are gone nothing is left. Steps and seeds are chosen as in mock.test.ts.
 */
import { expect, it } from 'vitest';
import { Errno } from '../../src/abi/errno.ts';
import { type MappedRegisters, mappedRegisters } from '../../src/iommufd/file.ts';
import { CmdqvSlice, QUEUE, withCmdqv } from '../host/cmdqv.ts';
import { commandBytes, type GuestCommand } from '../host/guest.ts';
import { leftovers, testMachine } from '../host/program.ts';
import { bringUp, type Guest, V2, Vm } from '../host/vm.ts';
import { Dice } from './dice.ts';

const STEPS = Number(process.env.UIOMMUFD_FUZZ_CALLS ?? 40_000) / 4;
const FIRST_SEED = Number(process.env.UIOMMUFD_FUZZ_SEED ?? 1);
const STEPS_PER_SEED = 500;
const QUEUES = 2;
const QUEUE_BYTES = 0x80;
const IOVA = 0x10_0000n;
const TARGET = 0x20_0000n;
const SID = 0x10;

const OPCODES = [0x01, 0x03, 0x04, 0x05, 0x10, 0x11, 0x12, 0x13, 0x20, 0x28, 0x2a, 0x30, 0x40, 0x41, 0x44, 0x46, 0x70];

/** A VM whose stage 1 has changed without an invalidation: what it still sees was cached before, in the ATC or the IOTLB. */
async function victim(vm: Vm, ats: boolean): Promise<() => string> {
  const guest: Guest = await bringUp(vm, { vfio: 1, sid: SID, asid: 7, ats });
  const [before, after, target] = [vm.ram.allocate(), vm.ram.allocate(), vm.ram.allocate()];
  vm.ram.text(before, 'before');
  vm.ram.text(after, 'after');
  guest.stage1.map(IOVA, before);
  guest.stage1.map(TARGET, target);
  const seen = (): string => (guest.engine.copy(IOVA, TARGET) === 'done' ? vm.ram.text(target) : 'nothing');
  seen();
  guest.stage1.map(IOVA, after);
  return seen;
}

class HostileGuest {
  /** Commands that its queues have consumed. */
  consumed: number;
  private readonly dice: Dice;
  private readonly guest: Guest;
  private readonly slice: CmdqvSlice;
  private readonly page: MappedRegisters;
  /** Memory of each queue, whether it exists or not, and its ID. */
  private readonly bases: readonly bigint[];
  private readonly ids: number[];

  constructor(dice: Dice, guest: Guest, slice: CmdqvSlice, page: MappedRegisters) {
    this.consumed = 0;
    this.dice = dice;
    this.guest = guest;
    this.slice = slice;
    this.page = page;
    this.bases = Array.from({ length: QUEUES }, () => slice.vm.ram.allocate());
    this.ids = [0, 0];
  }

  async step(): Promise<void> {
    const roll = this.dice.below(100);
    if (roll < 35) this.submit();
    else if (roll < 75) this.store();
    else if (roll < 80) this.dma();
    else if (roll < 95) await this.allocate();
    else await this.slice.vm.destroy(this.dice.below(20));
  }

  /** A few commands, and as a rule the registers that have them consumed. */
  private submit(): void {
    const { dice } = this;
    const index = dice.below(QUEUES);
    const at = this.word(index, QUEUE.PROD);
    const count = 1 + dice.below(4);
    for (let n = 0; n < count; n++) {
      const place = this.bases[index]! + BigInt((at + n) % 256) * 16n;
      this.slice.vm.ram.at(place, 16).set(commandBytes([this.command()]));
    }
    const before = this.word(index, QUEUE.CONS);
    this.put(index, QUEUE.CONFIG, 1);
    this.put(index, QUEUE.GERRORN, this.word(index, QUEUE.GERROR));
    this.put(index, QUEUE.PROD, (at + count) % 512);
    if (this.word(index, QUEUE.CONS) !== before) this.consumed++;
  }

  /** Plausible, with the IDs of others; or noise. */
  private command(): GuestCommand {
    const { dice } = this;
    if (dice.chance(15)) return [this.noise(), this.noise()];
    const opcode = BigInt(dice.pick(OPCODES));
    const sid = BigInt(dice.pick([SID, 0x100, 0x200, 0, 1, dice.below(65536)]));
    const asid = BigInt(dice.pick([7, 8, dice.below(65536)]));
    const head = dice.chance(50) ? sid << 32n : (BigInt(dice.below(256)) << 32n) | (asid << 48n);
    const tail = dice.pick([IOVA, TARGET, IOVA | 1n, 52n, 0n, this.noise()]);
    return [opcode | head | (dice.chance(20) ? this.noise() & 0xffff_ff00n : 0n), tail];
  }

  private store(): void {
    const { dice } = this;
    const queue = dice.below(dice.chance(80) ? QUEUES : 512) * QUEUE_BYTES;
    const register = dice.chance(70) ? dice.pick(Object.values(QUEUE)) : dice.below(QUEUE_BYTES);
    const size = dice.chance(80) ? 4 : dice.pick([1, 2, 8]);
    const bytes = commandBytes([[dice.chance(60) ? BigInt(dice.below(512)) : this.noise(), 0n]]).subarray(0, size);
    const at = Math.min(queue + register, this.page.length - size);
    this.page.store(at, bytes);
    this.page.load(at, new Uint8Array(size));
  }

  private dma(): void {
    this.guest.engine.copy(this.dice.pick([IOVA, TARGET, 0x7000n]), TARGET);
  }

  private async allocate(): Promise<void> {
    const { dice, slice } = this;
    const index = dice.below(QUEUES + 1);
    if (this.ids[index] && dice.chance(60)) {
      if ((await slice.vm.destroy(this.ids[index])) === '') this.ids[index] = 0;
      return;
    }
    const base = dice.chance(80) ? (this.bases[index] ?? 0n) : this.noise();
    const id = await slice.queueAt(index, base, dice.chance(80) ? 1 : 2 ** dice.below(20));
    if (typeof id === 'number') this.ids[index] = id;
  }

  private word(index: number, register: number): number {
    const bytes = new Uint8Array(4);
    this.page.load(index * QUEUE_BYTES + register, bytes);
    return new DataView(bytes.buffer).getUint32(0, true);
  }

  private put(index: number, register: number, value: number): void {
    this.page.store(index * QUEUE_BYTES + register, new Uint8Array(Uint32Array.of(value).buffer));
  }

  private noise(): bigint {
    return (BigInt(this.dice.word()) << 32n) | BigInt(this.dice.word());
  }
}

async function attack(seed: number, steps: number): Promise<number> {
  const dice = new Dice(seed);
  const abi = dice.pick(['linux-7.1', 'linux-6.17', V2]);
  const { machine, events } = testMachine({
    abi,
    change: (text) => {
      withCmdqv(text);
      text.functions[1]!.iommu = text.functions[0]!.iommu;
      if (dice.chance(30)) text.memory = { fragmentSeed: seed };
    },
  });
  const neighbour = await Vm.start(machine, 43);
  const seen = await victim(neighbour, dice.chance(50));
  const vm = await Vm.start(machine, 42);
  const device = await vm.device(0);
  const slice = await CmdqvSlice.open(vm, device);
  vm.program.close(device.fd);
  const guest = await bringUp(vm, { slice, sid: SID, asid: 7, ats: true });
  const mapping = slice.map();
  const hostile = new HostileGuest(dice, guest, slice, mappedRegisters(mapping)!);
  for (let step = 0; step < steps; step++) {
    try {
      await hostile.step();
    } catch (error) {
      if (!(error instanceof Errno)) throw error;
    }
    machine.settle();
    events.length = 0;
  }
  expect(seen()).toBe('before');
  vm.program.die((fds) => fds.sort(() => dice.below(3) - 1));
  mapping.ended();
  expect(seen()).toBe('before');
  neighbour.program.die();
  expect(leftovers(machine)).toEqual({});
  return hostile.consumed;
}

it('a guest reaches nothing beyond its own VM through its command queues', { timeout: 3_600_000 }, async () => {
  const seeds = Math.max(2, Math.ceil(STEPS / STEPS_PER_SEED));
  console.log(`cmdqv: seeds ${FIRST_SEED} to ${FIRST_SEED + seeds - 1}, ${STEPS_PER_SEED} steps each`);
  let consumed = 0;
  for (let seed = FIRST_SEED; seed < FIRST_SEED + seeds; seed++) {
    try {
      consumed += await attack(seed, STEPS_PER_SEED);
    } catch (error) {
      throw new Error(`seed ${seed}: ${(error as Error).message}`, { cause: error });
    }
  }
  expect(consumed).toBeGreaterThan(seeds * 10);
});
