/** Runs the benchmarks of the file that is named on the command line and prints their results as JSON. */
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { runAll } from './harness.ts';

await import(pathToFileURL(path.resolve(process.argv[2]!)).href);
console.log(JSON.stringify(await runAll()));
process.exit();
