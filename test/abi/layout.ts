/** One shape for what src/abi says, what a C compiler makes of our headers, and what was recorded from others' headers. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type AnyStruct, isStruct } from '../../src/abi/struct.ts';

/** [offset, bytes] */
export type Place = readonly [number, number];

export interface Layout {
  readonly structs: Record<string, { size: number; fields: Record<string, Place> }>;
  /** Ioctl numbers, flags, types. */
  readonly constants: Record<string, number>;
}

const structLayout = (struct: AnyStruct): Layout['structs'][string] => ({
  size: struct.size,
  fields: Object.fromEntries(
    Object.values(struct.fields).map((field): [string, Place] => [field.uapiName, [field.offset, field.bytes]]),
  ),
});

/** What a module of src/abi exports; its own V2_ prefix is not part of a uAPI name. Later exports replace earlier ones. */
export const layoutOfExports = (...exports: readonly unknown[][]): Layout => {
  const layout: Layout = { structs: {}, constants: {} };
  for (const [name, value] of exports as [string, unknown][]) {
    if (isStruct(value)) layout.structs[value.structName] = structLayout(value);
    if (typeof value === 'number') layout.constants[name.replace(/^V2_/, '')] = value;
  }
  return layout;
};

export const hasCompiler = (): boolean => {
  try {
    execFileSync('cc', ['--version'], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
};

const program = (headers: readonly string[], names: Layout): string => {
  const lines = ['#include <stddef.h>', '#include <stdio.h>', ...headers.map((header) => `#include "${header}"`)];
  lines.push('int main(void) {');
  for (const [struct, { fields }] of Object.entries(names.structs)) {
    lines.push(`  printf("struct ${struct} %zu\\n", sizeof(struct ${struct}));`);
    for (const field of Object.keys(fields)) {
      const member = `((struct ${struct} *)0)->${field}`;
      lines.push(
        `  printf("field ${struct} ${field} %zu %zu\\n", offsetof(struct ${struct}, ${field}), sizeof(${member}));`,
      );
    }
  }
  for (const name of Object.keys(names.constants)) {
    lines.push(`  printf("constant ${name} %lld\\n", (long long)${name});`);
  }
  lines.push('  return 0;', '}', '');
  return lines.join('\n');
};

const parse = (output: string): Layout => {
  const layout: Layout = { structs: {}, constants: {} };
  for (const line of output.trim().split('\n')) {
    const [kind, name, ...rest] = line.split(' ') as [string, string, ...string[]];
    if (kind === 'struct') layout.structs[name] = { size: Number(rest[0]), fields: {} };
    if (kind === 'field') layout.structs[name]!.fields[rest[0]!] = [Number(rest[1]), Number(rest[2])];
    if (kind === 'constant') layout.constants[name] = Number(rest[0]);
  }
  return layout;
};

/** Compiles a program that prints what `headers` (of examples/uapi) make of everything that `names` names. */
export const layoutOfHeaders = (headers: readonly string[], names: Layout): Layout => {
  const folder = mkdtempSync(join(tmpdir(), 'uiommufd-abi-'));
  try {
    const source = join(folder, 'layout.c');
    const binary = join(folder, 'layout');
    writeFileSync(source, program(headers, names));
    const include = fileURLToPath(new URL('../../examples/uapi', import.meta.url));
    execFileSync('cc', ['-Wall', '-Werror', '-I', include, '-o', binary, source], { stdio: 'pipe' });
    return parse(execFileSync(binary, { encoding: 'utf8' }));
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
};
