/** Runs every case in this process, on whatever its /dev/iommu is. A line of JSON for each. */
import { nativePrograms, whyNot } from './native.ts';
import { runAll } from './results.ts';

const why = whyNot();
if (why) {
  process.stderr.write(`${why}\n`);
  process.exit(3);
}
const start = await nativePrograms(process.argv[2] === 'viommu-v2' ? 'viommu-v2' : 'linux-7.1');
for await (const result of runAll(start)) process.stdout.write(`${JSON.stringify(result)}\n`);
