/** A machine and its server, for as long as something runs on them. */
import { existsSync, readFileSync } from 'node:fs';
import { type Dialect, dialect } from '../abi/dialects.ts';
import type { FailurePoints } from '../drivers/failure-points.ts';
import { Machine } from '../host/machine.ts';
import { type MachineDescription, parseMachine } from '../host/machine-description.ts';
import { MachineError } from '../host/machine-error.ts';
import { MOCK_MACHINE, MockMachine } from '../host/mock-machine.ts';
import { PRESETS, preset } from '../host/presets.ts';
import { DiskFile } from '../server/disk-file.ts';
import { Server } from '../server/server.ts';
import type { Tracer } from '../trace/events.ts';
import { CliError } from './exit.ts';

export interface MachineOptions {
  /** A preset or a file. */
  readonly machine: string;
  readonly vmidPolicy?: MachineDescription['policy']['vmid'];
  /** Makes an allocation of the programs' calls fail. */
  readonly failures?: FailurePoints;
}

export interface Session {
  readonly server: Server;
  readonly machine: Machine | MockMachine;
}

export async function withMachine<T>(
  options: MachineOptions,
  dialect: Dialect,
  tracer: Tracer,
  body: (session: Session) => Promise<T>,
): Promise<T> {
  const machine = makeMachine(options, dialect, tracer);
  const { failures } = options;
  const server = new Server({ machine, tracer, ...(failures ? { failures } : {}) });
  try {
    await server.start();
  } catch (error) {
    throw new CliError((error as Error).message);
  }
  try {
    return await body({ server, machine });
  } finally {
    await server.stop();
  }
}

function makeMachine(
  { machine: name, vmidPolicy }: MachineOptions,
  dialect: Dialect,
  tracer: Tracer,
): Session['machine'] {
  if (name === MOCK_MACHINE.name) return new MockMachine({ dialect, tracer });
  const description = loadMachine(name);
  const policy = vmidPolicy ? { ...description.policy, vmid: vmidPolicy } : description.policy;
  const openDisk = (path: string): DiskFile => new DiskFile(path);
  return inOneSentence(name, () => new Machine({ ...description, policy }, { dialect, tracer, openDisk }));
}

/** A preset by its name, or a description from a file. */
export function loadMachine(name: string): MachineDescription {
  if (name === MOCK_MACHINE.name) throw new CliError('machine mock has no description: programs make its devices');
  return inOneSentence(name, () =>
    parseMachine(isPreset(name) || !isFile(name) ? preset(name).machine : readJson(name)),
  );
}

const isPreset = (name: string): boolean => Object.hasOwn(PRESETS, name);
const isFile = (name: string): boolean => /\.json$|\//.test(name) || existsSync(name);

function inOneSentence<T>(name: string, make: () => T): T {
  try {
    return make();
  } catch (error) {
    if (!(error instanceof MachineError)) throw error;
    throw new CliError(isFile(name) && !isPreset(name) ? `${name}: ${error.message}` : error.message);
  }
}

function readJson(path: string): unknown {
  try {
    return JSON.parse(readFileSync(path, 'utf8'));
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    // What JSON.parse shows of the text may go over several lines.
    throw new CliError(`${path}: ${code ? `cannot be read (${code})` : message.replace(/\s+/g, ' ')}`);
  }
}

export function findDialect(name: string): Dialect {
  try {
    return dialect(name);
  } catch (error) {
    throw new CliError((error as Error).message);
  }
}
