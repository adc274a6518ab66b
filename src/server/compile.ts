/** Compiles C of this package once into the user's cache: the shim, and the examples. */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import { homedir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

export interface Compilation {
  /** The folder with the sources. Every .c and .h in and under it makes a new build when it changes. */
  readonly sources: string;
  readonly flags: readonly string[];
  readonly libraries?: readonly string[];
  /** What to make from which .c files of `sources`. */
  readonly outputs: Readonly<Record<string, readonly string[]>>;
  /** Called before it really compiles. */
  readonly onCompile?: () => void;
}

/** @returns the folder that holds the outputs. Throws one sentence when there is no compiler or it refuses. */
export function compileOnce({ sources, flags, libraries = [], outputs, onCompile }: Compilation): string {
  // As make does, CC may be a command with arguments: "ccache gcc".
  const [compiler = 'cc', ...own] = (process.env.CC || 'cc').trim().split(/\s+/);
  const args = [...own, ...flags];
  const hash = createHash('sha256').update(JSON.stringify([compiler, args, libraries, outputs, process.arch]));
  for (const file of sourceFiles(sources)) hash.update(file).update(fs.readFileSync(path.join(sources, file)));
  const cache = cacheFolder();
  const folder = path.join(cache, hash.digest('hex').slice(0, 32));
  if (fs.existsSync(folder)) return folder;

  onCompile?.();
  makeCache(cache);
  const work = fs.mkdtempSync(path.join(cache, 'build-'));
  try {
    for (const [output, names] of Object.entries(outputs)) {
      const inputs = names.map((name) => path.join(sources, name));
      run(compiler, [...args, '-o', path.join(work, output), ...inputs, ...libraries]);
    }
    publish(work, folder);
  } finally {
    fs.rmSync(work, { recursive: true, force: true });
  }
  return folder;
}

/** The C files in and under `folder`, relative to it, in a fixed order. */
export const sourceFiles = (folder: string): string[] =>
  fs
    .readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .filter((file) => /\.[ch]$/.test(file))
    .sort();

/** The folder of this package, whether this file runs from src/ or bundled in dist/: shim/ and examples/ are in it. */
export function packageRoot(): string {
  for (let at = path.dirname(fileURLToPath(import.meta.url)); ; at = path.dirname(at)) {
    const manifest = path.join(at, 'package.json');
    if (fs.existsSync(manifest) && JSON.parse(fs.readFileSync(manifest, 'utf8')).name === 'uiommufd') return at;
    if (at === path.dirname(at)) throw new Error(`the package uiommufd is not above ${import.meta.url}`);
  }
}

/** Of two who compile at once, the second finds the first's work in place, which is the same. */
function publish(work: string, folder: string): void {
  try {
    fs.renameSync(work, folder);
  } catch (error) {
    if (!fs.existsSync(folder)) throw error;
  }
}

function run(compiler: string, args: string[]): void {
  const { error, status, stderr } = spawnSync(compiler, args, { encoding: 'utf8' });
  if (error) {
    throw new Error(
      `the shim, like the examples, is C and needs a compiler: '${compiler}' cannot be run (set CC, or install gcc or clang)`,
    );
  }
  if (status !== 0) throw new Error(`'${compiler} ${args.join(' ')}' failed:\n${stderr}`);
}

function makeCache(cache: string): void {
  try {
    fs.mkdirSync(cache, { recursive: true, mode: 0o700 });
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    throw new Error(
      `'${cache}' cannot be made (${code}): set XDG_CACHE_HOME to a folder where the compiled shim may be kept`,
    );
  }
}

function cacheFolder(): string {
  const base = process.env.XDG_CACHE_HOME || path.join(homedir(), '.cache');
  return path.join(base, 'uiommufd');
}
