import { describe, expect, it } from 'vitest';
import { fail } from '../abi/errno.ts';
import {
  Destroy,
  IOMMU_DESTROY,
  IOMMU_VEVENTQ_ALLOC,
  IOMMU_VIOMMU_ALLOC,
  IOMMU_HWPT_ALLOC_NEST_PARENT as NEST_PARENT,
  VeventqAlloc,
  ViommuAlloc,
} from '../abi/iommufd.ts';
import type { VeventEvent } from '../trace/events.ts';
import { IommufdDevice } from './device.ts';
import { type OpenFile, POLLIN } from './file.ts';
import { errnoName, errnoOf, Program, RecordingTracer } from './testing.ts';
import { FAKE_TYPE, FakeDevice, FakeIommu } from './testing-driver.ts';
import type { Viommu } from './viommu.ts';

const TYPE = 1;
const LOST = 1;

function setup() {
  const tracer = new RecordingTracer();
  const program = new Program({ tracer });
  const device = IommufdDevice.bind(program.context, new FakeDevice(new FakeIommu()), 'vfio0');
  const hwptId = program.hwpt(device.id, program.ioas(), NEST_PARENT);
  const values = { devId: device.id, hwptId, type: FAKE_TYPE };
  const { outViommuId: viommuId } = program.ok(IOMMU_VIOMMU_ALLOC, ViommuAlloc, values);
  const viommu = program.context.objects.find(viommuId) as Viommu;
  /** The driver reports a record of 32 bytes. */
  const event = (value: number) => viommu.driver.onEvent!(TYPE, new Uint8Array(32).fill(value));
  const alloc = (depth = 2, more = {}) =>
    program.okAsync(IOMMU_VEVENTQ_ALLOC, VeventqAlloc, { viommuId, type: TYPE, veventqDepth: depth, ...more });
  const file = (fd: number) => program.process.fileOf(fd)!;
  /** read(2) as a list of [flags, sequence, first byte of the data if any]; an errno's name instead. */
  const read = (fd: number, count = 4096): number[][] | string => {
    const to = program.put(new Uint8Array(2048), 0x800);
    const done = errnoOf(() => file(fd).read(program.process, to, count, null));
    if (done < 0) return errnoName(done);
    const bytes = new Uint8Array(done);
    program.process.memory.read(Number(to), bytes);
    const view = new DataView(bytes.buffer);
    const records: number[][] = [];
    for (let at = 0; at < done; ) {
      const [flags, sequence] = [view.getUint32(at, true), view.getUint32(at + 4, true)];
      records.push(flags & LOST ? [flags, sequence] : [flags, sequence, bytes[at + 8]!]);
      at += flags & LOST ? 8 : 40;
    }
    return records;
  };
  const destroy = (id: number) => program.err(IOMMU_DESTROY, Destroy, { id });
  return { program, tracer, viommuId, viommu, device, event, alloc, file, read, destroy };
}

describe('VEVENTQ_ALLOC', () => {
  it('checks flags and type, depth, vIOMMU, and that the type is new to the vIOMMU', async () => {
    const { program, viommuId, alloc } = setup();
    const err = (values: object) =>
      program.err(IOMMU_VEVENTQ_ALLOC, VeventqAlloc, { viommuId, type: TYPE, veventqDepth: 1, ...values });
    expect(err({ flags: 1, veventqDepth: 0 })).toBe('EOPNOTSUPP');
    expect(err({ reserved: 1 })).toBe('EOPNOTSUPP');
    expect(err({ type: 0, veventqDepth: 0 })).toBe('EOPNOTSUPP');
    expect(err({ veventqDepth: 0, viommuId: 99 })).toBe('EINVAL');
    expect(err({ viommuId: 99 })).toBe('ENOENT');
    await alloc();
    expect(err({})).toBe('EEXIST');
    expect((await alloc(1, { type: 2 })).outVeventqId).toBe(6);
  });

  it('holds the vIOMMU, and is itself in use until its descriptor is closed', async () => {
    const { program, viommuId, alloc, destroy } = setup();
    const { outVeventqId, outVeventqFd } = await alloc();
    expect(destroy(outVeventqId)).toBe('EBUSY');
    expect(destroy(viommuId)).toBe('EBUSY');
    program.process.closeFd(outVeventqFd);
    expect([destroy(outVeventqId), destroy(viommuId)]).toEqual(['', '']);
    await expect(alloc()).rejects.toThrow('ENOENT');
  });

  it('keeps the iommufd open through its descriptor', async () => {
    const { program, device, alloc, event, read } = setup();
    const { outVeventqFd } = await alloc();
    device.unbind();
    program.close();
    event(1);
    expect(read(outVeventqFd)).toEqual([[0, 0, 1]]);
    program.process.closeFd(outVeventqFd);
    expect(program.context.objects.counts()).toEqual({});
  });

  it('leaves nothing when no descriptor can be opened, whether at once or later', async () => {
    const { program, viommu, alloc } = setup();
    program.process.onOpen = () => {
      throw fail('EMFILE', 'too many');
    };
    await expect(alloc()).rejects.toThrow('EMFILE');
    program.process.onOpen = () => Promise.reject(new Error('the process is gone'));
    await expect(alloc()).rejects.toThrow('gone');
    expect(program.context.objects.counts().veventq).toBeUndefined();
    expect([viommu.users, viommu.eventQueues.size]).toEqual([0, 0]);
  });

  it('closes the descriptor when the answer cannot be written', async () => {
    const { program, viommu, alloc } = setup();
    const onOpen = (file: OpenFile) => {
      program.process.files.set(9, file);
      program.process.memory.protect(program.scratch, 64);
      return Promise.resolve(9);
    };
    program.process.onOpen = onOpen;
    await expect(alloc()).rejects.toThrow('EFAULT');
    expect(program.process.files.size).toBe(0);
    expect(viommu.users).toBe(0);
  });

  it('undoes itself when the process closes everything while the descriptor is being opened', async () => {
    const { program, device, alloc } = setup();
    let refuse!: (error: Error) => void;
    program.process.onOpen = () => new Promise((_, reject) => (refuse = reject));
    const pending = alloc();
    device.unbind();
    program.close();
    expect(program.context.objects.counts()).toEqual({ ioas: 1, 'hwpt-paging': 1, viommu: 1 });
    refuse(new Error('the process is gone'));
    await expect(pending).rejects.toThrow('gone');
    expect(program.context.objects.size).toBe(0);
  });
});

describe('the descriptor of a vEVENTQ', () => {
  it('gives header and record of each event, numbered from 0, and nothing when there is none', async () => {
    const { alloc, event, read } = setup();
    const { outVeventqFd: fd } = await alloc(8);
    expect(read(fd)).toEqual([]);
    event(7);
    event(8);
    expect(read(fd)).toEqual([
      [0, 0, 7],
      [0, 1, 8],
    ]);
    event(9);
    expect(read(fd)).toEqual([[0, 2, 9]]);
  });

  it('gives whole records only, as many as fit', async () => {
    const { alloc, event, read } = setup();
    const { outVeventqFd: fd } = await alloc(8);
    for (const value of [1, 2, 3]) event(value);
    expect(read(fd, 0)).toEqual([]);
    expect(read(fd, 39)).toEqual([]);
    expect(read(fd, 79)).toEqual([[0, 0, 1]]);
    expect(read(fd, 80)).toEqual([
      [0, 1, 2],
      [0, 2, 3],
    ]);
  });

  it('ends with LOST_EVENTS when it was full, until another event comes', async () => {
    const { alloc, event, read } = setup();
    const { outVeventqFd: fd } = await alloc(2);
    for (const value of [1, 2, 3, 4]) event(value);
    expect(read(fd, 40)).toEqual([[0, 0, 1]]);
    expect(read(fd)).toEqual([
      [0, 1, 2],
      [LOST, 3],
    ]);
    for (const value of [5, 6, 7]) event(value);
    expect(read(fd, 40)).toEqual([[0, 4, 5]]);
    event(8);
    expect(read(fd)).toEqual([
      [0, 5, 6],
      [0, 7, 8],
    ]);
  });

  it('gives the LOST_EVENTS header alone where only that fits', async () => {
    const { alloc, event, read } = setup();
    const { outVeventqFd: fd } = await alloc(1);
    event(1);
    event(2);
    expect(read(fd, 47)).toEqual([[0, 0, 1]]);
    expect(read(fd, 7)).toEqual([]);
    expect(read(fd, 8)).toEqual([[LOST, 1]]);
    expect(read(fd)).toEqual([]);
  });

  it('is readable while an event or LOST_EVENTS waits, says so for each event, and when that ends', async () => {
    const { alloc, event, read, file } = setup();
    const { outVeventqFd: fd } = await alloc(1);
    const changes: number[] = [];
    file(fd).onPollChange = () => changes.push(file(fd).pollMask);
    expect(file(fd).pollMask).toBe(0);
    event(1);
    event(2);
    read(fd, 40);
    expect(file(fd).pollMask).toBe(POLLIN);
    read(fd);
    expect(changes).toEqual([POLLIN, POLLIN, 0]);
  });

  it('keeps an event that could not be written, and counts its header if that could', async () => {
    const { program, alloc, event, read, file } = setup();
    const { outVeventqFd: fd } = await alloc(8);
    event(1);
    expect(errnoOf(() => file(fd).read(program.process, 8n, 64, null))).toBe(-14);
    const end = BigInt(program.process.memory.base + program.process.memory.bytes.length);
    expect(file(fd).read(program.process, end - 8n, 64, null)).toBe(8);
    expect(read(fd)).toEqual([[0, 0, 1]]);
  });

  it('has no positions, takes no data, no ioctl, no mmap', async () => {
    const { program, alloc, file } = setup();
    const f = file((await alloc()).outVeventqFd);
    const p = program.process;
    const code = (call: () => number) => errnoName(errnoOf(call));
    expect(code(() => f.read(p, program.base, 64, 0n))).toBe('ESPIPE');
    expect(code(() => f.write(p, program.base, 64, 0n))).toBe('ESPIPE');
    expect(code(() => f.write(p, program.base, 64, null))).toBe('EINVAL');
    expect(code(() => f.ioctl(p, IOMMU_DESTROY, program.base) as number)).toBe('ENOTTY');
    expect(() => f.mmap(p, 4096n, 1, 1, 0n)).toThrow('ENODEV');
  });

  it('numbers events up to 2^31 - 1 and then from 0', async () => {
    const { program, alloc, event, read } = setup();
    const { outVeventqFd: fd, outVeventqId } = await alloc(8);
    Object.assign(program.context.objects.find(outVeventqId)!, { sequence: 2 ** 31 - 1 });
    event(1);
    event(2);
    expect(read(fd)).toEqual([
      [0, 2 ** 31 - 1, 1],
      [0, 0, 2],
    ]);
  });

  it('traces each event, lost ones too; events of another type go nowhere', async () => {
    const { tracer, viommu, alloc, event, viommuId } = setup();
    event(0);
    await alloc(1);
    event(1);
    event(2);
    viommu.driver.onEvent!(99, new Uint8Array(32));
    const events = tracer.events.filter((e): e is VeventEvent => e.type === 'vevent');
    expect(events).toMatchObject([
      { viommu: viommuId, queue: 5, sequence: 0, lost: false, words: new Array(8).fill(0x01010101) },
      { sequence: 1, lost: true },
    ]);
  });
});
