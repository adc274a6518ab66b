/**
 * What a program writes to its standard output, in step with what it does: a file without a name, in which everything
 * that it wrote before a call is there when the call comes. (A pipe is read whenever the event loop comes to it.)
 */
import { randomUUID } from 'node:crypto';
import { closeSync, openSync, readSync, unlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { StringDecoder } from 'node:string_decoder';

export class Output {
  /** For the program's stdio. */
  readonly file: number;
  private readonly onLine: (line: string) => void;
  private readonly decoder: StringDecoder;
  private readonly buffer: Uint8Array;
  private position: number;
  private begun: string;

  constructor(onLine: (line: string) => void) {
    const name = path.join(tmpdir(), `uiommufd-output-${randomUUID()}`);
    this.file = openSync(name, 'wx+', 0o600);
    unlinkSync(name);
    this.onLine = onLine;
    this.decoder = new StringDecoder();
    this.buffer = new Uint8Array(4096);
    this.position = 0;
    this.begun = '';
  }

  /** Passes on the lines that are complete. */
  drain(): void {
    for (;;) {
      const count = readSync(this.file, this.buffer, 0, this.buffer.length, this.position);
      if (count === 0) return;
      this.position += count;
      const lines = (this.begun + this.decoder.write(this.buffer.subarray(0, count))).split('\n');
      this.begun = lines.pop()!;
      for (const line of lines) this.onLine(line);
    }
  }

  /** Passes on the rest. */
  close(): void {
    this.drain();
    if (this.begun) this.onLine(this.begun);
    closeSync(this.file);
  }
}
