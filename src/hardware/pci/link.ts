/**
 * The link between a root port and the function below, 8 GT/s and 16 lanes wide, as both ends tell of it (PCIe 5.0,
 * 7.5.3.6 and on). Ends of so fast a link have the Secondary PCI Express capability too (7.7.3).
 */
import { fixed } from './register-file.ts';
import { EXT_CAP_SECONDARY_EXPRESS } from './spec/config-space.ts';
import type { Register } from './spec/register.ts';

const LANES = 16;
/** Speed 3 is 8 GT/s; ASPM is optional. */
const LINK = 0x0040_0003 | (LANES << 4);
/** Runs so, by the clock of the slot. */
const LINK_NOW = 0x1003 | (LANES << 4);
/** A port that runs at 8 GT/s reports whether its link is up, and it is. */
const PORT_LINK = LINK | 0x0010_0000;
const PORT_LINK_NOW = LINK_NOW | 0x2000;
/** 2.5, 5 and 8 GT/s. */
const SPEEDS = 0x0e;
/** Equalized for 8 GT/s in all its phases. */
const EQUALIZED = 0x1e;

/** @param at offset of the Express capability. A function level reset leaves the link's settings alone (6.6.2) */
export function functionLink(at: number): Register[] {
  return [
    fixed('LNKCAP', at + 0x0c, 4, LINK),
    { name: 'LNKCTL', offset: at + 0x10, bytes: 2, writable: 0x00cbn, sticky: 0x00cbn },
    fixed('LNKSTA', at + 0x12, 2, LINK_NOW),
    fixed('LNKCAP2', at + 0x2c, 4, SPEEDS),
    /** Target speed, and what is for tests of compliance. */
    { name: 'LNKCTL2', offset: at + 0x30, bytes: 2, reset: 0x0003n, writable: 0xff9fn, sticky: 0xff9fn },
    fixed('LNKSTA2', at + 0x32, 2, EQUALIZED),
  ];
}

export function portLink(at: number): Register[] {
  return [
    fixed('LNKCAP', at + 0x0c, 4, PORT_LINK),
    fixed('LNKSTA', at + 0x12, 2, PORT_LINK_NOW),
    fixed('LNKCAP2', at + 0x2c, 4, SPEEDS),
    fixed('LNKCTL2', at + 0x30, 2, 0x0003),
    fixed('LNKSTA2', at + 0x32, 2, EQUALIZED),
  ];
}

/** @param presets for the transmitters of a lane: the upper byte for the function's, the lower, if this is a port, for its own */
export function secondaryExpress(at: number, next: number, presets: number): Register[] {
  return [
    fixed('SECONDARY_CAP', at, 4, EXT_CAP_SECONDARY_EXPRESS + (1 << 16) + next * 2 ** 20),
    { name: 'LANE_ERRORS', offset: at + 0x08, bytes: 4, writeOneToClear: 2n ** BigInt(LANES) - 1n, sticky: 0xffffn },
    ...Array.from({ length: LANES }, (_, lane) => fixed(`LANE${lane}`, at + 0x0c + 2 * lane, 2, presets)),
  ];
}
