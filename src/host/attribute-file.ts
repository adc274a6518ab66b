/** A file of sysfs that lives: what is read is so now, and what is written has an effect, or is refused. */
import { fail } from '../abi/errno.ts';
import { type ClientProcess, type OpenFile, POLLIN, POLLOUT } from '../iommufd/file.ts';
import { readUser, writeUser } from '../iommufd/user-memory.ts';

export interface Attribute {
  readonly path: string;
  /** Bytes, as stat(2) shows it. */
  readonly size: number;
  /** Absent: cannot be read. @returns up to `count` bytes, fewer only at the end */
  read?(position: number, count: number): Uint8Array;
  /** Absent: cannot be written. Throws Errno to refuse. @returns how many of the bytes it took */
  write?(position: number, bytes: Uint8Array): number;
}

/** One of text. */
export interface TextAttribute {
  readonly path: string;
  show?(): string;
  /** Throws Errno to refuse. @param text as written, with its newline */
  store?(text: string): void;
}

/** What kernels show as the size of any text. A write of as much is cut. */
const TEXT_BYTES = 4096;

export function textFile({ path, show, store }: TextAttribute): Attribute {
  return {
    path,
    size: TEXT_BYTES,
    ...(show && { read: (from, count) => new TextEncoder().encode(show()).subarray(from, from + count) }),
    ...(store && { write: (_, bytes) => takeText(store, bytes) }),
  };
}

function takeText(store: (text: string) => void, bytes: Uint8Array): number {
  const taken = bytes.subarray(0, TEXT_BYTES - 1);
  store(new TextDecoder().decode(taken));
  return taken.length;
}

/** Permission bits. */
export const modeOf = ({ read, write }: Attribute): number => (read ? 0o444 : 0) | (write ? 0o200 : 0);

/** Of one read or write: more than any of these files holds. */
const MOST_BYTES = 1 << 16;

export class AttributeFile implements OpenFile {
  readonly kind = 'attribute';
  readonly device = null;
  readonly pollMask = POLLIN | POLLOUT;
  onPollChange: (() => void) | null;
  private readonly attribute: Attribute;
  /** Where read(2) and write(2) go on. */
  private position: number;

  constructor(attribute: Attribute) {
    this.onPollChange = null;
    this.attribute = attribute;
    this.position = 0;
  }

  read({ memory }: ClientProcess, address: bigint, count: number, position: bigint | null): number {
    const { attribute } = this;
    if (!attribute.read) throw fail('EIO', `${attribute.path} can only be written`);
    const bytes = attribute.read(this.at(position), Math.min(count, MOST_BYTES));
    writeUser(memory, address, bytes);
    if (position === null) this.position += bytes.length;
    return bytes.length;
  }

  write({ memory }: ClientProcess, address: bigint, count: number, position: bigint | null): number {
    const { attribute } = this;
    if (!attribute.write) throw fail('EIO', `${attribute.path} can only be read`);
    const bytes = new Uint8Array(Math.min(count, MOST_BYTES));
    readUser(memory, address, bytes);
    const taken = attribute.write(this.at(position), bytes);
    if (position === null) this.position += taken;
    return taken;
  }

  /** lseek(2). EINVAL for a place before the start. @param whence SEEK_SET, SEEK_CUR or SEEK_END, which are 0 to 2 */
  seek(offset: bigint, whence: number): number {
    const position = Number(offset) + ([0, this.position, this.attribute.size][whence] ?? Number.NaN);
    if (!(position >= 0 && position <= Number.MAX_SAFE_INTEGER)) {
      throw fail('EINVAL', `${offset} from origin ${whence} is no place in ${this.attribute.path}`);
    }
    this.position = position;
    return position;
  }

  ioctl(): never {
    throw fail('ENOTTY', `${this.attribute.path} has no ioctls`);
  }

  mmap(): never {
    throw fail('ENODEV', `${this.attribute.path} cannot be mapped`);
  }

  release(): void {}

  private at(position: bigint | null): number {
    return position === null ? this.position : Number(position);
  }
}
