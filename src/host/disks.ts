/** The disks of a function from its description: in memory, or files that the embedder opens. */
import { type BlockStore, type Disk, MemoryStore } from '../hardware/pci/nvme/disk.ts';
import type { FunctionDescription } from './machine-description.ts';
import { MachineError } from './machine-error.ts';

/** Opens a file for reading and writing; throws when it cannot. */
export type OpenDisk = (path: string) => BlockStore;

const MIB = 2 ** 20;

/** What a storage controller has when its description says nothing. */
const DEFAULT: NonNullable<FunctionDescription['namespaces']> = [{ sizeMiB: 256, blockBytes: 512 }];

/** @param key of the function in its machine's description, for messages  @throws MachineError with one sentence */
export function disksOf(description: FunctionDescription, key: string, openDisk: OpenDisk | undefined): Disk[] {
  if (description.model !== 'nvme') return [];
  const { namespaces = DEFAULT } = description;
  return namespaces.map(({ sizeMiB, blockBytes, file }, index) => {
    if (file === undefined) return { store: new MemoryStore(sizeMiB * MIB), blockBytes };
    const store = open(file, `${key}.namespaces[${index}].file`, openDisk);
    if (store.bytes >= blockBytes) return { store, blockBytes };
    throw new MachineError(
      `${key}.namespaces[${index}].file: ${JSON.stringify(file)} found, expected a file of at least ${blockBytes} bytes`,
    );
  });
}

function open(file: string, key: string, openDisk: OpenDisk | undefined): BlockStore {
  const found = `${key}: ${JSON.stringify(file)} found`;
  if (!openDisk) throw new MachineError(`${found}, expected none where there are no files`);
  try {
    return openDisk(file);
  } catch (error) {
    throw new MachineError(`${found}, expected a file to read and write: ${(error as Error).message}`);
  }
}
