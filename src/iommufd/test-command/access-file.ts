/** The descriptor of a test's access, with what the test has pinned through it. */
import { fail } from '../../abi/errno.ts';
import type { Access, UnmapListener } from '../access.ts';
import { type OpenFile, POLLIN, POLLOUT } from '../file.ts';
import { U64_MAX } from '../u64.ts';

interface PinnedItem {
  readonly id: number;
  readonly iova: bigint;
  readonly length: bigint;
}

export class AccessFile implements OpenFile {
  readonly device: null;
  readonly pollMask: number;
  onPollChange: (() => void) | null;
  readonly pins: boolean;
  readonly access: Access;
  nextId: number;
  private items: PinnedItem[];
  private open: boolean;

  constructor(pins: boolean, create: (unmapped: UnmapListener) => Access) {
    this.device = null;
    this.pollMask = POLLIN | POLLOUT;
    this.onPollChange = null;
    this.pins = pins;
    this.nextId = 0;
    this.items = [];
    this.open = true;
    this.access = create((start, length) => this.unmapped(start, length));
  }

  get kind(): 'test-access' {
    return 'test-access';
  }

  add(iova: bigint, length: bigint): void {
    this.items.push({ id: this.nextId++, iova, length });
  }

  /** ENOENT when there is nothing pinned under this ID. */
  remove(id: number): void {
    const item = this.items.find((each) => each.id === id);
    if (!item) throw fail('ENOENT', `access_pages_id ${id} does not exist`);
    this.drop(item);
  }

  read(): never {
    throw fail('EINVAL', 'an access cannot be read');
  }

  write(): never {
    throw fail('EINVAL', 'an access cannot be written');
  }

  ioctl(): never {
    throw fail('ENOTTY', 'an access has no ioctls');
  }

  mmap(): never {
    throw fail('ENODEV', 'an access cannot be mapped');
  }

  release(): void {
    if (!this.open) return;
    this.open = false;
    this.unmapped(0n, U64_MAX);
    this.access.close();
  }

  private unmapped(start: bigint, length: bigint): void {
    const last = start + length - 1n;
    for (const item of this.items) {
      if (start <= item.iova + item.length - 1n && last >= item.iova) this.drop(item);
    }
  }

  private drop(item: PinnedItem): void {
    this.items = this.items.filter((each) => each !== item);
    this.access.unpin(item.iova, item.length);
  }
}
