/** Compiles the shim once, before any test file waits for it. */
import { buildShim, buildStart } from '../src/server/build-shim.ts';
import { hasCompiler } from './abi/layout.ts';

export default function setup(): void {
  if (!hasCompiler()) return;
  buildShim();
  buildStart();
}
