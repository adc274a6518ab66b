import { existsSync, readlinkSync, writeSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Output } from './output.ts';

let lines: string[];
let output: Output;
beforeEach(() => {
  lines = [];
  output = new Output((line) => lines.push(line));
});
afterEach(() => output.close());

describe('the output of a program', () => {
  it('is there as soon as it was written, line by line', () => {
    writeSync(output.file, 'one\ntwo\nthr');
    output.drain();
    expect(lines).toEqual(['one', 'two']);
    writeSync(output.file, 'ee\n');
    output.drain();
    expect(lines).toEqual(['one', 'two', 'three']);
  });

  it('is put together where a line or a character was written in pieces', () => {
    const bytes = Buffer.from('zwölf\n');
    writeSync(output.file, bytes.subarray(0, 3));
    output.drain();
    writeSync(output.file, bytes.subarray(3));
    output.drain();
    expect(lines).toEqual(['zwölf']);
  });

  it('may be longer than what is read at once', () => {
    writeSync(output.file, `${'x'.repeat(10_000)}\ny\n`);
    output.drain();
    expect(lines.map(({ length }) => length)).toEqual([10_000, 1]);
  });

  it('leaves no file', () => {
    const name = readlinkSync(`/proc/self/fd/${output.file}`);
    expect(name).toMatch(/ \(deleted\)$/);
    expect(existsSync(name.replace(/ \(deleted\)$/, ''))).toBe(false);
  });
});

describe('the end of a program', () => {
  it('brings a last line that had no end', () => {
    const heard: string[] = [];
    const other = new Output((line) => heard.push(line));
    writeSync(other.file, 'last words');
    other.close();
    expect(heard).toEqual(['last words']);
  });
});
