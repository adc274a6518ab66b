/**
 * The memory of a client process, as the control plane and the pinned-page backing see it. Addresses are user virtual
 * addresses in bytes: always below 2^53, so plain numbers (callers reject larger ones as EFAULT first).
 */
export interface ProcessMemory {
  /** The process in words, for traces: its PID, or a name for memory inside this process. */
  readonly name: string;
  /** Fills `into` from `address`; false when any byte of it cannot be read. */
  read(address: number, into: Uint8Array): boolean;
  /** Writes `from` at `address`; false when any byte cannot be written (bytes before it may have been). */
  write(address: number, from: Uint8Array): boolean;
  /** Whether [address, address + length) is mapped so that it could be pinned: readable, and writable if asked. */
  pinnable(address: number, length: number, writable: boolean): boolean;
}
