/** `npm run conformance:ts`: the TypeScript conformance suite on every target that there is here. */
import type { Target } from '../test/conformance-ts/results.ts';
import { table } from '../test/conformance-ts/results.ts';
import { CHOICES, inProcess, noKernel, onKernel, throughShim } from '../test/conformance-ts/targets.ts';

const targets: Target[] = [];
for (const choice of CHOICES) targets.push(await inProcess(choice));
for (const choice of CHOICES) targets.push(await throughShim(choice));
const why = noKernel();
if (!why) targets.push(await onKernel());
process.stdout.write(`${table(targets)}\n`);
process.stdout.write(why ? `kernel: skipped: ${why}\n` : '');
process.exitCode = targets.some(({ results }) => results.some(({ verdict }) => verdict === 'fail')) ? 1 : 0;
