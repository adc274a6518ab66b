/**
 * What a kernel with fault injection shows of it: a file of each thread that makes an allocation fail, and the settings
 * in debugfs. Those that are here would widen what can fail, or silence the log: everything can, and nothing is logged.
 */
import type { SysfsEntry } from './sysfs.ts';

export const DEBUGFS = '/sys/kernel/debug';

/** The shim knows it under the names with a thread's number as well. */
export const FAIL_NTH_NODE = {
  path: '/proc/thread-self/fail-nth',
  major: 0,
  minor: 0,
  mode: 0o644,
  regular: true,
} as const;

const SETTINGS = {
  failslab: ['ignore-gfp-wait', 'verbose'],
  fail_page_alloc: ['ignore-gfp-wait', 'ignore-gfp-highmem', 'verbose'],
} as const;

const INITIAL: Readonly<Record<string, string>> = { verbose: '2\n' };

export const FAULT_INJECTION_FILES: readonly SysfsEntry[] = Object.entries(SETTINGS).flatMap(([folder, files]) =>
  files.map((file): SysfsEntry => {
    const content = INITIAL[file] ?? 'Y\n';
    return { path: `${DEBUGFS}/${folder}/${file}`, kind: 'file', content, mode: 0o600 };
  }),
);
