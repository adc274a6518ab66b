/** Memory of the calling process, to be mapped. */
import { fail } from '../abi/errno.ts';
import type { IommufdContext } from './context.ts';
import type { ClientProcess } from './file.ts';
import { hex } from './format.ts';
import { type Piece, pieceOf } from './pages.ts';
import { U64_MAX } from './u64.ts';

/** EOVERFLOW when `address` + `length` leaves the 64-bit space, EINVAL when there is nothing or too much to map. */
export function userPiece(
  context: IommufdContext,
  caller: ClientProcess,
  address: bigint,
  length: bigint,
  writable: boolean,
): Piece {
  if (address + length > U64_MAX) {
    throw fail('EOVERFLOW', `user address ${hex(address)} + length ${hex(length)} overflows 64 bits`);
  }
  const { pinned } = context.host;
  const charge = context.charge(caller);
  return pieceOf({ pinned, kind: 'user', source: caller.memory, writable, charge }, address, length);
}
