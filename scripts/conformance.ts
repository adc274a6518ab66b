/** `npm run conformance -- DIR [RELEASE]`: the kernel's iommufd and VFIO selftests, built in DIR, against what a kernel gives. */
import { table } from './conformance/compare.ts';
import { hostLacks, runConformance } from './conformance/run.ts';

const DEFAULT_RELEASE = 'linux-7.1';

const [folder, release = DEFAULT_RELEASE] = process.argv.slice(2);
if (folder === undefined) {
  process.stderr.write(
    'usage: npm run conformance -- DIR [RELEASE]\nDIR holds iommufd and iommufd_fail_nth, or the tests of selftests/vfio, or both\n',
  );
  process.exit(2);
}
const lack = hostLacks();
if (lack) process.stdout.write(`note: ${lack}\n`);
try {
  const comparisons = await runConformance(folder, release);
  process.stdout.write(`${release}\n${table(comparisons)}\n`);
  process.exitCode = comparisons.some(({ deviations }) => deviations.length > 0) ? 1 : 0;
} catch (error) {
  process.stderr.write(`conformance: ${(error as Error).message}\n`);
  process.exitCode = 2;
}
