/** From an ioctl number to its handler: the one table, and what is the same for every command. */
import { COMMAND_BUFFER_SIZE, type CommandLayout } from '../abi/dialects.ts';
import { fail } from '../abi/errno.ts';
import { IOMMUFD_CMD_BASE } from '../abi/ioctl.ts';
import { IOMMU_TEST_CMD } from '../abi/iommufd-test.ts';
import { TYPE1_COMMANDS } from '../abi/vfio-commands.ts';
import { ioasChangeProcess } from './change-process.ts';
import { Command, type Handler } from './command.ts';
import type { IommufdContext } from './context.ts';
import { destroy } from './destroy.ts';
import { hwptGetDirtyBitmap, hwptSetDirtyTracking } from './dirty-tracking.ts';
import { faultQueueAlloc } from './fault-queue.ts';
import type { ClientProcess } from './file.ts';
import { hex } from './format.ts';
import { getHwInfo } from './hw-info.ts';
import { hwQueueAlloc } from './hw-queue.ts';
import { hwptAlloc } from './hwpt-alloc.ts';
import { hwptInvalidate } from './invalidate.ts';
import { ioasAlloc, ioasAllowIovas, ioasCopy, ioasIovaRanges, ioasMap, ioasUnmap } from './ioas.ts';
import { ioasMapFile } from './map-file.ts';
import { option } from './option.ts';
import { traced, tracedIoctl } from './traced.ts';
import { copyStruct, readUser } from './user-memory.ts';
import { vdeviceAlloc, viommuSetVdevId, viommuUnsetVdevId } from './vdevice.ts';
import { veventqAlloc } from './veventq.ts';
import { type1Ioctl } from './vfio-compat/type1.ts';
import { vfioIoas } from './vfio-ioas.ts';
import { viommuAlloc } from './viommu.ts';
import { virqAlloc } from './virq.ts';
import { vqueueAlloc } from './vqueue.ts';

/** By name and not by number: numbers mean different commands in different dialects. */
const HANDLERS: Readonly<Record<string, Handler>> = {
  IOMMU_DESTROY: destroy,
  IOMMU_FAULT_QUEUE_ALLOC: faultQueueAlloc,
  IOMMU_GET_HW_INFO: getHwInfo,
  IOMMU_HWPT_ALLOC: hwptAlloc,
  IOMMU_HWPT_GET_DIRTY_BITMAP: hwptGetDirtyBitmap,
  IOMMU_HWPT_INVALIDATE: hwptInvalidate,
  IOMMU_HWPT_SET_DIRTY_TRACKING: hwptSetDirtyTracking,
  IOMMU_HW_QUEUE_ALLOC: hwQueueAlloc,
  IOMMU_IOAS_ALLOC: ioasAlloc,
  IOMMU_IOAS_ALLOW_IOVAS: ioasAllowIovas,
  IOMMU_IOAS_CHANGE_PROCESS: ioasChangeProcess,
  IOMMU_IOAS_COPY: ioasCopy,
  IOMMU_IOAS_IOVA_RANGES: ioasIovaRanges,
  IOMMU_IOAS_MAP: ioasMap,
  IOMMU_IOAS_MAP_FILE: ioasMapFile,
  IOMMU_IOAS_UNMAP: ioasUnmap,
  IOMMU_OPTION: option,
  IOMMU_VDEVICE_ALLOC: vdeviceAlloc,
  IOMMU_VEVENTQ_ALLOC: veventqAlloc,
  IOMMU_VFIO_IOAS: vfioIoas,
  IOMMU_VIOMMU_ALLOC: viommuAlloc,
  IOMMU_VIOMMU_SET_VDEV_ID: viommuSetVdevId,
  IOMMU_VIOMMU_UNSET_VDEV_ID: viommuUnsetVdevId,
  IOMMU_VIRQ_ALLOC: virqAlloc,
  IOMMU_VQUEUE_ALLOC: vqueueAlloc,
};

/** Number of the struct's bytes that are told before anything about it is known: its size. */
const SIZE_BYTES = 4;

const NO_BYTES = new Uint8Array();

/** What the trace tells of the call, filled in as far as it comes. */
interface Call {
  struct: string;
  before: Uint8Array;
  after: Uint8Array;
}

export function dispatch(
  context: IommufdContext,
  caller: ClientProcess,
  command: number,
  address: bigint,
): number | Promise<number> {
  const { tracer } = context.host;
  if (!isIommufd(context, command)) {
    const struct = TYPE1_COMMANDS.get(command)?.struct ?? null;
    const traceCall = { file: context.path, command, struct, arg: address };
    return tracedIoctl(tracer, caller, traceCall, () => type1Ioctl(context, caller, command, address));
  }
  const call: Call = { struct: '', before: NO_BYTES, after: NO_BYTES };
  return traced(
    tracer,
    () => execute(context, caller, command, address, tracer.on ? call : null),
    (result, reason) => ({ type: 'ioctl', pid: caller.pid, file: context.path, command, ...call, result, reason }),
  );
}

/** Its low byte alone says whose a number is. */
function isIommufd({ lastCommand }: IommufdContext, command: number): boolean {
  const nr = command & 0xff;
  return nr >= IOMMUFD_CMD_BASE && nr <= lastCommand;
}

function execute(
  context: IommufdContext,
  caller: ClientProcess,
  number: number,
  address: bigint,
  call: Call | null,
): number | Promise<number> {
  const sizeBytes = new Uint8Array(SIZE_BYTES);
  readUser(caller.memory, address, sizeBytes);
  const size = new DataView(sizeBytes.buffer).getUint32(0, true);

  const layout = context.dialect.commands.get(number & 0xff);
  if (layout?.command !== number) throw fail('ENOTTY', `${hex(number)} is no command of ${context.dialect.name}`);
  if (call) call.struct = layout.struct!.structName;
  const bytes = copyCommand(caller, address, size, layout);
  if (call) {
    call.before = bytes.slice(0, layout.size);
    call.after = bytes.subarray(0, layout.size);
  }
  return run(new Command(context, caller, address, bytes, Math.min(size, layout.size)), handlerOf(context, layout));
}

/** The struct by the size rules, with room for the newest layout of any command. */
function copyCommand(caller: ClientProcess, address: bigint, size: number, layout: CommandLayout): Uint8Array {
  if (size < layout.minimumSize) throw fail('EINVAL', `size ${size} is less than ${layout.minimumSize}`);
  const bytes = new Uint8Array(COMMAND_BUFFER_SIZE);
  copyStruct(caller.memory, address, size, bytes.subarray(0, layout.size));
  return bytes;
}

function handlerOf({ host }: IommufdContext, layout: CommandLayout): Handler {
  const handler = layout.command === IOMMU_TEST_CMD ? host.testCommand : HANDLERS[layout.name];
  if (!handler) throw new Error(`${layout.name} has no handler`);
  return handler;
}

/** What the handler made is published or destroyed, as the ioctl ends. */
function run(command: Command, handler: Handler): number | Promise<number> {
  const { objects } = command.context;
  const publish = (): number => {
    if (command.created) objects.publish(command.created);
    return command.result;
  };
  const abort = (error: unknown): never => {
    if (command.created) objects.abort(command.created);
    throw error;
  };
  let pending: void | Promise<void>;
  try {
    pending = handler(command);
  } catch (error) {
    return abort(error);
  }
  if (!pending) return publish();
  // The caller may die meanwhile and take the last descriptor along: the objects stay until the call has ended.
  command.context.hold();
  return pending.then(publish, abort).finally(() => command.context.drop());
}
