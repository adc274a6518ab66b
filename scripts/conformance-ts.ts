/** `npm run conformance:ts`: the TypeScript conformance suite on every target that there is here. */
import { type Target, table } from '../test/conformance-ts/results.ts';
import { CHOICES, inProcess, noKernel, onKernel, throughShim } from '../test/conformance-ts/targets.ts';
import { KERNEL_ONLY } from '../test/conformance-ts/unreached.ts';

const targets: Target[] = [];
for (const choice of CHOICES) targets.push(await inProcess(choice));
for (const choice of CHOICES) targets.push(await throughShim(choice));
const why = noKernel();
if (!why) targets.push(await onKernel());
process.stdout.write(`${table(targets)}\n`);
for (const { command, errnos, why: reason } of KERNEL_ONLY) {
  process.stdout.write(`no case for ${errnos} of ${command}: ${reason}\n`);
}
process.stdout.write(why ? `kernel: skipped: ${why}\n` : '');
process.exitCode = targets.some(({ results }) => results.some(({ verdict }) => verdict === 'fail')) ? 1 : 0;
