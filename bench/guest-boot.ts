/**
 * How long a guest takes to boot in QEMU, with the scenario's functions and without any, in seconds. Prints JSON: null
 * when the environment does not name the files (UIOMMUFD_QEMU, _KERNEL, _INITRD, and _FIRMWARE for aarch64).
 */
import { execFileSync } from 'node:child_process';
import { runGuest } from '../scripts/vmm/run-guest.ts';
import { type Files, SCENARIOS, scenarioFor } from '../scripts/vmm/scenarios.ts';
import { dialect } from '../src/abi/dialects.ts';
import { SILENT } from '../src/trace/events.ts';

const ROUNDS = 3;

const { UIOMMUFD_QEMU: qemu, UIOMMUFD_KERNEL: kernel, UIOMMUFD_INITRD: initrd, UIOMMUFD_FIRMWARE } = process.env;

async function measure(path: string, files: Files): Promise<{ scenario: string; bare: number; given: number }> {
  const scenario = scenarioFor(path, execFileSync(path, ['--version'], { encoding: 'utf8' }));
  const { machine, dialect: abi, functions, arguments: args } = SCENARIOS[scenario]!;
  const boot = async (bdfs: readonly string[]): Promise<number> => {
    const words = args(files, bdfs, 0).map((word) => word.replace('uiommufd.mib=0', `uiommufd.boot=${bdfs.length}`));
    const run = { qemu: path, arguments: words, machine, dialect: dialect(abi), tracer: SILENT, seconds: 120 };
    const { console, seconds } = await runGuest({ ...run, onLine: () => {} });
    if (!console.finished || console.failed.length)
      throw new Error(`the guest with ${bdfs.length} functions did not boot`);
    return seconds;
  };
  let [bare, given] = [Infinity, Infinity];
  for (let round = 0; round < ROUNDS; round++) {
    bare = Math.min(bare, await boot([]));
    given = Math.min(given, await boot(functions));
  }
  return { scenario, bare, given };
}

const named = qemu && kernel && initrd;
const result = named ? await measure(qemu, { kernel, initrd, firmware: UIOMMUFD_FIRMWARE ?? null }) : null;
process.stdout.write(JSON.stringify(result));
