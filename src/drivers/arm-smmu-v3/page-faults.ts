/** Page requests on their way up, from stalled transactions (7.3) and PRI messages (8), and their answers on the way down. */
import {
  IOMMU_PGFAULT_FLAGS_LAST_PAGE,
  IOMMU_PGFAULT_FLAGS_PASID_VALID,
  IOMMU_PGFAULT_PERM_EXEC,
  IOMMU_PGFAULT_PERM_PRIV,
  IOMMU_PGFAULT_PERM_READ,
  IOMMU_PGFAULT_PERM_WRITE,
  IOMMUFD_PAGE_RESP_SUCCESS,
} from '../../abi/iommufd.ts';
import {
  CMD,
  CMD_PRI_RESP,
  CMD_RESUME,
  COMMAND_WORDS,
  RESP_FAILURE,
  RESP_INVALID,
  RESP_SUCCESS,
} from '../../hardware/smmuv3/spec/commands.ts';
import { EVENT } from '../../hardware/smmuv3/spec/events.ts';
import { type Field, get, getWide, put } from '../../hardware/smmuv3/spec/field.ts';
import { PAGE_REQUEST } from '../../hardware/smmuv3/spec/page-requests.ts';
import type { PageRequest } from '../iommu-driver.ts';
import type { CommandBatch } from './commands.ts';

/** The event record of a stalled transaction as a page request: a group of its own, by its tag. */
export function requestOfStall(event: Uint32Array): PageRequest {
  const is = (field: Field, flag: number): number => (get(event, 0, field) ? flag : 0);
  return {
    flags: IOMMU_PGFAULT_FLAGS_LAST_PAGE | is(EVENT.SSV, IOMMU_PGFAULT_FLAGS_PASID_VALID),
    pasid: get(event, 0, EVENT.SSV) ? get(event, 0, EVENT.SubstreamID) : 0,
    group: get(event, 0, EVENT.STAG),
    permissions:
      (get(event, 0, EVENT.RnW) ? IOMMU_PGFAULT_PERM_READ : IOMMU_PGFAULT_PERM_WRITE) |
      is(EVENT.InD, IOMMU_PGFAULT_PERM_EXEC) |
      is(EVENT.PnU, IOMMU_PGFAULT_PERM_PRIV),
    address: getWide(event, 0, EVENT.InputAddr),
  };
}

/** An entry of the PRI queue; null for a Stop PASID marker, which nobody answers. */
export function requestOfMessage(entry: Uint32Array): PageRequest | null {
  const is = (field: Field, flag: number): number => (get(entry, 0, field) ? flag : 0);
  const accesses = is(PAGE_REQUEST.Read, IOMMU_PGFAULT_PERM_READ) | is(PAGE_REQUEST.Write, IOMMU_PGFAULT_PERM_WRITE);
  const pasid = is(PAGE_REQUEST.SSV, IOMMU_PGFAULT_FLAGS_PASID_VALID);
  const last = is(PAGE_REQUEST.Last, IOMMU_PGFAULT_FLAGS_LAST_PAGE);
  if (last && pasid && !accesses) return null;
  return {
    flags: last | pasid,
    pasid: pasid ? get(entry, 0, PAGE_REQUEST.SubstreamID) : 0,
    group: get(entry, 0, PAGE_REQUEST.PRGIndex),
    permissions:
      accesses | is(PAGE_REQUEST.Execute, IOMMU_PGFAULT_PERM_EXEC) | is(PAGE_REQUEST.Priv, IOMMU_PGFAULT_PERM_PRIV),
    address: getWide(entry, 0, PAGE_REQUEST.Address),
  };
}

/** CMD_RESUME for a stalled transaction: again, or (any other code, or null) an abort. */
export function addResume(batch: CommandBatch, stream: number, tag: number, code: number | null): void {
  const retry = code === IOMMUFD_PAGE_RESP_SUCCESS;
  add(batch, CMD_RESUME, [
    [CMD.StreamID, stream],
    [CMD.STAG, tag],
    [CMD.Action, Number(retry)],
    [CMD.Abort, Number(!retry)],
  ]);
}

/** CMD_PRI_RESP to the group of `request`. `code` null: nobody is there to answer, which ends page requests for good. */
export function addPageResponse(batch: CommandBatch, stream: number, request: PageRequest, code: number | null): void {
  const response = code === null ? RESP_FAILURE : code === IOMMUFD_PAGE_RESP_SUCCESS ? RESP_SUCCESS : RESP_INVALID;
  add(batch, CMD_PRI_RESP, [
    [CMD.SSV, request.flags & IOMMU_PGFAULT_FLAGS_PASID_VALID ? 1 : 0],
    [CMD.SubstreamID, request.pasid],
    [CMD.StreamID, stream],
    [CMD.PRGIndex, request.group],
    [CMD.Resp, response],
  ]);
}

function add(batch: CommandBatch, opcode: number, values: readonly (readonly [Field, number])[]): void {
  const words = new Uint32Array(COMMAND_WORDS);
  put(words, 0, CMD.Opcode, opcode);
  for (const [field, value] of values) put(words, 0, field, value);
  batch.raw(words[0]!, words[1]!, words[2]!, words[3]!);
}
