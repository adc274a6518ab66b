/**
 * What a program inherits from whoever started us, and Node has changed for itself before any of our code runs: the soft
 * limit of open files (raised to the hard one) and ignored signals (set to their default). bin/uiommufd keeps both.
 */
import fs from 'node:fs';

export interface StartState {
  /** Soft RLIMIT_NOFILE; null: what it is now. */
  readonly files: number | null;
  /** Mask of ignored signals, bit 0 is signal 1. */
  readonly ignored: bigint;
}

/** Where bin/uiommufd leaves "FILES MASK" for us. */
const KEPT = 'UIOMMUFD_STARTED';

/** Takes it out of the environment. Started in another way, the limit is our parent's, and no signal is ignored. */
export function takeStartState(env: NodeJS.ProcessEnv = process.env): StartState {
  const kept = /^(\d+|unlimited) ([0-9a-f]+)$/.exec(env[KEPT] ?? '');
  delete env[KEPT];
  const files = kept ? kept[1]! : softLimit(process.ppid);
  const ignored = kept ? BigInt(`0x${kept[2]}`) : 0n;
  return { files: /^\d+$/.test(files) && files !== softLimit('self') ? Number(files) : null, ignored };
}

/** As proc_pid_limits(5) shows it; '' when it cannot be seen. */
function softLimit(pid: number | 'self'): string {
  try {
    return /^Max open files +(\S+)/m.exec(fs.readFileSync(`/proc/${pid}/limits`, 'latin1'))?.[1] ?? '';
  } catch {
    return '';
  }
}
