/** NVM Express 1.4: submission and completion entries (4.2, 4.6), opcodes (5, 6), status codes (4.6.1). Facts only. */

export const SQE_LOG2 = 6;
export const CQE_LOG2 = 4;
export const SQE_BYTES = 64;
export const CQE_BYTES = 16;

/** Byte offsets in a submission entry. */
export const SQE_OPCODE = 0;
export const SQE_FLAGS = 1;
export const SQE_CID = 2;
export const SQE_NSID = 4;
export const SQE_PRP1 = 24;
export const SQE_PRP2 = 32;
export const SQE_CDW10 = 40;
export const SQE_CDW11 = 44;
export const SQE_CDW12 = 48;
export const SQE_CDW13 = 52;
export const SQE_CDW14 = 56;

/** Flags of a submission entry: a fused operation, or SGLs in the place of PRPs. */
export const FLAGS_FUSE = 0x03;
export const FLAGS_PSDT = 0xc0;

/** Byte offsets in a completion entry; the status field with its phase tag in bit 0. */
export const CQE_RESULT = 0;
export const CQE_SQHD = 8;
export const CQE_SQID = 10;
export const CQE_CID = 12;
export const CQE_STATUS = 14;

/** In the status field: there is more in the error log; the same command would fail again. */
export const STATUS_MORE = 0x4000;
export const STATUS_DO_NOT_RETRY = 0x8000;

export const NSID_ALL = 0xffff_ffff;

/** Admin commands (5). */
export const ADMIN_DELETE_SQ = 0x00;
export const ADMIN_CREATE_SQ = 0x01;
export const ADMIN_GET_LOG_PAGE = 0x02;
export const ADMIN_DELETE_CQ = 0x04;
export const ADMIN_CREATE_CQ = 0x05;
export const ADMIN_IDENTIFY = 0x06;
export const ADMIN_ABORT = 0x08;
export const ADMIN_SET_FEATURES = 0x09;
export const ADMIN_GET_FEATURES = 0x0a;
export const ADMIN_ASYNC_EVENT = 0x0c;

/** Create I/O queue, command dword 11 (5.3, 5.4). */
export const QUEUE_CONTIGUOUS = 0x1;
export const QUEUE_INTERRUPTS = 0x2;

/** NVM commands (6). */
export const NVM_FLUSH = 0x00;
export const NVM_WRITE = 0x01;
export const NVM_READ = 0x02;
export const NVM_COMPARE = 0x05;
export const NVM_WRITE_ZEROES = 0x08;
export const NVM_DATASET_MANAGEMENT = 0x09;

/** Dataset management (6.7): attribute deallocate, and a range's byte offsets. */
export const DSM_DEALLOCATE = 0x4;
export const DSM_RANGE_BYTES = 16;
export const DSM_RANGE_BLOCKS = 4;
export const DSM_RANGE_START = 8;

/** Status codes with their type in bits 10:8. */
export const SUCCESS = 0x000;
export const INVALID_OPCODE = 0x001;
export const INVALID_FIELD = 0x002;
export const DATA_TRANSFER_ERROR = 0x004;
export const ABORT_REQUESTED = 0x007;
export const ABORTED_SQ_DELETION = 0x008;
export const INVALID_NAMESPACE = 0x00b;
export const COMMAND_SEQUENCE_ERROR = 0x00c;
export const PRP_OFFSET_INVALID = 0x013;
export const LBA_OUT_OF_RANGE = 0x080;
export const COMPLETION_QUEUE_INVALID = 0x100;
export const INVALID_QUEUE_IDENTIFIER = 0x101;
export const INVALID_QUEUE_SIZE = 0x102;
export const ASYNC_EVENT_LIMIT_EXCEEDED = 0x105;
export const INVALID_INTERRUPT_VECTOR = 0x108;
export const INVALID_LOG_PAGE = 0x109;
export const INVALID_QUEUE_DELETION = 0x10c;
export const FEATURE_NOT_SAVEABLE = 0x10d;
export const FEATURE_NOT_NAMESPACE_SPECIFIC = 0x10f;
export const WRITE_FAULT = 0x280;
export const UNRECOVERED_READ_ERROR = 0x281;
export const COMPARE_FAILURE = 0x285;

/** What may succeed when it is tried again: page tables change, and aborts are not the command's fault. */
export const RETRYABLE: ReadonlySet<number> = new Set([DATA_TRANSFER_ERROR, ABORT_REQUESTED, ABORTED_SQ_DELETION]);
