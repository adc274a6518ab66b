/** The command line: every command, option and help text of `uiommufd`. */
import { Command, type CommanderError, InvalidArgumentError, Option } from 'commander';
import packageJson from '../../package.json' with { type: 'json' };
import { DEFAULT_DIALECT } from '../abi/dialects.ts';
import { DEFAULT_PRESET } from '../host/presets.ts';
import { abiCommand } from './abi-command.ts';
import { demoCommand } from './demo.ts';
import { OWN_FAILURE } from './exit.ts';
import { machinesCommand } from './machines.ts';
import { runCommand } from './run.ts';

const machineOption = () =>
  new Option('-m, --machine <machine>', 'a preset (see "uiommufd machines") or a JSON file').default(DEFAULT_PRESET);
const vmidOption = () =>
  new Option(
    '--vmid-policy <policy>',
    'how the SMMU driver gives out VMIDs: one for each vIOMMU, or, as Linux does now, one for each stage 2',
  ).choices(['per-viommu', 'per-domain']);

export function program(): Command {
  const top = new Command('uiommufd')
    .description('iommufd in user space: runs programs that use /dev/iommu and /dev/vfio/devices on simulated IOMMUs.')
    .version(packageJson.version)
    .enablePositionalOptions()
    .exitOverride(endOnUsageError)
    .configureOutput({ outputError: (text, write) => write(`uiommufd: ${text.replace(/^error: /, '')}`) })
    .addHelpText('after', TOP_EXAMPLES);
  top.addCommand(run(top)).addCommand(demo(top), { isDefault: true }).addCommand(machines(top)).addCommand(abi(top));
  return top;
}

const TOP_EXAMPLES = `
Examples:
  uiommufd                                   show what two SMMUs do for one VM (the demo)
  uiommufd run -- ./my-vmm --device 01:00.0  run a program
  uiommufd run --trace -- ./my-vmm           the same, with every ioctl and SMMU command on stderr
  uiommufd help run                          all about one command`;

const command = (parent: Command, name: string): Command => new Command(name).copyInheritedSettings(parent);

function run(parent: Command): Command {
  return command(parent, 'run')
    .summary('run a program')
    .description(
      'Runs PROGRAM so that /dev/iommu, /dev/vfio/devices and their part of /sys are those of a simulated machine. ' +
        'Nothing else changes for the program: it has its own stdin, stdout and stderr, and its exit status is passed on.',
    )
    .usage('[options] -- PROGRAM [ARGS...]')
    .argument('<program>', 'the program, looked up in PATH')
    .argument('[args...]', 'its arguments')
    .passThroughOptions()
    .addOption(machineOption())
    .option('-a, --abi <dialect>', 'the uAPI that is spoken (see "uiommufd abi")', DEFAULT_DIALECT)
    .addOption(vmidOption())
    .option('--fail-nth <n>', 'make the n-th allocation in the calls of PROGRAM fail (ENOMEM)', positive)
    .option('-t, --trace', 'write a readable trace to stderr')
    .option('--trace-all', 'as --trace, with register accesses, cache hits and fills, and CMD_SYNC')
    .option('--trace-file <file>', 'write the readable trace to a file instead')
    .option('--trace-json <file>', 'write every event to a file, as one JSON object a line')
    .addHelpText('after', RUN_HELP)
    .action((program: string, args: string[], options) => runCommand(program, args, options));
}

const RUN_HELP = `
Exit status:
  that of PROGRAM; if a signal kills PROGRAM, uiommufd dies of the same signal
  125 if uiommufd itself fails, 126 if PROGRAM cannot be executed, 127 if it is not found

Examples:
  uiommufd run -- ls /dev/vfio/devices
  uiommufd run --machine my-machine.json --abi linux-6.13 -- ./my-vmm
  uiommufd run --fail-nth 7 -- ./my-vmm             does it survive? What failed is told on stderr
  uiommufd run --trace-file vmm.trace -- ./my-vmm   then look for " = -1 " in vmm.trace`;

function demo(parent: Command): Command {
  return command(parent, 'demo')
    .summary('show a VM with two SMMUs that share one stage 2 (the default)')
    .description(
      'Compiles examples/two-smmus.c, an ordinary program that does what a VMM does, and runs it with a live trace. ' +
        'The exit status is 1 when something that it should show did not show.',
    )
    .argument('[dialects...]', 'the uAPIs in which to run it', [DEFAULT_DIALECT, 'viommu-v2'])
    .addOption(machineOption())
    .addOption(vmidOption())
    .option('--trace-all', 'also register accesses, cache hits and fills, and CMD_SYNC')
    .option('-q, --quiet', 'only the checks and the verdict')
    .addHelpText('after', DEMO_HELP)
    .action((dialects: string[], options) => demoCommand(dialects, options));
}

const DEMO_HELP = `
Examples:
  uiommufd demo linux-7.1
  uiommufd demo --quiet
  uiommufd demo --vmid-policy per-domain   what goes wrong when two slices of an SMMU share a VMID`;

function machines(parent: Command): Command {
  return command(parent, 'machines')
    .summary('list the machines, or print one')
    .description(
      'Lists the preset machines; with a name or a file, prints that machine in full, as JSON to start from.',
    )
    .argument('[machine]', 'a preset or a JSON file')
    .option('--schema', 'print the JSON schema of a machine description')
    .addHelpText('after', MACHINES_HELP)
    .action((machine: string | undefined, options) => machinesCommand(machine, options));
}

const MACHINES_HELP = `
Examples:
  uiommufd machines two-smmus > my-machine.json
  uiommufd machines --schema > machine.schema.json`;

function abi(parent: Command): Command {
  return command(parent, 'abi')
    .summary('list the dialects of the uAPI, or what one speaks')
    .description(
      'Lists the dialects and what each added; with a name, all its commands, and which are not supported here.',
    )
    .argument('[dialect]', 'such as linux-6.13 or viommu-v2')
    .addHelpText('after', '\nExamples:\n  uiommufd abi\n  uiommufd abi viommu-v2')
    .action((dialect: string | undefined) => abiCommand(dialect));
}

function positive(text: string): number {
  const n = Number(text);
  if (Number.isSafeInteger(n) && n > 0) return n;
  throw new InvalidArgumentError('It is not a number from 1 on.');
}

/** Help and version end well; a mistake on the command line is a failure of our own. */
function endOnUsageError(error: CommanderError): never {
  process.exit(error.exitCode === 0 ? 0 : OWN_FAILURE);
}
