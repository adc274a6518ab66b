/** One ioctl on its way through a handler. */

import type { IommufdContext } from './context.ts';
import type { ClientProcess } from './file.ts';
import type { IommufdObject } from './objects.ts';
import { writeUser } from './user-memory.ts';

export class Command {
  readonly context: IommufdContext;
  readonly caller: ClientProcess;
  /** The struct with room for its newest layout; handlers view it through its class of abi. */
  readonly bytes: Uint8Array;
  /** Where the caller's struct is. */
  readonly address: bigint;
  /** What the handler made: published when the ioctl succeeds, destroyed when it fails after all. */
  created: IommufdObject | null;
  /** What the ioctl returns on success. */
  result: number;
  /** How much of the struct both the caller and the dialect know. */
  private readonly knownSize: number;

  constructor(context: IommufdContext, caller: ClientProcess, address: bigint, bytes: Uint8Array, knownSize: number) {
    this.context = context;
    this.caller = caller;
    this.address = address;
    this.bytes = bytes;
    this.created = null;
    this.result = 0;
    this.knownSize = knownSize;
  }

  /** Reserves an ID for an object that is to exist when this ioctl succeeds. */
  create<T extends IommufdObject>(object: T): T {
    this.created = this.context.objects.reserve(object);
    return object;
  }

  /** Writes back as much of the struct as the caller knows: EFAULT. Commands without an output never do. */
  respond(): void {
    writeUser(this.caller.memory, this.address, this.bytes.subarray(0, this.knownSize));
  }
}

export type Handler = (command: Command) => void | Promise<void>;
