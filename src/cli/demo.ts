/** `uiommufd demo`: the bundled example with a live trace, in one dialect after the other, and what it showed. */
import { spawn } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Dialect } from '../abi/dialects.ts';
import type { Server } from '../server/server.ts';
import { commandsOf } from '../trace/print-ioctl.ts';
import { Printer } from '../trace/printer.ts';
import { Trace } from '../trace/trace.ts';
import { buildExample } from './build-example.ts';
import { type Paint, painter } from './colours.ts';
import { Output } from './output.ts';
import { findDialect, type MachineOptions, withMachine } from './session.ts';
import { type Finding, TapCounter, Witness } from './verdict.ts';

const EXAMPLE = 'two-smmus';

export interface DemoOptions extends MachineOptions {
  readonly traceAll?: boolean;
  readonly quiet?: boolean;
}

export async function demoCommand(names: readonly string[], options: DemoOptions): Promise<void> {
  const paint: Paint = painter(process.stdout) ?? ((_style, text) => text);
  const verdicts: Array<{ dialect: Dialect; findings: Finding[] }> = [];
  for (const dialect of names.map(findDialect)) {
    verdicts.push({ dialect, findings: await show(dialect, options, paint) });
  }
  for (const { dialect, findings } of verdicts) {
    print(`\n${paint('source', `examples/${EXAMPLE}.c, ${dialect.name}`)}`);
    for (const { good, sentence } of findings) print(`  ${mark(good, paint)} ${sentence}`);
  }
  if (!verdicts.every(({ findings }) => findings.every(({ good }) => good))) process.exitCode = 1;
}

async function show(dialect: Dialect, options: DemoOptions, paint: Paint): Promise<Finding[]> {
  const program = buildExample(EXAMPLE, dialect.name === 'viommu-v2' ? ['VIOMMU_V2'] : []);
  const trace = new Trace((error) => process.stderr.write(`uiommufd: ${(error as Error).message}\n`));
  const witness = new Witness();
  const tap = new TapCounter();
  const printer = new Printer({ write: print, lookup: commandsOf(dialect), paint, all: options.traceAll ?? false });
  const output = new Output((line) => {
    tap.line(line);
    printer.flush();
    print(paint(line.startsWith('not ok') ? 'refused' : 'call', line));
  });
  trace.add(witness.sink);
  // What the program wrote before a call stands above the call's line.
  trace.add(() => output.drain());
  if (!options.quiet) trace.add(printer.sink);

  print(`\n${paint('source', `--- examples/${EXAMPLE}.c, ${dialect.name} ---`)}`);
  const left = await withMachine(options, dialect, trace, async ({ server, machine }) => {
    await runExample(server, program, output.file);
    await clientsGone(server);
    return machine.leftovers();
  });
  output.close();
  printer.flush();
  return [tap.finding(), ...witness.findings(), nothingLeft(left)];
}

async function runExample(server: Server, program: string, stdout: number): Promise<void> {
  const child = spawn(program, [], {
    stdio: ['ignore', stdout, 'inherit'],
    env: { ...process.env, ...server.environment() },
  });
  await new Promise<void>((resolve, reject) => {
    child.on('error', reject);
    child.on('close', () => resolve());
  });
}

/** The kernel tells the server a moment later that a process has ended. */
async function clientsGone(server: Server): Promise<void> {
  for (let tries = 0; tries < 100 && Object.values(server.clients).some((count) => count > 0); tries++) await sleep(10);
}

function nothingLeft(leftovers: Readonly<Record<string, number>>): Finding {
  const left = Object.entries(leftovers).filter(([, count]) => count !== 0);
  const sentence = left.length ? left.map(([what, count]) => `${count} ${what}`).join(', ') : 'nothing';
  return { good: left.length === 0, sentence: `left behind when the program had ended: ${sentence}` };
}

const mark = (good: boolean, paint: Paint): string => (good ? paint('hardware', 'yes') : paint('refused', 'NO '));

function print(line: string): void {
  process.stdout.write(`${line}\n`);
}
