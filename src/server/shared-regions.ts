/** Pages of the engine that programs map: shared memory in place of the engine's own, from the first mapping on. */
import { randomBytes } from 'node:crypto';
import fs from 'node:fs';
import { fail } from '../abi/errno.ts';
import { type MappedRegisters, type Mapping, mappedRegisters } from '../iommufd/file.ts';
import type { KeeperAddon } from './keeper.ts';
import { fileKey } from './mappings.ts';
import { TOKEN_BYTES, TOKEN_RANDOM } from './protocol.ts';

interface Shared {
  readonly fd: number;
  /** By which the shim names registers; null for memory. */
  readonly token: Buffer | null;
  /** Processes that are about to map it. */
  expected: number;
}

export class SharedRegions {
  private readonly addon: KeeperAddon;
  private readonly shared = new Map<Mapping, Shared>();
  /** By the random part of their tokens. */
  private readonly registers = new Map<string, MappedRegisters>();

  constructor(addon: KeeperAddon) {
    this.addon = addon;
  }

  /** A process is about to map it, until end(). ENOMEM when there is no memory to share. */
  begin(mapping: Mapping): Shared {
    const shared = this.shared.get(mapping) ?? this.share(mapping);
    shared.expected++;
    return shared;
  }

  /** The registers that programs have mapped as `file`, "major:minor inode". */
  registersOf(file: string): MappedRegisters | null {
    for (const [mapping, { fd }] of this.shared) {
      const { dev, ino } = fs.fstatSync(fd);
      if (fileKey(dev, ino) === file) return mappedRegisters(mapping);
    }
    return null;
  }

  /** The registers that the token at `at` names. */
  find(frame: Buffer, at: number): MappedRegisters | null {
    return this.registers.get(frame.toString('latin1', at + TOKEN_RANDOM, at + TOKEN_BYTES)) ?? null;
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
    const { pages } = mapping;
    const registers = mappedRegisters(mapping);
    const length = 'bytes' in pages ? pages.bytes.length : pages.length;
    const fd = this.addon.createRegion(length);
    const memory = fd < 0 || registers ? fd : this.addon.mapRegion(fd, length);
    if (typeof memory === 'number' && memory < 0) {
      if (fd >= 0) fs.closeSync(fd);
      mapping.ended();
      throw fail('ENOMEM', `no ${length} bytes can be shared with the process`);
    }
    if ('bytes' in pages && typeof memory !== 'number') {
      const bytes = new Uint8Array(memory);
      bytes.set(pages.bytes);
      pages.bytes = bytes;
    }
    const shared: Shared = { fd, token: registers && this.name(registers), expected: 0 };
    mapping.inUse = () => shared.expected > 0 || this.addon.isShared(fd) === 1;
    this.shared.set(mapping, shared);
    return shared;
  }

  /** @returns a new token for `registers` */
  private name(registers: MappedRegisters): Buffer {
    const token = Buffer.concat([Buffer.alloc(TOKEN_RANDOM), randomBytes(TOKEN_BYTES - TOKEN_RANDOM)]);
    this.registers.set(token.toString('latin1', TOKEN_RANDOM), registers);
    return token;
  }

  private forget(mapping: Mapping): void {
    const { fd, token } = this.shared.get(mapping)!;
    if (token) this.registers.delete(token.toString('latin1', TOKEN_RANDOM));
    this.shared.delete(mapping);
    mapping.inUse = () => false;
    fs.closeSync(fd);
    mapping.ended();
  }
}
