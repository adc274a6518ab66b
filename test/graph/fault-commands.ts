/** Fault queues: made, filled by devices, read and answered through their descriptors. */
import * as uapi from '../../src/abi/iommufd.ts';
import * as test from '../../src/abi/iommufd-test.ts';
import { type Command, caller, hex } from './command.ts';
import { checkMoved } from './dma-commands.ts';
import { mapPlan, userPiece } from './ioas-commands.ts';
import { type FaultQueue, PAGE, pagingOf, type Request, type Transfer, tablesOf } from './model.ts';
import { attachedTo, reach } from './reach.ts';
import type { World } from './world.ts';

const { size: RECORD } = uapi.HwptPgfault;

export const faultQueueAlloc: Command = (world, pick) => {
  const by = caller(world, pick);
  if (!by || !world.speaks('IOMMU_FAULT_QUEUE_ALLOC') || by.context.all('fault-queue').length >= 3) return null;
  const { context, process } = by;
  const id = context.freeId();
  let [answer, fd] = [0, 0];
  return {
    text: 'FAULT_QUEUE_ALLOC',
    expected: '',
    undone: true,
    call: async () => {
      const { IOMMU_FAULT_QUEUE_ALLOC: number, FaultAlloc: layout } = uapi;
      const { errno, s } = await world.ioctl(process, context.engine, number, layout, {});
      [answer, fd] = [s.outFaultId, s.outFaultFd];
      return errno;
    },
    apply: () => {
      if (answer !== id) throw new Error(`ID ${answer}, not ${id}`);
      const queue: FaultQueue = { kind: 'fault-queue', id, context, pending: [], delivered: new Map() };
      world.opened(process, fd, context.add(queue));
    },
  };
};

export const triggerIopf: Command = (world, pick) => {
  const by = caller(world, pick);
  const devices = by?.context.all('device') ?? [];
  const faulting = devices.filter((device) => tablesOf(device).some(({ fault }) => fault));
  const device = pick.of(pick.oneIn(4) ? devices : faulting);
  if (!by || !device || !world.isMock) return null;
  const { context, process } = by;
  const pasid = pick.from([0, 1, 2]);
  const { attachments } = device.group;
  const alone = attachments.get(0);
  const attachment = pasid ? (attachments.get(pasid) ?? (alone?.hwpt.kind === 'hwpt-nested' ? alone : null)) : alone;
  return {
    text: `TRIGGER_IOPF of device ${device.id}, PASID ${pasid}`,
    expected: '',
    call: async () => {
      const { IOMMU_TEST_OP_TRIGGER_IOPF: op, TestTriggerIopf: layout } = test;
      return (await world.test(process, context, op, 0, layout, { devId: device.id, pasid, grpid: 1, perm: 1 })).errno;
    },
    apply: () => void attachment?.hwpt.fault?.pending.push({ attachment, transfer: null }),
  };
};

/** Poll tells whether there is something; a read gives all of it. */
export const faultRead: Command = (world, pick) => {
  const all = world.descriptorsOf('fault-queue');
  const descriptor = pick.of(pick.oneIn(4) ? all : all.filter(({ what }) => what.pending.length));
  if (!descriptor) return null;
  const { process, file, what: queue } = descriptor;
  const room = pick.oneIn(3) ? 1 : 8;
  let bytes = 0;
  return {
    text: `read of fault queue ${queue.id}`,
    expected: '',
    call: () =>
      world.errnoOf(() => {
        const readable = (file.pollMask & 1) !== 0;
        if (readable !== queue.pending.length > 0) throw new Error(`poll says ${readable}`);
        bytes = file.read(process, BigInt(process.scratch), room * RECORD, null);
      }),
    apply: () => {
      const read = queue.pending.splice(0, room);
      if (bytes !== read.length * RECORD) throw new Error(`${bytes} bytes read of ${read.length} requests`);
      for (const [n, request] of read.entries()) {
        const record = new uapi.HwptPgfault(new Uint8Array(RECORD));
        process.memory.read(process.scratch + n * RECORD, record.bytes);
        let cookie = 1;
        while (queue.delivered.has(cookie)) cookie++;
        queue.delivered.set(cookie, request);
        if (record.cookie !== cookie || record.devId !== request.attachment.spokesman.id)
          throw new Error(`record ${record.bytes}`);
        if (request.transfer) checkRecord(record, request.transfer);
      }
    },
  };
};

/** Who asked, and for what: PASID_VALID and LAST_PAGE, READ or WRITE. Page requests are for a page. */
function checkRecord(record: InstanceType<typeof uapi.HwptPgfault>, transfer: Transfer): void {
  const { device, substream, iova, write } = transfer;
  const address = device.asksBy === 'stalls' ? iova : iova - (iova % PAGE);
  const wanted = [substream === null ? 2 : 3, substream ?? 0, write ? 2 : 1, address];
  const { flags, pasid, perm, addr } = record;
  if (String([flags, pasid, perm, addr]) !== String(wanted)) {
    throw new Error(`the record has ${[flags, pasid, perm, addr]}, and ${wanted} is meant`);
  }
}

/** What becomes of DMA that waited, when its request is answered: it tries again, or ends. */
function answered(world: World, request: Request, granted: boolean): void {
  const { transfer, attachment } = request;
  // Nobody waits any more when the device was reset.
  if (!transfer || !world.transfers.includes(transfer)) return;
  const next = granted ? retried(transfer) : 'refused';
  if (next !== 'waiting') {
    world.over(transfer, next);
    if (next === 'done') checkMoved(transfer);
    return;
  }
  if (!transfer.channel.waiting) throw new Error(`DMA that asks again is ${transfer.channel.outcome}`);
  transfer.tries++;
  attachment.hwpt.fault!.pending.push(request);
}

/** So often a device asks for one page. */
const MOST_TRIES = 8;

function retried({ device, substream, iova, write, tries }: Transfer): 'done' | 'refused' | 'waiting' {
  const { outcome } = reach(device, substream, iova, write ? 'write' : 'read');
  const tired = device.asksBy === 'requests' && tries === MOST_TRIES;
  return outcome === 'waiting' && tired ? 'refused' : (outcome as 'done');
}

/** Is it clear what a retry meets? */
const isClear = ({ transfer }: Request): boolean =>
  !transfer ||
  reach(transfer.device, transfer.substream, transfer.iova, transfer.write ? 'write' : 'read').outcome !== 'unknown';

export const faultRespond: Command = (world, pick) => {
  const all = world.descriptorsOf('fault-queue');
  const descriptor = pick.of(pick.oneIn(8) ? all : all.filter(({ what }) => what.delivered.size));
  if (!descriptor) return null;
  const { process, file, what: queue } = descriptor;
  const known = pick.of([...queue.delivered.keys()]);
  if (known === undefined && !pick.oneIn(8)) return null;
  const request = queue.delivered.get(known ?? 0);
  if (request && !isClear(request)) return null;
  const code = pick.oneIn(3) ? 1 : 0;
  const again = request?.transfer && !code ? retried(request.transfer) : 'refused';
  return {
    text: `write of cookie ${known} with code ${code} to fault queue ${queue.id}`,
    expected: known === undefined ? 'EINVAL' : '',
    counts: request?.transfer ? [`DMA that waited ${again}`] : [],
    call: () => {
      const response = Object.assign(new uapi.HwptPageResponse(), { cookie: known ?? 77, code });
      return world.errnoOf(() => file.write(process, process.put(response.bytes), response.bytes.length, null));
    },
    apply: () => {
      queue.delivered.delete(known!);
      answered(world, request!, code === 0);
    },
  };
};

/** Maps the page that DMA waits for, as programs do before they answer; so it is where the page is only not mapped. */
export const bringPage: Command = (world, pick) => {
  const transfer = pick.of(world.transfers);
  const process = pick.of(world.processes);
  const hwpt = transfer && attachedTo(transfer.device, transfer.substream);
  if (!process || !hwpt || (hwpt.kind === 'hwpt-nested' && hwpt.config === 'stage1') || world.filesOnly) return null;
  const { context } = transfer.device;
  const { ioas } = pagingOf(hwpt);
  const iova = transfer.iova - (transfer.iova % PAGE);
  const piece = userPiece({ context, process }, pick, PAGE);
  const text = `IOAS_MAP of the page at ${hex(iova)} of IOAS ${ioas.id}, which DMA waits for`;
  return mapPlan(world, { context, process }, ioas, [piece], { ...piece, fixed: iova, prot: 3 }, text, async () => {
    const values = { flags: 7, ioasId: ioas.id, userVa: piece.address, length: PAGE, iova };
    const { errno, s } = await world.ioctl(process, context.engine, uapi.IOMMU_IOAS_MAP, uapi.IoasMap, values);
    return { errno, iova: s.iova };
  });
};

/** vEVENTQs and VIRQs: a read gives records or nothing, and changes no graph. */
export const eventRead: Command = (world, pick) => {
  const descriptor = pick.of(world.descriptorsOf('veventq', 'virq'));
  if (!descriptor) return null;
  const { process, file } = descriptor;
  return {
    text: `read of ${descriptor.what.kind} ${descriptor.what.id}`,
    expected: '',
    call: () => world.errnoOf(() => file.read(process, BigInt(process.scratch), 256, null)),
    apply: () => {},
  };
};
