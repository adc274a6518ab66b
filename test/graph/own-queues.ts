/** Queues of a CMDQV as a guest uses them: its commands go to the hardware, and nobody is called. */
import { mappedRegisters } from '../../src/iommufd/file.ts';
import { QUEUE } from '../host/cmdqv.ts';
import { commandBytes, commands, type GuestCommand } from '../host/guest.ts';
import { byteOf, parts } from './mapping-rules.ts';
import type { Area, HwQueue, Viommu } from './model.ts';
import type { World } from './world.ts';

const COMMAND_BYTES = 16;
/** A page of them. */
const COMMANDS = 256;
const ERROR = 1;

/** The first queue of a vIOMMU whose region is mapped, if its page is a guest's to write. */
export function ownQueue(world: World, viommu: Viommu): HwQueue | null {
  if (world.isMock || !viommu.mapped) return null;
  const queue = viommu.context.all('hw-queue').find((each) => each.viommu === viommu && each.index === 0);
  const found = queue && parts(queue.access.ioas, queue.pin);
  return queue && found !== 'ENOENT' && isSpare(world, found![0]!.area) ? queue : null;
}

/** Not where a guest has its tables, nor of a process that is gone. */
function isSpare(world: World, { memory }: Area): boolean {
  if (memory.kind === 'file') return true;
  const owner = world.processes.find((process) => process.memory === memory.object);
  return owner !== undefined && memory.base < owner.imageBase;
}

/** Writes the commands and a CMD_SYNC, rings, and finds all of them consumed. */
export function submit(world: World, queue: HwQueue, list: readonly GuestCommand[]): void {
  const page = mappedRegisters(world.mappings.get(queue.viommu)!)!;
  const word = new Uint8Array(4);
  const view = new DataView(word.buffer);
  const load = (register: number): number => {
    page.load(register, word);
    return view.getUint32(0, true);
  };
  const store = (register: number, value: number): void => {
    view.setUint32(0, value, true);
    page.store(register, word);
  };
  store(QUEUE.CONFIG, 1);
  const first = load(QUEUE.PROD);
  const all = [...list, commands.sync()];
  for (const [n, command] of all.entries()) put(queue, (first + n) % COMMANDS, commandBytes([command]));
  const end = (first + all.length) % (2 * COMMANDS);
  store(QUEUE.PROD, end);
  const [consumed, error] = [load(QUEUE.CONS), (load(QUEUE.GERROR) ^ load(QUEUE.GERRORN)) & ERROR];
  if (error || (consumed & 0xf_ffff) !== end) throw new Error(`CONS is 0x${consumed.toString(16)}, and PROD ${end}`);
}

function put({ access, pin }: HwQueue, slot: number, bytes: Uint8Array): void {
  const found = parts(access.ioas, pin) as Exclude<ReturnType<typeof parts>, 'ENOENT'>;
  const { area, start } = found[0]!;
  const { memory } = area;
  memory.object.write(memory.base + Number(byteOf(area, start)) + slot * COMMAND_BYTES, bytes);
}
