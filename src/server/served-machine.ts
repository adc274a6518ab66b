/** What a server serves: the host layer implements it. */
import type { ClientProcess, OpenFile } from '../iommufd/file.ts';

/** A character device node, or another file that lives, which programs can open. */
export interface DeviceNode {
  /** Absolute, under one of `ownedRoots`: '/dev/iommu'. */
  readonly path: string;
  readonly major: number;
  readonly minor: number;
  /** Permission bits; 0o600 when absent. */
  readonly mode?: number;
  /** Shown as a regular file: one of /proc or /sys. */
  readonly regular?: boolean;
  /** Bytes, as stat(2) shows it; 0 when absent. */
  readonly size?: number;
}

/** A file that programs see, laid out when the server starts. Directories above it need no entry of their own. */
export type SysfsEntry =
  | { readonly path: string; readonly kind: 'dir' }
  | { readonly path: string; readonly kind: 'file'; readonly content: string | Uint8Array; readonly mode?: number }
  /** `target` as readlink shows it, relative to the link's directory; an absolute one is made relative. */
  | { readonly path: string; readonly kind: 'link'; readonly target: string };

export interface ServedMachine {
  /**
   * Opens a device node: the path is one of `deviceNodes`.
   * @param flags as given to open(2)
   */
  open(path: string, flags: number, caller: ClientProcess): OpenFile;
  readonly deviceNodes: readonly DeviceNode[];
  readonly sysfs: readonly SysfsEntry[];
  /** Absolute paths: they and all that is under them are ours, whatever the real machine has there. */
  readonly ownedRoots: readonly string[];
  /** The server sets it, where the machine has it: paths of `deviceNodes` and `sysfs` that vanish, and come back. */
  onVisible?: ((path: string, visible: boolean) => void) | null;
  /** The same for files of `sysfs` whose content changes. */
  onContent?: ((path: string, content: string) => void) | null;
  /**
   * Runs the machine's clock: called after each call, before its result is seen.
   * @param most tasks to run
   * @returns whether there is nothing more to do now; otherwise it is called again soon
   */
  settle(most: number): boolean;
}
