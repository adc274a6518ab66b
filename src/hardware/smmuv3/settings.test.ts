import { describe, expect, it } from 'vitest';
import { DEFAULT_SETTINGS, identityRegisters, type SmmuSettings } from './settings.ts';

const identity = (change: Partial<SmmuSettings>) => identityRegisters({ ...DEFAULT_SETTINGS, ...change });

describe('SMMU settings', () => {
  it('give the ID registers', () => {
    const seen = identity({ sidSize: 16, ssidSize: 0, oas: 44, granules: [4, 64], ats: false, pri: false, msi: false });
    expect([seen.IDR0, seen.IDR1, seen.IDR5].map((value) => value.toString(16))).toEqual(['d4c101b', '6730010', '54']);
    expect(identity({ archMinorRev: 2, iidr: 0x43b }).AIDR).toBe(2);
    expect(identity({ iidr: 0x43b }).IIDR).toBe(0x43b);
  });

  it.each([
    ['oas', { oas: 43 as 44 }],
    ['sidSize', { sidSize: 33 }],
    ['ssidSize', { ssidSize: 21 }],
    ['eventqs', { eventqs: 20 }],
    ['stallModel', { stallModel: 3 as 2 }],
    ['stallMax', { stallMax: 0 }],
    ['termModel', { termModel: 2 as 1 }],
    ['pri', { ats: false }],
    ['iotlbEntries', { iotlbEntries: 3 }],
    ['granules', { granules: [] }],
    ['s1p', { s1p: false, s2p: false }],
  ])('are refused with a sentence that names %s', (key, change) => {
    expect(() => identity(change)).toThrow(new RegExp(key));
  });
});
