/** A call that was refused. */
import { Errno, errnoName } from '../abi/errno.ts';

/** `answer`: the struct of the call as it is afterwards, for the calls that tell something even then. */
export class Refusal extends Errno {
  readonly answer: { readonly bytes: Uint8Array } | null;

  /** @param result negative errno of a system call */
  constructor(result: number, call: string, answer: { readonly bytes: Uint8Array } | null = null) {
    super(errnoName(-result), `${call} was refused`);
    this.answer = answer;
  }
}

/** The result of a system call, or a Refusal for a negative one. */
export function checked(result: number, call: string): number {
  if (result < 0) throw new Refusal(result, call);
  return result;
}
