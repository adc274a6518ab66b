/** ADD_RESERVED and SET_TEMP_MEMORY_LIMIT. */
import { fail } from '../../abi/errno.ts';
import { TestAddReserved, TestMemoryLimit } from '../../abi/iommufd-test.ts';
import { hex } from '../format.ts';
import { Ioas } from '../ioas.ts';
import { U64_MAX } from '../u64.ts';
import type { Operation } from './test-command.ts';

/** Reserved until the IOAS ends. */
export const addReserved: Operation = ({ context }, { id }, payload) => {
  const { start, length } = new TestAddReserved(payload);
  if (length === 0n) throw fail('EINVAL', 'length is 0');
  const last = start + length - 1n;
  if (last > U64_MAX) throw fail('EOVERFLOW', `start ${hex(start)} + length ${hex(length)} overflows 64 bits`);
  const { table } = context.objects.get(id, Ioas, 'id');
  table.reserve(start, last, table);
};

/** A kernel's buffer must hold a frame number and a count. */
const SMALLEST_LIMIT = 12;

/** A kernel works through pages in buffers of this size; ours need none, so that every limit is obeyed. */
export const setTemporaryMemoryLimit: Operation = (_command, _cmd, payload) => {
  const { limit } = new TestMemoryLimit(payload);
  if (limit < SMALLEST_LIMIT) throw fail('EINVAL', `limit ${limit} is less than ${SMALLEST_LIMIT}`);
};
