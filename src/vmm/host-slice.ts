/**
 * The host's half of a virtual SMMU: a vIOMMU on the SMMU that the devices are behind, HWPTs that pass everything and
 * nothing, a vDEVICE and a nested HWPT for each device, and a vEVENTQ.
 */
import * as uapi from '../abi/iommufd.ts';
import { COMMAND_BYTES } from '../hardware/smmuv3/spec/commands.ts';
import { put } from '../hardware/smmuv3/spec/field.ts';
import { CONFIG_BYPASS, STE } from '../hardware/smmuv3/spec/ste.ts';
import { Refused } from './client.ts';
import { HostQueues } from './cmdqv/host-queues.ts';
import { EventThread, type EventThreadPort } from './event-thread.ts';
import type { EventSink, HostEvents } from './host-events.ts';
import type { Passthrough } from './passthrough.ts';
import type { End, SliceCalls, VintfSlice } from './slice-calls.ts';
import type { Wish } from './smmu/stream-table.ts';
import type { Streams } from './smmu/virtual-smmu.ts';
import type { Teardown } from './teardown.ts';

/** The SMMU has none to give; the release takes no data with a vIOMMU. */
const NO_QUEUES: readonly string[] = ['EOPNOTSUPP', 'E2BIG'];
const STE_WORDS = 4;
const STE_DATA_BYTES = 16;

interface Member {
  readonly device: Passthrough;
  /** Null: the vIOMMU does not know it. */
  dropVirtualId: End | null;
  nestedId: number;
}

export interface HostSlicePort extends EventThreadPort {
  readonly iommufd: number;
  readonly teardown: Teardown;
  readonly calls: SliceCalls;
  /** The guest gets command queues, where the host has any to give. */
  readonly cmdqv: boolean;
}

interface Events {
  readonly events: HostEvents;
  readonly thread: EventThread;
}

export class HostSlice implements Streams {
  readonly viommuId: number;
  readonly parentId: number;
  /** Null: all commands go through the VMM. */
  readonly queues: HostQueues | null;
  private readonly port: HostSlicePort;
  private readonly abortId: number;
  private readonly bypassId: number;
  private readonly events: Events[];
  private readonly members: Member[];

  /** @param device one of those that will be behind it */
  constructor(port: HostSlicePort, parentId: number, device: Passthrough) {
    this.port = port;
    this.parentId = parentId;
    const vintf = port.cmdqv ? this.tryVintf(device) : null;
    this.viommuId = vintf ? vintf.viommuId : port.calls.allocViommu(device.devId, parentId);
    this.queues = vintf && new HostQueues(port, vintf);
    this.abortId = this.allocNested(device, fixedSte(0));
    this.bypassId = this.allocNested(device, fixedSte(CONFIG_BYPASS));
    this.events = [];
    this.members = [];
  }

  /** Passes faults of the guest's tables on. A release that has no vEVENTQ loses them. @param name of who gets them */
  async passFaults(name: string, sink: EventSink, depth: number): Promise<void> {
    const { calls, faults } = this.port;
    if (!faults.skipEventQueue) this.pass(name, sink, await calls.openFaults(this.viommuId, depth));
  }

  /** The same for errors of the guest's command queues. */
  async passQueueErrors(name: string, sink: EventSink, depth: number): Promise<void> {
    const { calls, faults } = this.port;
    if (!faults.skipQueueErrors) this.pass(name, sink, await calls.openQueueErrors(this.viommuId, depth));
  }

  get sids(): readonly number[] {
    return this.members.map(({ device }) => device.sid);
  }

  /** Puts a device behind the vIOMMU, with its StreamID. What it is attached to comes by apply(). */
  add(device: Passthrough): void {
    const member = { device, dropVirtualId: null, nestedId: 0 };
    if (!this.port.faults.bypassBeforeVdevice) this.setVirtualId(member);
    this.members.push(member);
  }

  /** The guest has given the device another StreamID. Until it is configured there, it is refused everything. */
  rename(device: Passthrough, sid: number): void {
    const member = this.member(device.sid);
    this.attach(member, this.abortId);
    this.dropNested(member, 0);
    if (!this.port.faults.keepVdevice) this.dropVirtualId(member);
    device.sid = sid;
    this.setVirtualId(member);
  }

  apply(sid: number, wish: Wish): void {
    const member = this.member(sid);
    if (this.port.faults.bypassBeforeVdevice && wish.kind === 'translate') this.setVirtualIdLate(member);
    if (wish.kind === 'translate') this.translate(member, wish.ste);
    else {
      this.attach(member, wish.kind === 'abort' ? this.abortId : this.bypassId);
      this.dropNested(member, 0);
    }
  }

  translates(sid: number): boolean {
    return this.members.some(({ device, nestedId }) => device.sid === sid && nestedId !== 0);
  }

  /** @returns how many were carried out; the host refuses the next one */
  invalidate(commands: readonly Uint32Array[]): number {
    const { client, iommufd } = this.port;
    const bytes = new Uint8Array(commands.length * COMMAND_BYTES);
    for (const [i, words] of commands.entries()) bytes.set(new Uint8Array(words.slice().buffer), i * COMMAND_BYTES);
    const values = {
      hwptId: this.viommuId,
      dataUptr: client.put(bytes),
      dataType: uapi.IOMMU_VIOMMU_INVALIDATE_DATA_ARM_SMMUV3,
      entryLen: COMMAND_BYTES,
      entryNum: commands.length,
    };
    return client.ioctlEvenRefused(iommufd, uapi.IOMMU_HWPT_INVALIDATE, uapi.HwptInvalidate, values).entryNum;
  }

  /** Everything goes, what uses another thing before it. The parent stays: it may be another slice's too. */
  close(): void {
    const { faults, teardown } = this.port;
    for (const member of this.members) {
      teardown.attempt(() => member.device.detach());
      this.dropNested(member, 0);
      this.dropVirtualId(member);
    }
    if (faults.destroyParentFirst) teardown.destroy(this.parentId);
    if (!faults.destroyViommuBeforeEvents) this.closeEvents();
    teardown.destroy(this.bypassId);
    teardown.destroy(this.abortId);
    if (!faults.destroyViommuBeforeQueues) this.closeQueues();
    teardown.destroy(this.viommuId);
    if (faults.destroyViommuBeforeQueues) this.closeQueues();
    if (faults.destroyViommuBeforeEvents) this.closeEvents();
  }

  private tryVintf(device: Passthrough): VintfSlice | null {
    try {
      return this.port.calls.allocVintf(device.devId, this.parentId);
    } catch (error) {
      if (error instanceof Refused && NO_QUEUES.includes(error.code)) return null;
      throw error;
    }
  }

  private closeQueues(): void {
    this.queues?.stopAll();
    this.queues?.unmap();
  }

  private pass(name: string, sink: EventSink, events: HostEvents | null): void {
    if (events) this.events.push({ events, thread: new EventThread(this.port, name, events, sink) });
  }

  private closeEvents(): void {
    const { client, faults, teardown } = this.port;
    for (const { events, thread } of this.events.splice(0)) {
      thread.end();
      if (faults.destroyEventsWhileOpen) teardown.destroy(events.id);
      client.close(events.fd);
      if (!faults.destroyEventsWhileOpen) teardown.destroy(events.id);
    }
  }

  /** The old HWPT is replaced in one step, and destroyed when nothing uses it. What the host takes for no STE aborts. */
  private translate(member: Member, ste: Uint32Array): void {
    const { faults } = this.port;
    if (faults.replaceThroughBypass && member.nestedId) {
      this.attach(member, this.bypassId);
      this.dropNested(member, 0);
    }
    const nestedId = this.tryNested(member.device, ste);
    this.attach(member, nestedId || this.abortId);
    this.dropNested(member, nestedId);
  }

  private tryNested(device: Passthrough, ste: Uint32Array): number {
    try {
      return this.allocNested(device, ste);
    } catch (error) {
      if (error instanceof Refused && error.code === 'EIO') return 0;
      throw error;
    }
  }

  private dropNested(member: Member, next: number): void {
    const old = member.nestedId;
    member.nestedId = next;
    if (old) this.port.teardown.destroy(old);
  }

  private attach(member: Member, ptId: number): void {
    if (member.device.attached !== ptId) member.device.attach(ptId);
  }

  private allocNested(device: Passthrough, ste: Uint32Array): number {
    const { client, iommufd } = this.port;
    const values = {
      devId: device.devId,
      ptId: this.viommuId,
      dataType: uapi.IOMMU_HWPT_DATA_ARM_SMMUV3,
      dataLen: STE_DATA_BYTES,
      dataUptr: client.put(new Uint8Array(ste.slice().buffer)),
    };
    return client.ioctl(iommufd, uapi.IOMMU_HWPT_ALLOC, uapi.HwptAlloc, values).outHwptId;
  }

  private setVirtualId(member: Member): void {
    const { calls, faults } = this.port;
    if (faults.skipVdevice) return;
    member.dropVirtualId = calls.setVirtualId(this.viommuId, member.device.devId, member.device.sid);
  }

  /** When the guest first configures the device: only then is its StreamID known, if nobody has looked at its bus number. */
  private setVirtualIdLate(member: Member): void {
    const again = this.port.faults.forgetSidZero && member.device.sid === 0;
    if (!member.dropVirtualId || again) this.setVirtualId(member);
  }

  private dropVirtualId(member: Member): void {
    if (member.dropVirtualId) this.port.teardown.attempt(member.dropVirtualId);
    member.dropVirtualId = null;
  }

  private member(sid: number): Member {
    const found = this.members.find(({ device }) => device.sid === sid);
    if (!found) throw new Error(`no device is at StreamID ${sid}`);
    return found;
  }
}

/** A guest's STE that says one thing for everything. */
function fixedSte(config: number): Uint32Array {
  const words = new Uint32Array(STE_WORDS);
  put(words, 0, STE.V, 1);
  put(words, 0, STE.Config, config);
  return words;
}
