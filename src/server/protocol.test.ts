import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { expect, it } from 'vitest';
import * as wire from './protocol.ts';

it('has the numbers and offsets that a C compiler gives shim/protocol.h', () => {
  const folder = fs.mkdtempSync(path.join(tmpdir(), 'uiommufd-protocol-'));
  const constants = Object.entries(wire).filter(([name]) => !/^(REQUEST|REPLY|TOKEN|MOST)(_|$)/.test(name));
  const fields = (struct: string, offsets: object): string[] =>
    Object.keys(offsets).map((field) => `offsetof(struct ${struct}, ${field})`);
  const expressions = [
    ...constants.map(([name]) => name),
    'offsetof(struct token, random)',
    'sizeof(struct token)',
    'sizeof(struct request)',
    'sizeof(struct reply)',
    ...fields('request', wire.REQUEST),
    ...fields('reply', wire.REPLY),
  ];
  const source = `#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include "protocol.h"
int main(void) { ${expressions.map((e) => `printf("%ld\\n", (long)(${e}));`).join('\n')} return 0; }`;
  const program = path.join(folder, 'print');
  const shim = path.join(import.meta.dirname, '../../shim');
  const built = spawnSync('cc', ['-D_GNU_SOURCE', '-x', 'c', '-', '-I', shim, '-o', program], { input: source });
  expect(built.stderr.toString()).toBe('');
  const printed = spawnSync(program, { encoding: 'utf8' }).stdout.trim().split('\n').map(Number);
  fs.rmSync(folder, { recursive: true });
  expect(printed).toEqual([
    ...constants.map(([, value]) => value),
    wire.TOKEN_RANDOM,
    wire.TOKEN_BYTES,
    wire.REQUEST_BYTES,
    wire.REPLY_BYTES,
    ...Object.values(wire.REQUEST),
    ...Object.values(wire.REPLY),
  ]);
});
