/** Where the trace of a run goes: `--trace`, `--trace-all`, `--trace-file`, `--trace-json`. */
import { closeSync, openSync, writeSync } from 'node:fs';
import type { Dialect } from '../abi/dialects.ts';
import { jsonLines } from '../trace/json-lines.ts';
import { commandsOf } from '../trace/print-ioctl.ts';
import { Printer } from '../trace/printer.ts';
import { Trace } from '../trace/trace.ts';
import { painter } from './colours.ts';
import { CliError } from './exit.ts';

export interface TraceOptions {
  readonly trace?: boolean;
  readonly traceAll?: boolean;
  readonly traceFile?: string;
  readonly traceJson?: string;
}

/** Runs `body` with a trace that goes where the options say. What is written is complete when this ends. */
export async function withTrace<T>(
  options: TraceOptions,
  dialect: Dialect,
  body: (trace: Trace) => Promise<T>,
): Promise<T> {
  const trace = new Trace((error) =>
    process.stderr.write(`uiommufd: the trace ends here: ${(error as Error).message}\n`),
  );
  const endings: Array<() => void> = [];
  try {
    if (options.traceJson) endings.push(writeJson(trace, options.traceJson));
    if (options.trace || options.traceAll || options.traceFile) endings.push(writeText(trace, options, dialect));
    return await body(trace);
  } finally {
    for (const end of endings) end();
  }
}

function writeJson(trace: Trace, path: string): () => void {
  const file = openTrace(path);
  const start = performance.now();
  const now = () => Math.round((performance.now() - start) * 1000) / 1000;
  trace.add(jsonLines((line) => writeSync(file, `${line}\n`), now));
  return () => closeSync(file);
}

function writeText(trace: Trace, { traceFile, traceAll = false }: TraceOptions, dialect: Dialect): () => void {
  const file = traceFile === undefined ? null : openTrace(traceFile);
  const paint = file === null ? painter(process.stderr) : undefined;
  const printer = new Printer({
    write: file === null ? (line) => process.stderr.write(`${line}\n`) : (line) => writeSync(file, `${line}\n`),
    lookup: commandsOf(dialect),
    all: traceAll,
    ...(paint && { paint }),
  });
  trace.add(printer.sink);
  return () => {
    printer.flush();
    if (file !== null) closeSync(file);
  };
}

function openTrace(path: string): number {
  try {
    return openSync(path, 'w');
  } catch (error) {
    throw new CliError(`cannot write the trace to ${path}: ${(error as NodeJS.ErrnoException).code}`);
  }
}
