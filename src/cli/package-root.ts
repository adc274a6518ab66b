/** Where shim/ and examples/ are: the folder of this package, whether this file runs from src/ or bundled in dist/. */
import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

export function packageRoot(): string {
  for (let at = path.dirname(fileURLToPath(import.meta.url)); ; at = path.dirname(at)) {
    const manifest = path.join(at, 'package.json');
    if (existsSync(manifest) && JSON.parse(readFileSync(manifest, 'utf8')).name === 'uiommufd') return at;
    if (at === path.dirname(at)) throw new Error(`the package uiommufd is not above ${import.meta.url}`);
  }
}
