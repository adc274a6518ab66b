import { describe, expect, it } from 'vitest';
import { Clock } from '../../../hardware/clock.ts';
import { Cmdqv as Hardware } from '../../../hardware/cmdqv/cmdqv.ts';
import { DEFAULT_CMDQV_SETTINGS } from '../../../hardware/cmdqv/settings.ts';
import { DEFAULT_SETTINGS } from '../../../hardware/smmuv3/settings.ts';
import { Smmu } from '../../../hardware/smmuv3/smmu.ts';
import { PhysicalMemory } from '../../../memory/physical-memory.ts';
import type { CommandEvent, TraceEvent } from '../../../trace/events.ts';
import { FrameAllocator } from '../../frame-allocator.ts';
import { CommandBatch } from '../commands.ts';
import { ArmSmmuV3 } from '../driver.ts';
import { Bench, commands, RW, simple, tlbiVa } from '../testing.ts';

const HYP_OWN = 1 << 17;

/** Queue and opcode of the commands since the last call; '' is the SMMU's own queue. */
function issued(trace: TraceEvent[]): string[] {
  const events = trace.filter((event): event is CommandEvent => event.type === 'command');
  trace.length = 0;
  return events.map(({ queue = '', words }) => `${queue} 0x${(words[0]! & 0xff).toString(16)}`.trim());
}

describe('the host’s own interface', () => {
  it('is VINTF 0, the hypervisor’s, with one queue that runs', () => {
    const { cmdqvs, frames } = new Bench({ cmdqv: {} });
    const register = (offset: number) => cmdqvs[0]!.readRegister(offset, 4);
    expect(register(0x0) & 1).toBe(1);
    expect(register(0x1000)).toBe(HYP_OWN | 1);
    expect([0, 1, 2].map((queue) => register(0x200 + 4 * queue) & 1)).toEqual([1, 0, 0]);
    // 256 commands, in a frame of host RAM.
    expect(register(0x20000) & 0x1f).toBe(8);
    expect(register(0x1000c)).toBe(1);
    expect(frames.used).toBe(new Bench().frames.used + 1);
    expect(register(0x30000 + 4)).toBe(register(0x10000 + 4));
  });

  it('issues what the host issues, after probe', () => {
    const bench = new Bench({ cmdqv: {} });
    expect(new Set(issued(bench.trace))).toEqual(new Set(['0x4', '0x30', '0x46']));
    const { driven } = bench.device(0, 0x10);
    const domain = driven.allocPaging(0, null);
    driven.attach(domain, 0);
    domain.map(0x10000n, 0x50000000, 4096, RW);
    bench.trace.length = 0;
    domain.unmap(0x10000n, 4096n);
    expect(issued(bench.trace).slice(0, 2)).toEqual(['VINTF0/LVCMDQ0 0x12', 'VINTF0/LVCMDQ0 0x46']);
    driven.attach(null, 0);
    domain.free();
    const rest = issued(bench.trace);
    expect(rest.every((one) => one.startsWith('VINTF0/LVCMDQ0 '))).toBe(true);
    expect(rest.slice(-2)).toEqual(['VINTF0/LVCMDQ0 0x11', 'VINTF0/LVCMDQ0 0x46']);
  });

  it('does not issue what guests have the host issue: that takes the SMMU’s own queue', () => {
    const { bench, viommu } = simple({ cmdqv: {} });
    bench.trace.length = 0;
    viommu.invalidate(commands(tlbiVa(7, 0x10)));
    expect(issued(bench.trace)).toEqual(['0x12', '0x46']);
  });

  it('puts a SYNC in the place of an illegal command and goes on', () => {
    const bench = new Bench({ cmdqv: {} });
    const { unit } = bench.device(0, 0x10).driven;
    bench.trace.length = 0;
    const batch = new CommandBatch();
    batch.invalidateAsid(1);
    batch.raw(0xee, 0, 0, 0);
    batch.invalidateAsid(2);
    unit.commands.submit(batch);
    expect(bench.notes()).toEqual(['command 0xee at index 1 of the command queue: error 1']);
    const queue = 'VINTF0/LVCMDQ0';
    expect(issued(bench.trace)).toEqual(
      [0x11, 0xee, 0x46, 0x11, 0x46].map((opcode) => `${queue} 0x${opcode.toString(16)}`),
    );
    bench.clock.settle();
    unit.commands.submit(batch);
    expect(issued(bench.trace)).toEqual([`${queue} 0x46`]);
  });

  it('leaves to the SMMU’s own queue what is not for guests, where HYP_OWN cannot be had', () => {
    const memory = new PhysicalMemory();
    memory.addRam(0x40000, 0x1000);
    const trace: TraceEvent[] = [];
    const tracer = { on: true, emit: (event: TraceEvent) => void trace.push(event) };
    const clock = new Clock();
    const name = 'smmu0';
    const none = () => {};
    const irq = { eventq: none, priq: none, gerror: none, cmdqSync: none };
    const mmio = new Smmu({ name, memory, settings: DEFAULT_SETTINGS, clock, tracer, irq });
    const cmdqv = new Hardware({
      ...{ name, memory, clock, tracer, irq: none, executor: mmio.executor },
      settings: DEFAULT_CMDQV_SETTINGS,
      commandQueueLog2: DEFAULT_SETTINGS.cmdqs,
    });
    // As a hypervisor shows it to a guest kernel.
    const shown = {
      readRegister: (offset: number, size: number) => cmdqv.readRegister(offset, size),
      writeRegister: (offset: number, size: number, value: number) =>
        cmdqv.writeRegister(offset, size, offset === 0x1000 ? value & ~HYP_OWN : value),
    };
    const frames = new FrameAllocator(memory, 0x40000, 0x1000);
    const driver = new ArmSmmuV3({
      name,
      mmio,
      cmdqv: { mmio: shown },
      memory,
      frames,
      tracer,
      policy: { vmid: 'per-viommu' },
    });
    const device = driver
      .probe()
      .probeDevice({ streamId: 1, name: 'dev', ats: null, pri: null, pasid: null, canStall: false });
    trace.length = 0;
    const submit = (fill: (batch: CommandBatch) => void) => {
      const batch = new CommandBatch();
      fill(batch);
      device.unit.commands.submit(batch);
      return issued(trace);
    };
    expect(submit((batch) => batch.invalidateAsid(1))).toEqual(['VINTF0/LVCMDQ0 0x11', 'VINTF0/LVCMDQ0 0x46']);
    expect(submit((batch) => batch.invalidateSte(1))).toEqual(['0x3', '0x46']);
    expect(
      submit((batch) => {
        batch.invalidateAsid(1);
        batch.invalidateVmid(1);
      }),
    ).toEqual(['0x11', '0x28', '0x46']);
  });
});
