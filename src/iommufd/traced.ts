/** Emits what a call did, for every file of ours. */
import { Errno } from '../abi/errno.ts';
import type { AnyStruct } from '../abi/struct.ts';
import type { TraceEvent, Tracer } from '../trace/events.ts';
import type { ClientProcess } from './file.ts';

/**
 * Runs a call and passes on what it returns or throws. Afterwards emits `event(result, reason)`: the result as the
 * kernel has it (an errno is negative), the reason '' unless refused.
 */
export function traced(
  tracer: Tracer,
  run: () => number | Promise<number>,
  event: (result: number, reason: string) => TraceEvent,
): number | Promise<number> {
  if (!tracer.on) return run();
  const succeeded = (result: number): number => {
    tracer.emit(event(result, ''));
    return result;
  };
  const failed = (error: unknown): never => {
    if (error instanceof Errno) tracer.emit(event(-error.errno, error.reason));
    throw error;
  };
  try {
    const result = run();
    return typeof result === 'number' ? succeeded(result) : result.then(succeeded, failed);
  } catch (error) {
    return failed(error);
  }
}

/** traced() for an ioctl whose argument points at `struct`, if it points at one. @param file name of the file in the trace */
export function tracedIoctl(
  tracer: Tracer,
  caller: ClientProcess,
  call: { readonly file: string; readonly command: number; readonly struct: AnyStruct | null; readonly arg: bigint },
  run: () => number | Promise<number>,
): number | Promise<number> {
  if (!tracer.on) return run();
  const { file, command, struct, arg } = call;
  const peek = (): Uint8Array => {
    const bytes = new Uint8Array(struct?.size ?? 0);
    return caller.memory.read(Number(arg), bytes) ? bytes : bytes.subarray(0, 0);
  };
  const before = peek();
  const name = struct?.structName ?? '';
  return traced(tracer, run, (result, reason) => {
    return { type: 'ioctl', pid: caller.pid, file, command, struct: name, before, after: peek(), result, reason };
  });
}
