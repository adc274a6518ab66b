/** The shim, compiled: the preload library and the keeper. */
import path from 'node:path';
import { compileOnce, packageRoot, sourceFiles } from './compile.ts';

export interface BuiltShim {
  /** For LD_PRELOAD. */
  readonly library: string;
  /** An addon for Node. */
  readonly keeper: string;
}

const LIBRARY = 'libuiommufd-shim.so';
const KEEPER = 'keeper.node';
const KEEPER_SOURCE = 'keeper.c';
// Without _FORTIFY_SOURCE, whose headers define inline what we define; without a host's default that adds it.
const FLAGS = '-std=gnu17 -O2 -fPIC -shared -Wall -Wextra -fvisibility=hidden -D_GNU_SOURCE -U_FORTIFY_SOURCE'.split(
  ' ',
);

export function buildShim(sources = path.join(packageRoot(), 'shim')): BuiltShim {
  const library = sourceFiles(sources).filter((name) => name.endsWith('.c') && name !== KEEPER_SOURCE);
  const folder = compileOnce({
    sources,
    flags: FLAGS,
    libraries: ['-ldl', '-pthread'],
    outputs: { [LIBRARY]: library, [KEEPER]: [KEEPER_SOURCE] },
  });
  return { library: path.join(folder, LIBRARY), keeper: path.join(folder, KEEPER) };
}
