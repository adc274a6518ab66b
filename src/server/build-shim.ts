/** Compiles shim/*.c once into the user's cache: the preload library and the keeper. */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import { homedir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

export interface BuiltShim {
  /** For LD_PRELOAD. */
  readonly library: string;
  /** An addon for Node. */
  readonly keeper: string;
}

const KEEPER_SOURCE = 'keeper.c';
// Without _FORTIFY_SOURCE, whose headers define inline what we define; without a host's default that adds it.
const FLAGS = '-std=gnu17 -O2 -fPIC -shared -Wall -Wextra -fvisibility=hidden -D_GNU_SOURCE -U_FORTIFY_SOURCE'.split(
  ' ',
);
const LIBRARIES = ['-ldl', '-pthread'];

export function buildShim(sources = findSources()): BuiltShim {
  // As make does, CC may be a command with arguments: "ccache gcc".
  const [compiler = 'cc', ...compilerArgs] = (process.env.CC || 'cc').trim().split(/\s+/);
  const files = fs
    .readdirSync(sources)
    .filter((name) => /\.[ch]$/.test(name))
    .sort();
  const hash = createHash('sha256').update(JSON.stringify([compiler, compilerArgs, FLAGS, process.arch]));
  for (const name of files) hash.update(name).update(fs.readFileSync(path.join(sources, name)));
  const cache = cacheFolder();
  const folder = path.join(cache, hash.digest('hex').slice(0, 32));
  const built = { library: path.join(folder, 'libuiommufd-shim.so'), keeper: path.join(folder, 'keeper.node') };
  if (fs.existsSync(built.keeper)) return built;

  fs.mkdirSync(cache, { recursive: true, mode: 0o700 });
  const work = fs.mkdtempSync(path.join(cache, 'build-'));
  try {
    const compile = (output: string, names: string[]): void => {
      const inputs = names.map((name) => path.join(sources, name));
      run(compiler, [...compilerArgs, ...FLAGS, '-o', path.join(work, path.basename(output)), ...inputs, ...LIBRARIES]);
    };
    const library = files.filter((name) => name.endsWith('.c') && name !== KEEPER_SOURCE);
    compile(built.library, library);
    compile(built.keeper, [KEEPER_SOURCE]);
    publish(work, folder);
  } finally {
    fs.rmSync(work, { recursive: true, force: true });
  }
  return built;
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
      `the shim is C and needs a compiler: '${compiler}' cannot be run (set CC, or install gcc or clang)`,
    );
  }
  if (status !== 0) throw new Error(`'${compiler} ${args.join(' ')}' failed:\n${stderr}`);
}

function cacheFolder(): string {
  const base = process.env.XDG_CACHE_HOME || path.join(homedir(), '.cache');
  const folder = path.join(base, 'uiommufd');
  if (/[\s:]/.test(folder)) {
    throw new Error(
      `LD_PRELOAD cannot name a folder with spaces or colons: set XDG_CACHE_HOME to another than '${base}'`,
    );
  }
  return folder;
}

/** shim/ of the package that this file is in, whether it runs from src/ or bundled in dist/. */
function findSources(): string {
  for (let at = path.dirname(fileURLToPath(import.meta.url)); ; at = path.dirname(at)) {
    const manifest = path.join(at, 'package.json');
    if (fs.existsSync(manifest) && JSON.parse(fs.readFileSync(manifest, 'utf8')).name === 'uiommufd') {
      return path.join(at, 'shim');
    }
    if (at === path.dirname(at)) throw new Error(`the package uiommufd is not above ${import.meta.url}`);
  }
}
