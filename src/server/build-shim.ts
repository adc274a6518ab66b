/** The shim, compiled: the preload library and the keeper. */
import path from 'node:path';
import { compileOnce, packageRoot, sourceFiles } from './compile.ts';

export interface BuiltShim {
  /** To be preloaded from the folder with its configuration. */
  readonly library: string;
  /** An addon for Node. */
  readonly keeper: string;
}

const LIBRARY = 'libuiommufd-shim.so';
const KEEPER = 'keeper.node';
/** Of the sources: the other files in the folder of the shim itself are the library's. */
const isKeeper = (file: string): boolean => file.startsWith('keeper/');
// Without _FORTIFY_SOURCE, whose headers define inline what we define; without a host's default that adds it.
export const SHIM_FLAGS =
  '-std=gnu17 -O2 -fPIC -shared -Wall -Wextra -fvisibility=hidden -D_GNU_SOURCE -U_FORTIFY_SOURCE'.split(' ');

const START = 'uiommufd-start';

/** The program that restores what Node has changed for itself; see shim/start/start.c. */
export function buildStart(): string {
  const sources = path.join(packageRoot(), 'shim/start');
  const flags = ['-std=gnu17', '-O2', '-Wall', '-Wextra', '-D_GNU_SOURCE'];
  return path.join(compileOnce({ sources, flags, outputs: { [START]: ['start.c'] } }), START);
}

export function buildShim(sources = path.join(packageRoot(), 'shim')): BuiltShim {
  const files = sourceFiles(sources).filter((file) => file.endsWith('.c'));
  const folder = compileOnce({
    sources,
    flags: SHIM_FLAGS,
    libraries: ['-ldl', '-pthread'],
    outputs: { [LIBRARY]: files.filter((file) => !file.includes('/')), [KEEPER]: files.filter(isKeeper) },
  });
  return { library: path.join(folder, LIBRARY), keeper: path.join(folder, KEEPER) };
}
