/** The recorded cases in test/vectors/smmuv3-cases.json.gz: their shape, and how to read them. Numbers are hex strings. */
import { readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';

export type Outcome =
  | { readonly r: 'ok'; readonly pa: string }
  | { readonly r: 'abort' }
  | {
      readonly r: 'fault';
      readonly t: string;
      readonly sid: string;
      readonly s2?: number;
      readonly cls?: string;
      readonly rnw?: number;
      readonly addr?: string;
      readonly ipa?: string;
      readonly fetch?: string;
    };

export interface DmaStep {
  readonly op: 'dma';
  readonly sid: string;
  readonly w: number;
  readonly iova: string;
  readonly out: Outcome;
  readonly cls: 'strict' | 'either' | 'deviation' | 'choice';
  /** `either`: the outcomes that are right. */
  readonly accept?: Outcome[];
  /** `deviation`: why the recorded model differs, and what the architecture expects. */
  readonly dev?: string[];
  readonly arm?: Outcome;
}

export interface MemStep {
  readonly op: 'mem';
  readonly set: Array<[string, string]>;
}

export interface CmdStep {
  readonly op: 'cmd';
  readonly w: Array<[string, string]>;
}

export interface Case {
  readonly id: string;
  readonly regs: Readonly<Record<string, string>>;
  readonly mem: Array<[string, string]>;
  readonly steps: Array<DmaStep | MemStep | CmdStep>;
}

export interface Cases {
  readonly IDR: Readonly<Record<string, string>>;
  /** [start, end) of memory. */
  readonly ram: Array<[string, string]>;
  readonly cases: Case[];
}

export function readCases(): Cases {
  const file = new URL('../vectors/smmuv3-cases.json.gz', import.meta.url);
  return JSON.parse(gunzipSync(readFileSync(file)).toString('utf8'));
}
