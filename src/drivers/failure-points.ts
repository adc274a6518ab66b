/**
 * Allocations that can be made to fail. Each place of iommufd and its drivers where a kernel allocates says so by
 * mayFail(); a FailurePoints counts them through the calls that it is told to, and the one it waits for is refused
 * with ENOMEM. What a call did before must then be undone.
 */
import { fail } from '../abi/errno.ts';

/** Who counts now. Calls run one at a time, as on one CPU of a kernel. */
let counting: FailurePoints | null = null;

/** An allocation: ENOMEM when it is the one that is to fail. `what` completes "the allocation of". */
export function mayFail(what: string): void {
  if (counting) counting.pass(what);
}

/** Runs what undoes a call, for which kernels have all that it needs: none of its allocations fails, or is counted. */
export function undoing(call: () => void): void {
  const outer = counting;
  counting = null;
  try {
    call();
  } finally {
    counting = outer;
  }
}

export class FailurePoints {
  private left: number;
  private reached: string | null;

  constructor() {
    this.left = 0;
    this.reached = null;
  }

  /** The `n`-th allocation from now on fails, and only that one; 0: none. */
  failNth(n: number): void {
    this.left = n;
    this.reached = null;
  }

  /** How many allocations are left up to the one that fails, itself included. 0 when it has failed, or none is to. */
  get remaining(): number {
    return this.left;
  }

  /** What could not be allocated; null as long as nothing has failed since failNth(). */
  get failed(): string | null {
    return this.reached;
  }

  /** Runs `call`, counting its allocations. Of an asynchronous one those before it first waits. */
  during<T>(call: () => T): T {
    const outer = counting;
    counting = this.left ? this : null;
    try {
      return call();
    } finally {
      counting = outer;
    }
  }

  /** One allocation: mayFail() is for those who make it. */
  pass(what: string): void {
    if (this.left === 0 || --this.left > 0) return;
    this.reached = what;
    throw fail('ENOMEM', `the allocation of ${what} was made to fail`);
  }
}
