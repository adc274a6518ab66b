/** examples/NAME.c, compiled as it stands. */
import path from 'node:path';
import { compileOnce, packageRoot } from '../server/compile.ts';
import { CliError } from './exit.ts';

/** @returns the program's path */
export function buildExample(name: string, defines: readonly string[]): string {
  const sources = path.join(packageRoot(), 'examples');
  try {
    const folder = compileOnce({
      sources,
      flags: [
        '-O2',
        '-Wall',
        '-Wextra',
        '-pthread',
        ...defines.map((define) => `-D${define}`),
        `-I${path.join(sources, 'uapi')}`,
      ],
      outputs: { [name]: [`${name}.c`] },
      onCompile: () => process.stderr.write(`uiommufd: compiling examples/${name}.c\n`),
    });
    return path.join(folder, name);
  } catch (error) {
    throw new CliError((error as Error).message);
  }
}
