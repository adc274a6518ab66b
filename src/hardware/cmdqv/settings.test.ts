import { describe, expect, it } from 'vitest';
import { type CmdqvSettings, cmdqvBytes, DEFAULT_CMDQV_SETTINGS, paramRegister } from './settings.ts';

const param = (change: Partial<CmdqvSettings>) => paramRegister({ ...DEFAULT_CMDQV_SETTINGS, ...change });

describe('CMDQV settings', () => {
  it('give PARAM and the size of the register block', () => {
    expect(param({}).toString(16)).toBe('4671');
    expect(param({ log2Vintfs: 0, log2Vcmdqs: 1 }).toString(16)).toBe('4011');
    expect(cmdqvBytes(DEFAULT_CMDQV_SETTINGS)).toBe(0x83_0000);
    expect(cmdqvBytes({ ...DEFAULT_CMDQV_SETTINGS, log2Vintfs: 0 })).toBe(0x5_0000);
  });

  it.each([
    ['version', { version: 16 }],
    ['log2Vintfs', { log2Vintfs: 7 }],
    ['log2Vcmdqs', { log2Vcmdqs: 8 }],
    ['log2Vcmdqs', { log2Vintfs: 3, log2Vcmdqs: 2 }],
    ['log2Sids', { log2Sids: 5 }],
  ])('are refused with a sentence that names %s', (key, change) => {
    expect(() => param(change)).toThrow(new RegExp(key));
  });
});
