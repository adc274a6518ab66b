/** `npm run vmm -- --qemu PATH --kernel PATH --initrd PATH`: boots a guest with NVMe functions of ours, and judges it. */
import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { Command } from 'commander';
import { findDialect } from '../src/cli/session.ts';
import { withTrace } from '../src/cli/trace-options.ts';
import { initramfs } from './vmm/initramfs.ts';
import { judge } from './vmm/judge.ts';
import { QueueWitness } from './vmm/queue-witness.ts';
import { runGuest } from './vmm/run-guest.ts';
import { SCENARIOS, scenarioFor } from './vmm/scenarios.ts';

interface RunOptions {
  readonly qemu: string;
  readonly kernel: string;
  readonly initrd: string;
  readonly firmware?: string;
  readonly scenario?: string;
  readonly abi?: string;
  readonly machine?: string;
  readonly functions?: string;
  readonly mib: string;
  readonly seconds: string;
  readonly traceFile?: string;
  readonly quiet?: true;
}

const list = Object.entries(SCENARIOS).map(([name, { summary }]) => `  ${name.padEnd(16)} ${summary}`);

const program = new Command('npm run vmm --')
  .description('Boots a guest in QEMU with NVMe functions of uiommufd, and judges what it says.')
  .exitOverride(({ exitCode }) => process.exit(exitCode === 0 ? 0 : 2));

program
  .command('run', { isDefault: true })
  .requiredOption('--qemu <path>', 'qemu-system-x86_64 or qemu-system-aarch64')
  .requiredOption('--kernel <path>', "the guest's kernel")
  .requiredOption('--initrd <path>', 'its initial root file system, made by "npm run vmm -- initrd"')
  .option('--firmware <path>', 'edk2 for aarch64 (64 MiB), which shows the guest what is behind a vSMMU')
  .option('--scenario <name>', 'see below; chosen by the name and the version of QEMU when absent')
  .option('--abi <dialect>', "the uAPI, when it is not the scenario's own")
  .option('--machine <name>', "preset or file, when it is not the scenario's own")
  .option('--functions <bdf,...>', "which functions the guest gets, when not the scenario's own")
  .option('--mib <n>', 'MiB to write and read back', '64')
  .option('--seconds <n>', 'time limit', '300')
  .option('--trace-file <path>', 'writes every ioctl, command and DMA there')
  .option('--quiet', 'prints the verdict only')
  .addHelpText('after', `\nScenarios:\n${list.join('\n')}`)
  .action(run);

program
  .command('initrd')
  .description("Makes the guest's initial root file system.")
  .requiredOption('--busybox <path>', "a static busybox of the guest's architecture")
  .option(
    '--modules <folder>',
    "lib/modules/RELEASE of the guest's kernel; without it the NVMe driver must be built in",
  )
  .requiredOption('--output <path>', 'the file to write')
  .action((options: { busybox: string; modules?: string; output: string }) => {
    writeFileSync(options.output, initramfs(options.busybox, options.modules ?? null));
  });

async function run(options: RunOptions): Promise<void> {
  const name = options.scenario ?? scenarioFor(options.qemu, versionOf(options.qemu));
  const scenario = SCENARIOS[name];
  if (!scenario) throw new Error(`--scenario is ${name}, expected one of ${Object.keys(SCENARIOS).join(', ')}`);
  if (scenario.needsFirmware && !options.firmware) throw new Error(`scenario ${name} needs --firmware`);
  const dialect = findDialect(options.abi ?? scenario.dialect);
  const functions = options.functions?.split(',') ?? scenario.functions;
  const files = { kernel: options.kernel, initrd: options.initrd, firmware: options.firmware ?? null };
  print(`${name}: ${scenario.summary}`);
  const queues = scenario.queuesEach ? new QueueWitness(scenario.queuesEach * functions.length) : null;
  const outcome = await withTrace(
    options.traceFile ? { traceFile: options.traceFile, traceAll: true } : {},
    dialect,
    (tracer) => {
      if (queues) tracer.add(queues.sink);
      return runGuest({
        qemu: options.qemu,
        arguments: scenario.arguments(files, functions, Number(options.mib)),
        machine: options.machine ?? scenario.machine,
        dialect,
        tracer,
        seconds: Number(options.seconds),
        onLine: options.quiet ? () => {} : print,
      });
    },
  );
  const findings = [...judge(outcome, functions.length), ...(queues?.findings() ?? [])];
  for (const { good, sentence } of findings) print(`  ${good ? 'yes' : 'NO '} ${sentence}`);
  process.exitCode = findings.every(({ good }) => good) ? 0 : 1;
}

const versionOf = (qemu: string): string => execFileSync(qemu, ['--version'], { encoding: 'utf8' });

function print(line: string): void {
  process.stdout.write(`${line}\n`);
}

try {
  await program.parseAsync();
} catch (error) {
  process.stderr.write(`vmm: ${(error as Error).message}\n`);
  process.exitCode = 2;
}
