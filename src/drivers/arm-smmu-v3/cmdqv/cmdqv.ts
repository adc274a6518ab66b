/**
 * The driver of the Tegra241 CMDQV in front of an SMMUv3. Its VCMDQs are shared out evenly to virtual interfaces: VINTF 0
 * is the host's own, for what the host itself issues; VMs get the others. The SMMU's queue stays in use for what guests
 * have the host issue, and for what the host's VCMDQ does not take.
 */
import { fail } from '../../../abi/errno.ts';
import { HwInfoTegra241Cmdqv } from '../../../abi/iommufd.ts';
import { CONFIG_REGISTERS } from '../../../hardware/cmdqv/spec/registers.ts';
import type { MmioDevice } from '../../../hardware/iommu.ts';
import * as spec from '../../../hardware/smmuv3/spec/commands.ts';
import { CMD, COMMAND_WORDS } from '../../../hardware/smmuv3/spec/commands.ts';
import { get, put } from '../../../hardware/smmuv3/spec/field.ts';
import type { PhysicalMemory } from '../../../memory/physical-memory.ts';
import { mayFail } from '../../failure-points.ts';
import type { FrameAllocator } from '../../frame-allocator.ts';
import { CommandQueue, type CommandSink } from '../command-queue.ts';
import type { CommandBatch } from '../commands.ts';
import { IdPool } from '../id-pool.ts';
import { Registers } from '../registers.ts';
import { allocation, queueRegisters } from './places.ts';
import { Vintf } from './vintf.ts';

const { CONFIG, STATUS, PARAM, VI_ERR_MAP } = CONFIG_REGISTERS;

/** What a queue takes whose interface is not the hypervisor's. */
const GUEST_COMMANDS: ReadonlySet<number> = new Set([spec.CMD_TLBI_NH_ASID, spec.CMD_TLBI_NH_VA, spec.CMD_ATC_INV]);

export interface CmdqvOptions {
  readonly mmio: MmioDevice;
  readonly memory: PhysicalMemory;
  readonly frames: FrameAllocator;
  /** The SMMU's own. */
  readonly smmuQueue: CommandQueue;
  /** log2 entries of the host's VCMDQ. */
  readonly commandsLog2: number;
  readonly note: (text: string) => void;
}

export class Cmdqv implements CommandSink {
  readonly mmio: MmioDevice;
  readonly registers: Registers;
  readonly smmuQueue: CommandQueue;
  /** Queues that an interface can have. */
  readonly queuesEach: number;
  /** Virtual StreamIDs that an interface can have. */
  readonly streamsEach: number;
  private readonly param: Uint32Array;
  private readonly indices: IdPool;
  /** Those of VMs, by index. */
  private readonly vintfs: Map<number, Vintf>;
  private readonly hostQueue: CommandQueue;
  /** What the host's VCMDQ takes: nothing before start(). */
  private hostTakes: 'nothing' | 'guest commands' | 'everything';
  private readonly note: (text: string) => void;

  /** Reads what the CMDQV has; it runs after start(). */
  constructor(options: CmdqvOptions) {
    this.mmio = options.mmio;
    this.registers = new Registers(options.mmio);
    this.smmuQueue = options.smmuQueue;
    this.note = options.note;
    this.param = Uint32Array.of(this.registers.read(PARAM));
    this.queuesEach = 2 ** this.queuesEachLog2;
    this.streamsEach = 2 ** get(this.param, 0, PARAM.fields.CMDQV_NUM_SID_PER_VI_LOG2);
    // From 1 on: 0 is the host's.
    this.indices = new IdPool(get(this.param, 0, PARAM.fields.CMDQV_NUM_VI_LOG2));
    this.vintfs = new Map();
    const { memory, frames, commandsLog2, note } = options;
    this.hostQueue = new CommandQueue(this.registers, queueRegisters(0, 0), memory, frames, commandsLog2, note);
    this.hostTakes = 'nothing';
  }

  /** Interfaces and queues that VMs have. */
  get resources(): { vintfs: number; vcmdqs: number } {
    let vcmdqs = 0;
    for (const vintf of this.vintfs.values()) vcmdqs += vintf.used;
    return { vintfs: this.vintfs.size, vcmdqs };
  }

  /** GET_HW_INFO */
  get info(): Uint8Array {
    const info = new HwInfoTegra241Cmdqv();
    info.version = get(this.param, 0, PARAM.fields.CMDQV_VER);
    info.log2vcmdqs = this.queuesEachLog2;
    info.log2vsids = Math.log2(this.streamsEach);
    return info.bytes;
  }

  /** Turns it off and on, and gives the host its interface. The SMMU's own queue must run. */
  start(): void {
    const config = Uint32Array.of(this.registers.read(CONFIG));
    for (const on of [0, 1]) {
      put(config, 0, CONFIG.fields.CMDQV_EN, on);
      this.registers.switch(CONFIG, STATUS, config[0]!);
    }
    const host = new Vintf(this, 0);
    const owned = host.start(0, true);
    const queue = host.addQueue(0, null);
    this.hostQueue.install();
    queue.start();
    this.hostTakes = owned ? 'everything' : 'guest commands';
  }

  submit(batch: CommandBatch): void {
    const queue = this.takes(batch) ? this.hostQueue : this.smmuQueue;
    queue.submit(batch);
  }

  /** An interface for a VM that invalidates under `vmid`. ENOSPC when there is none left. */
  open(vmid: number): Vintf {
    mayFail('a virtual interface');
    const index = this.indices.take();
    if (index < 0) throw fail('ENOSPC', `the CMDQV has no virtual interface left: VMs have ${this.vintfs.size}`);
    const vintf = new Vintf(this, index);
    this.vintfs.set(index, vintf);
    vintf.start(vmid, false);
    return vintf;
  }

  close(vintf: Vintf): void {
    vintf.stop();
    this.vintfs.delete(vintf.index);
    this.indices.give(vintf.index);
  }

  /** Gives a VCMDQ to an interface, or takes it back. Each interface has its own of them. */
  allocate(vintf: number, logical: number, on: boolean): void {
    const register = allocation(vintf * this.queuesEach + logical);
    const value = new Uint32Array(1);
    put(value, 0, register.fields.VIRT_INTF_INDX, vintf);
    put(value, 0, register.fields.LVCMDQ, logical);
    put(value, 0, register.fields.ALLOC, on ? 1 : 0);
    this.registers.write(register, value[0]!);
  }

  /** Errors of queues: the host's goes on, those of VMs are told to them. */
  handleInterrupt(): void {
    const { offset } = VI_ERR_MAP;
    const map = Uint32Array.of(this.registers.read(VI_ERR_MAP), this.registers.read({ offset: offset + 4 }));
    if (map[0]! & 1) this.hostQueue.recover();
    for (const [index, vintf] of this.vintfs) {
      if (!((map[index >>> 5]! >>> (index & 31)) & 1)) continue;
      this.note(`a command queue of VINTF ${index} has stopped at an error`);
      vintf.onError?.(vintf.errorMap());
    }
  }

  private takes({ words, length }: CommandBatch): boolean {
    if (this.hostTakes !== 'guest commands') return this.hostTakes === 'everything';
    for (let i = 0; i < length; i++) {
      if (!GUEST_COMMANDS.has(get(words, i * COMMAND_WORDS, CMD.Opcode))) return false;
    }
    return true;
  }

  private get queuesEachLog2(): number {
    const { CMDQV_NUM_CMDQ_LOG2, CMDQV_NUM_VI_LOG2 } = PARAM.fields;
    return get(this.param, 0, CMDQV_NUM_CMDQ_LOG2) - get(this.param, 0, CMDQV_NUM_VI_LOG2);
  }
}
