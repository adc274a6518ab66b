import { describe, expect, it } from 'vitest';
import { MemoryStore } from '../hardware/pci/nvme/disk.ts';
import { disksOf } from './disks.ts';
import { type FunctionDescription, parseMachine } from './machine-description.ts';
import { preset } from './presets.ts';

const MIB = 2 ** 20;

function functionWith(change: Record<string, unknown>): FunctionDescription {
  const machine = structuredClone(preset('two-smmus-nvme').machine) as { functions: object[] };
  Object.assign(machine.functions[0]!, change);
  return parseMachine(machine).functions[0]!;
}

const sizes = (change: Record<string, unknown>) =>
  disksOf(functionWith(change), 'functions[0]', undefined).map(({ store, blockBytes }) => [store.bytes, blockBytes]);

describe('the disks of a function', () => {
  it('are one of 256 MiB in memory by default, and none for other models', () => {
    expect(sizes({})).toEqual([[256 * MIB, 512]]);
    expect(sizes({ model: 'ioat' })).toEqual([]);
  });

  it('are as many and as large as described', () => {
    expect(sizes({ namespaces: [{ sizeMiB: 1 }, { blockBytes: 4096 }] })).toEqual([
      [MIB, 512],
      [256 * MIB, 4096],
    ]);
  });

  it('are files that are opened by name', () => {
    const opened: string[] = [];
    const open = (path: string) => {
      opened.push(path);
      return new MemoryStore(8192);
    };
    const [disk] = disksOf(functionWith({ namespaces: [{ file: 'a.img' }] }), 'functions[0]', open);
    expect([disk!.store.bytes, opened]).toEqual([8192, ['a.img']]);
  });

  const failing = () => {
    throw new Error('ENOENT');
  };
  it.each([
    ['expected none where there are no files', undefined],
    ['expected a file to read and write: ENOENT', failing],
    ['expected a file of at least 512 bytes', () => new MemoryStore(511)],
  ])('answer a mistake with: %s', (expected, open) => {
    const described = functionWith({ namespaces: [{ file: 'a.img' }] });
    expect(() => disksOf(described, 'functions[0]', open)).toThrow(
      `functions[0].namespaces[0].file: "a.img" found, ${expected}`,
    );
  });

  it('are described for the model that has some only', () => {
    const change = { model: 'ioat', namespaces: [{}] };
    expect(() => functionWith(change)).toThrow('functions[0].namespaces: found, expected none when model is "ioat"');
  });
});
