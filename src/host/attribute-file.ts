/** A file of sysfs that lives: what is written to it has an effect, and may be refused. */
import { fail } from '../abi/errno.ts';
import { type ClientProcess, type OpenFile, POLLIN, POLLOUT } from '../iommufd/file.ts';
import { readUser, writeUser } from '../iommufd/user-memory.ts';

export interface Attribute {
  readonly path: string;
  /** Absent: cannot be read. */
  show?(): string;
  /** Throws Errno to refuse. @param text as written, with its newline */
  store(text: string): void;
}

/** A write of more is cut. */
const LONGEST = 4095;

export class AttributeFile implements OpenFile {
  readonly kind = 'attribute';
  readonly device = null;
  readonly pollMask = POLLIN | POLLOUT;
  onPollChange: (() => void) | null;
  private readonly attribute: Attribute;
  /** Where read(2) goes on. */
  private position: number;

  constructor(attribute: Attribute) {
    this.onPollChange = null;
    this.attribute = attribute;
    this.position = 0;
  }

  read({ memory }: ClientProcess, address: bigint, count: number, position: bigint | null): number {
    const { attribute } = this;
    if (!attribute.show) throw fail('EIO', `${attribute.path} can only be written`);
    const from = position === null ? this.position : Number(position);
    const bytes = new TextEncoder().encode(attribute.show()).subarray(from, from + count);
    writeUser(memory, address, bytes);
    if (position === null) this.position += bytes.length;
    return bytes.length;
  }

  write({ memory }: ClientProcess, address: bigint, count: number): number {
    const bytes = new Uint8Array(Math.min(count, LONGEST));
    readUser(memory, address, bytes);
    this.attribute.store(new TextDecoder().decode(bytes));
    return bytes.length;
  }

  ioctl(): never {
    throw fail('ENOTTY', `${this.attribute.path} has no ioctls`);
  }

  mmap(): never {
    throw fail('ENODEV', `${this.attribute.path} cannot be mapped`);
  }

  release(): void {}
}
