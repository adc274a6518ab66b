/** Reads what guest-init.sh says on the guest's console. */

export class GuestConsole {
  readonly passed: string[];
  readonly failed: string[];
  readonly notes: string[];
  finished: boolean;
  private rest: string;

  constructor() {
    this.passed = [];
    this.failed = [];
    this.notes = [];
    this.finished = false;
    this.rest = '';
  }

  /** Takes output as it comes. @returns the lines that ended in it, without their ends */
  take(text: string): string[] {
    const lines = (this.rest + text).split('\n');
    this.rest = lines.pop()!;
    const whole = lines.map((line) => line.replace(/\r$/, ''));
    for (const line of whole) this.line(line);
    return whole;
  }

  private line(line: string): void {
    const said = /guest: (ok|not ok|note|done,) (.*)$/.exec(line);
    if (!said) return;
    const [, kind, what] = said as unknown as [string, string, string];
    if (kind === 'ok') this.passed.push(what);
    else if (kind === 'not ok') this.failed.push(what);
    else if (kind === 'note') this.notes.push(what);
    else this.finished = true;
  }
}
