/**
 * Registers of a device that the program has mapped, mapped for DMA of a device in turn: what VFIO's own container allows
 * and iommufd does not. The IOMMU leads to them as to memory, whatever becomes of the program's mapping. To a BAR by its
 * physical address: only there are writes posted, so that devices that write into one another do not call one another.
 */
import { Errno } from '../../abi/errno.ts';
import { type MemoryRun, ownPages, type PageSource } from '../../memory/process-memory.ts';
import type { IommufdContext } from '../context.ts';
import type { ClientProcess, MappedRegisters } from '../file.ts';
import { type Piece, pieceOf } from '../pages.ts';

/** So that a register has one frame, however often it is mapped. */
const known = new WeakMap<MappedRegisters, RegisterPages>();

class RegisterPages implements PageSource {
  readonly firstFrame?: number;
  private readonly registers: MappedRegisters;

  constructor(registers: MappedRegisters) {
    this.registers = registers;
    if (registers.frame !== undefined) this.firstFrame = registers.frame;
  }

  get name(): string {
    return this.registers.name;
  }

  read(address: number, into: Uint8Array): boolean {
    return isAnswered(() => this.registers.load(address, into));
  }

  write(address: number, from: Uint8Array): boolean {
    return isAnswered(() => this.registers.store(address, from));
  }

  resolve(address: number, length: number): readonly MemoryRun[] | null {
    return address + length <= this.registers.length ? ownPages(this, address, length) : null;
  }
}

function isAnswered(access: () => void): boolean {
  try {
    access();
    return true;
  } catch (error) {
    if (error instanceof Errno) return false;
    throw error;
  }
}

/** The registers at `address` of the program; null when there is something else. */
export function registerPiece(
  { host: { pinned } }: IommufdContext,
  caller: ClientProcess,
  address: bigint,
  length: bigint,
): Piece | null {
  const found = caller.registersAt?.(address, length);
  if (!found) return null;
  const { registers, offset } = found;
  let source = known.get(registers);
  if (!source) known.set(registers, (source = new RegisterPages(registers)));
  return pieceOf({ pinned, kind: 'user', source, writable: true }, BigInt(offset), length);
}
