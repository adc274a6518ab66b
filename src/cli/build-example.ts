/** Compiles examples/NAME.c as it stands, once, into the user's cache. */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { homedir } from 'node:os';
import path from 'node:path';
import { CliError } from './exit.ts';
import { packageRoot } from './package-root.ts';

const FLAGS = ['-O2', '-Wall', '-Wextra'];

/** @returns the program's path */
export function buildExample(name: string, defines: readonly string[]): string {
  const folder = path.join(packageRoot(), 'examples');
  const [compiler = 'cc', ...compilerArgs] = (process.env.CC || 'cc').trim().split(/\s+/);
  const args = [...compilerArgs, ...FLAGS, ...defines.map((define) => `-D${define}`)];
  const hash = createHash('sha256').update(JSON.stringify([compiler, args, process.arch]));
  for (const file of sources(folder)) hash.update(file).update(readFileSync(path.join(folder, file)));

  const cache = path.join(process.env.XDG_CACHE_HOME || path.join(homedir(), '.cache'), 'uiommufd');
  const built = path.join(cache, `${name}-${hash.digest('hex').slice(0, 32)}`);
  if (existsSync(built)) return built;
  process.stderr.write(`uiommufd: compiling examples/${name}.c\n`);
  mkdirSync(cache, { recursive: true, mode: 0o700 });
  const work = mkdtempSync(path.join(cache, 'build-'));
  try {
    const output = path.join(work, name);
    compile(compiler, [...args, `-I${path.join(folder, 'uapi')}`, path.join(folder, `${name}.c`), '-o', output]);
    renameSync(output, built);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
  return built;
}

const sources = (folder: string): string[] =>
  readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .filter((file) => /\.[ch]$/.test(file))
    .sort();

function compile(compiler: string, args: readonly string[]): void {
  const { error, status, stderr } = spawnSync(compiler, args, { encoding: 'utf8' });
  if (error) throw new CliError(`the example is C and needs a compiler: '${compiler}' cannot be run (set CC)`);
  if (status !== 0) throw new CliError(`'${compiler} ${args.join(' ')}' failed:\n${stderr}`);
}
