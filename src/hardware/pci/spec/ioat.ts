/**
 * Intel I/OAT (CBDMA) version 3.2: registers of BAR0, of its channel, in configuration space, and the descriptor.
 * One channel; its block starts at CHANNEL_AT. Facts only.
 */
import type { Register } from './register.ts';

export const CHANNEL_AT = 0x80;
export const IOAT_BLOCK_BYTES = 0x100;
export const VERSION_3_2 = 0x32;

/** log2 of the largest transfer of one descriptor. 4 KiB bounds what one write of DMACOUNT can start: 256 MiB. */
export const TRANSFER_LOG2 = 12;

export const INTRCTRL_MASTER_ENABLE = 0x01;
export const INTRCTRL_STATUS = 0x02;
export const INTRCTRL_INTERRUPT = 0x04;
export const INTRCTRL_MSIX_ENABLE = 0x08;

export const DMA_CAP_FILL = 0x40;

export const CHANCTRL_REARM = 0x0001;
export const CHANCTRL_ERROR_COMPLETION = 0x0004;
export const CHANCTRL_ERROR_INTERRUPT = 0x0010;

export const CHANCMD_SUSPEND = 0x04;
export const CHANCMD_RESUME = 0x10;
export const CHANCMD_RESET = 0x20;

export const STATE_ACTIVE = 0;
export const STATE_DONE = 1;
export const STATE_SUSPENDED = 2;
export const STATE_HALTED = 3;
export const STATE_ARMED = 4;

export const CHANERR_SOURCE_ADDRESS = 0x0001;
export const CHANERR_DESTINATION_ADDRESS = 0x0002;
export const CHANERR_NEXT_ADDRESS = 0x0004;
export const CHANERR_NEXT_ALIGNMENT = 0x0008;
export const CHANERR_CHAIN_ADDRESS = 0x0010;
export const CHANERR_COMMAND = 0x0020;
export const CHANERR_CONTROL = 0x0400;
export const CHANERR_LENGTH = 0x0800;
export const CHANERR_COMPLETION_ADDRESS = 0x1000;

const ALL32 = 0xffff_ffffn;
const ALL64 = 0xffff_ffff_ffff_ffffn;

export const IOAT_REGISTERS: readonly Register[] = [
  { name: 'CHANCNT', offset: 0x00, bytes: 1, reset: 1n },
  { name: 'XFERCAP', offset: 0x01, bytes: 1, reset: BigInt(TRANSFER_LOG2) },
  { name: 'GENCTRL', offset: 0x02, bytes: 1, writable: 0x01n },
  { name: 'INTRCTRL', offset: 0x03, bytes: 1, writable: 0x09n },
  { name: 'ATTNSTATUS', offset: 0x04, bytes: 4 },
  { name: 'VER', offset: 0x08, bytes: 1, reset: BigInt(VERSION_3_2) },
  { name: 'PERPORTOFFSET', offset: 0x0a, bytes: 2 },
  { name: 'INTRDELAY', offset: 0x0c, bytes: 2 },
  { name: 'DEVICE_STATUS', offset: 0x0e, bytes: 2 },
  { name: 'DMA_CAP', offset: 0x10, bytes: 4, reset: BigInt(DMA_CAP_FILL) },
  { name: 'CHANCTRL', offset: CHANNEL_AT + 0x00, bytes: 2, writable: 0xf33dn },
  { name: 'DMA_COMP', offset: CHANNEL_AT + 0x02, bytes: 2, reset: 0x0002n },
  { name: 'CHANCMD', offset: CHANNEL_AT + 0x04, bytes: 1, writable: 0xffn },
  { name: 'DMACOUNT', offset: CHANNEL_AT + 0x06, bytes: 2, writable: 0xffffn },
  { name: 'CHANSTS', offset: CHANNEL_AT + 0x08, bytes: 8, reset: BigInt(STATE_HALTED) },
  { name: 'CHAINADDR', offset: CHANNEL_AT + 0x10, bytes: 8, writable: ALL64 },
  { name: 'CHANCMP', offset: CHANNEL_AT + 0x18, bytes: 8, writable: ALL64 - 7n },
  { name: 'CDAR', offset: CHANNEL_AT + 0x20, bytes: 8 },
  { name: 'CHANERR', offset: CHANNEL_AT + 0x28, bytes: 4, writeOneToClear: ALL32 },
  { name: 'CHANERRMSK', offset: CHANNEL_AT + 0x2c, bytes: 4, writable: ALL32 },
];

/** In configuration space. */
export const IOAT_CONFIG_REGISTERS: readonly Register[] = [
  { name: 'DMAUNCERRSTS', offset: 0x148, bytes: 4, writeOneToClear: ALL32 },
  { name: 'CHANERR_INT', offset: 0x180, bytes: 4, writeOneToClear: ALL32 },
  { name: 'CHANERRMSK_INT', offset: 0x184, bytes: 4, writable: ALL32 },
];

export const DESCRIPTOR_BYTES = 64;
/** Byte offsets in a descriptor. */
export const DESC_SIZE = 0;
export const DESC_CONTROL = 4;
export const DESC_SOURCE = 8;
export const DESC_DESTINATION = 16;
export const DESC_NEXT = 24;

export const CONTROL_INTERRUPT = 1 << 0;
export const CONTROL_COMPLETION_WRITE = 1 << 3;
export const CONTROL_NULL = 1 << 5;
/** The operation, control bits 31:24. Fill repeats the 8 bytes in the place of the source address. */
export const OPERATION_COPY = 0x00;
export const OPERATION_FILL = 0x01;
