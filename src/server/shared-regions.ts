/** Pages of the engine that programs map: shared memory in place of the engine's own, from the first mapping on. */
import fs from 'node:fs';
import { fail } from '../abi/errno.ts';
import type { Mapping } from '../iommufd/file.ts';
import type { KeeperAddon } from './keeper.ts';

interface Shared {
  readonly fd: number;
  /** Processes that are about to map it. */
  expected: number;
}

export class SharedRegions {
  private readonly addon: KeeperAddon;
  private readonly shared = new Map<Mapping, Shared>();

  constructor(addon: KeeperAddon) {
    this.addon = addon;
  }

  /** A process is about to map it, until end(). @returns the descriptor to map; ENOMEM when there is no memory to share */
  begin(mapping: Mapping): number {
    const shared = this.shared.get(mapping) ?? this.share(mapping);
    shared.expected++;
    return shared.fd;
  }

  end(mapping: Mapping): void {
    const shared = this.shared.get(mapping);
    if (shared) shared.expected--;
  }

  /** Notices mappings that have gone. */
  sweep(): void {
    for (const mapping of this.shared.keys()) if (!mapping.inUse?.()) this.forget(mapping);
  }

  /** What is still mapped is only memory from now on. */
  close(): void {
    for (const mapping of this.shared.keys()) this.forget(mapping);
  }

  private share(mapping: Mapping): Shared {
    const { region } = mapping;
    const fd = this.addon.createRegion(region.bytes.length);
    const memory = fd < 0 ? fd : this.addon.mapRegion(fd, region.bytes.length);
    if (typeof memory === 'number') {
      if (fd >= 0) fs.closeSync(fd);
      mapping.ended();
      throw fail('ENOMEM', `no ${region.bytes.length} bytes can be shared with the process`);
    }
    const bytes = new Uint8Array(memory);
    bytes.set(region.bytes);
    region.bytes = bytes;
    const shared: Shared = { fd, expected: 0 };
    mapping.inUse = () => shared.expected > 0 || this.addon.isShared(fd) === 1;
    this.shared.set(mapping, shared);
    return shared;
  }

  private forget(mapping: Mapping): void {
    const { fd } = this.shared.get(mapping)!;
    this.shared.delete(mapping);
    mapping.inUse = () => false;
    fs.closeSync(fd);
    mapping.ended();
  }
}
