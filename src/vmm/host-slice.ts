/**
 * The host's half of a virtual SMMU: a vIOMMU on the SMMU that the devices are behind, HWPTs that pass everything and
 * nothing, a vDEVICE and a nested HWPT for each device, and a vEVENTQ.
 */
import * as uapi from '../abi/iommufd.ts';
import { COMMAND_BYTES } from '../hardware/smmuv3/spec/commands.ts';
import { put } from '../hardware/smmuv3/spec/field.ts';
import { CONFIG_BYPASS, STE } from '../hardware/smmuv3/spec/ste.ts';
import { type Client, Refused } from './client.ts';
import type { Faults } from './faults.ts';
import type { Passthrough } from './passthrough.ts';
import type { Wish } from './smmu/stream-table.ts';
import type { Streams } from './smmu/virtual-smmu.ts';
import type { Teardown } from './teardown.ts';

const STE_WORDS = 4;
const STE_DATA_BYTES = 16;

interface EventFile {
  readonly id: number;
  readonly fd: number;
}

interface Member {
  readonly device: Passthrough;
  vdeviceId: number;
  nestedId: number;
}

export interface SlicePort {
  readonly client: Client;
  readonly iommufd: number;
  readonly faults: Faults;
  readonly teardown: Teardown;
}

export class HostSlice implements Streams {
  readonly viommuId: number;
  readonly parentId: number;
  private readonly port: SlicePort;
  private readonly abortId: number;
  private readonly bypassId: number;
  private events: EventFile | null;
  private readonly members: Member[];

  /** @param device one of those that will be behind it */
  constructor(port: SlicePort, parentId: number, device: Passthrough) {
    this.port = port;
    this.parentId = parentId;
    const { client, iommufd } = port;
    const values = { type: uapi.IOMMU_VIOMMU_TYPE_ARM_SMMUV3, devId: device.devId, hwptId: parentId };
    this.viommuId = client.ioctl(iommufd, uapi.IOMMU_VIOMMU_ALLOC, uapi.ViommuAlloc, values).outViommuId;
    this.abortId = this.allocNested(device, fixedSte(0));
    this.bypassId = this.allocNested(device, fixedSte(CONFIG_BYPASS));
    this.events = null;
    this.members = [];
  }

  /** Opens the vEVENTQ. A release that has none refuses it: faults of the guest's tables are then lost. */
  async openEvents(depth: number): Promise<void> {
    const { client, iommufd, faults } = this.port;
    if (faults.skipEventQueue) return;
    const type = uapi.IOMMU_VEVENTQ_TYPE_ARM_SMMUV3;
    const values = { viommuId: this.viommuId, type, veventqDepth: depth };
    try {
      const made = await client.ioctlLater(iommufd, uapi.IOMMU_VEVENTQ_ALLOC, uapi.VeventqAlloc, values);
      this.events = { id: made.outVeventqId, fd: made.outVeventqFd };
    } catch (error) {
      if (!(error instanceof Refused && error.code === 'ENOTTY')) throw error;
    }
  }

  /** Has `readable` called whenever events wait. */
  onEvents(readable: () => void): void {
    if (this.events) this.port.client.process.file(this.events.fd).onPollChange = readable;
  }

  readEvents(length: number): Uint8Array {
    return this.events ? this.port.client.read(this.events.fd, length) : new Uint8Array();
  }

  get sids(): readonly number[] {
    return this.members.map(({ device }) => device.sid);
  }

  /** Puts a device behind the vIOMMU, with its StreamID. What it is attached to comes by apply(). */
  add(device: Passthrough): void {
    const member = { device, vdeviceId: 0, nestedId: 0 };
    if (!this.port.faults.bypassBeforeVdevice) this.makeVdevice(member);
    this.members.push(member);
  }

  /** The guest has given the device another StreamID. Until it is configured there, it is refused everything. */
  rename(device: Passthrough, sid: number): void {
    const member = this.member(device.sid);
    this.attach(member, this.abortId);
    this.dropNested(member, 0);
    if (!this.port.faults.keepVdevice) this.dropVdevice(member);
    device.sid = sid;
    this.makeVdevice(member);
  }

  apply(sid: number, wish: Wish): void {
    const member = this.member(sid);
    if (this.port.faults.bypassBeforeVdevice && wish.kind === 'translate') this.makeVdeviceLate(member);
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
      this.dropVdevice(member);
    }
    if (faults.destroyParentFirst) teardown.destroy(this.parentId);
    if (!faults.destroyViommuBeforeEvents) this.closeEvents();
    teardown.destroy(this.bypassId);
    teardown.destroy(this.abortId);
    teardown.destroy(this.viommuId);
    if (faults.destroyViommuBeforeEvents) this.closeEvents();
  }

  private closeEvents(): void {
    const { client, faults, teardown } = this.port;
    const { events } = this;
    if (!events) return;
    this.events = null;
    if (faults.destroyEventsWhileOpen) teardown.destroy(events.id);
    client.close(events.fd);
    if (!faults.destroyEventsWhileOpen) teardown.destroy(events.id);
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

  private makeVdevice(member: Member): void {
    const { client, iommufd, faults } = this.port;
    if (faults.skipVdevice) return;
    const { devId, sid } = member.device;
    const values = { viommuId: this.viommuId, devId, virtId: BigInt(sid) };
    member.vdeviceId = client.ioctl(iommufd, uapi.IOMMU_VDEVICE_ALLOC, uapi.VdeviceAlloc, values).outVdeviceId;
  }

  /** When the guest first configures the device: only then is its StreamID known, if nobody has looked at its bus number. */
  private makeVdeviceLate(member: Member): void {
    const again = this.port.faults.forgetSidZero && member.device.sid === 0;
    if (member.vdeviceId === 0 || again) this.makeVdevice(member);
  }

  private dropVdevice(member: Member): void {
    if (member.vdeviceId) this.port.teardown.destroy(member.vdeviceId);
    member.vdeviceId = 0;
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
