/** Events as JSON, one a line, for other programs: bytes as hex digits, a time in milliseconds and the event's fields. */
import type { TraceEvent } from './events.ts';
import type { Sink } from './trace.ts';

/** @param now milliseconds since the trace began */
export const jsonLines =
  (write: (line: string) => void, now: () => number): Sink =>
  (event: TraceEvent) => {
    write(
      JSON.stringify({ time: now(), ...event }, (_key, value) => (value instanceof Uint8Array ? toHex(value) : value)),
    );
  };

const toHex = (bytes: Uint8Array): string => Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
