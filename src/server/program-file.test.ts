import fs from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { findProgram } from './program-file.ts';

const folder = fs.mkdtempSync(path.join(tmpdir(), 'uiommufd-programs-'));
afterAll(() => fs.rmSync(folder, { recursive: true }));

function write(name: string, content: string | Buffer, mode = 0o755): string {
  const file = path.join(folder, name);
  fs.writeFileSync(file, content);
  fs.chmodSync(file, mode);
  return file;
}

describe('a program is found', () => {
  it('in the first folder of PATH that has it as a file that can be executed', () => {
    for (const name of ['a', 'b', 'c']) fs.mkdirSync(path.join(folder, name));
    fs.mkdirSync(path.join(folder, 'a/tool'));
    write('b/tool', '', 0o644);
    const right = write('c/tool', '');
    const env = { PATH: ['a', 'b', 'c'].map((name) => path.join(folder, name)).join(':') };
    // Root may execute what anyone may.
    expect(findProgram('tool', env)).toBe(right);
    expect(findProgram('other', env)).toBe(null);
  });

  it('by its path, from the folder that it is to run in', () => {
    const file = write('here', '');
    expect(findProgram('./here', {}, folder)).toBe(file);
    expect(findProgram(file, {})).toBe(file);
    expect(findProgram('./none', {}, folder)).toBe(null);
  });
});
