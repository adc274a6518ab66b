/**
 * Why the recorded SMMUv3 cases have requests on which we side with the architecture and not with the model that they
 * were recorded on, by the name that the record gives to the reason. Sections without a document are those of IHI 0070.
 */
export interface Deviation {
  readonly recorded: string;
  readonly ours: string;
  readonly section: string;
}

export const DEVIATIONS: Readonly<Record<string, Deviation>> = {
  'aptable-early': {
    recorded: 'a write denied by APTable faults at the table, before what lies below it is looked at',
    ours: 'faults of the levels below come first; permission is judged at the leaf',
    section: '7.3.22; DDI 0487, D8',
  },
  'block-level': {
    recorded: 'blocks at level 0 (4 KiB) and level 1 (16 and 64 KiB) are leaves',
    ours: 'there are no such blocks at these sizes of address: F_TRANSLATION',
    section: '7.3.13; DDI 0487, D8',
  },
  'bypass-input-size': {
    recorded: 'a bypassing stream passes addresses beyond OAS',
    ours: 'F_ADDR_SIZE',
    section: '3.4, 7.3.14',
  },
  'cd-fetch-field': {
    recorded: 'F_CD_FETCH holds the address where other records have InputAddr',
    ours: 'it stands in FetchAddr',
    section: '7.3.10',
  },
  'cd-ttb-rnw': {
    recorded: 'stage 2 faults on a CD or on the root of stage 1 say "read" always',
    ours: 'RnW is that of the transaction',
    section: '7.3.13 to 7.3.16',
  },
  'fault-order': {
    recorded: 'access flag, then permission, then address size',
    ours: 'address size, then access flag, then permission',
    section: '7.3.22',
  },
  'l2-span': {
    recorded: 'a second-level stream table of Span n has 2^n entries; beyond them C_BAD_STE',
    ours: 'it has 2^(n-1); beyond them C_BAD_STREAMID',
    section: '5.1, 7.3.3',
  },
  'nested-table-base': {
    recorded: 'stage 2 translates the base of a stage 1 table once',
    ours: 'stage 2 translates the address of each descriptor',
    section: '15',
  },
  'nested-tt-as-stage1': {
    recorded: 'a stage 2 fault on a stage 1 table is recorded with S2 = 0',
    ours: 'S2 = 1 and CLASS = TT, subject to STE.S2R',
    section: '7.3.13 to 7.3.16',
  },
  'nested-ttb-at-decode': {
    recorded: 'TTB0 and TTB1 go through stage 2 when the CD is read, even the one that is not used',
    ours: 'a table is translated when a walk reads it',
    section: '15',
  },
  'nested-ttb-cut-to-ips': {
    recorded: 'the physical address of the stage 1 root is cut to CD.IPS',
    ours: 'IPS limits intermediate addresses, not physical ones',
    section: '3.4, 5.4',
  },
  'nested-ttb-in-config-cache': {
    recorded: 'the physical address of the stage 1 root stays with the cached configuration: TLBI does not reach it',
    ours: 'configuration is cached without translations: the next walk asks stage 2 again',
    section: '4.3, 4.4',
  },
  recinvsid: {
    recorded: 'C_BAD_STREAMID is recorded always',
    ours: 'only when CR2.RECINVSID = 1',
    section: '6.3.12, 7.3.3',
  },
  's1dss-without-substreams': {
    recorded: 'S1DSS is obeyed when S1CDMax = 0, and before S1CDMax is checked',
    ours: 'S1DSS has no effect when S1CDMax = 0; a bad S1CDMax is C_BAD_STE first',
    section: '5.2',
  },
  's2-concat-lost': {
    recorded: 'of several concatenated stage 2 root tables only the first is used',
    ours: 'the upper bits of the input select one of them',
    section: '5.2; DDI 0487, D8',
  },
  's2-input-size-silent': {
    recorded: 'stage 2 alone, input beyond the intermediate size: aborted without a record',
    ours: 'F_ADDR_SIZE with S2 = 0',
    section: '3.4, 7.3.14',
  },
  's2sl0-low-bound': {
    recorded: 'an S2SL0 that starts above what S2T0SZ needs is accepted',
    ours: 'C_BAD_STE',
    section: '5.2',
  },
  's2t0sz-by-s2ps': {
    recorded: 'the smallest S2T0SZ follows from S2PS',
    ours: 'it follows from the intermediate size (IAS)',
    section: '3.4, 5.2',
  },
  'strtab-align': {
    recorded: 'the stream table is aligned to half its size',
    ours: 'to its size',
    section: '6.3.24',
  },
  'table-addr-size': {
    recorded: 'addresses of next-level tables beyond IPS or S2PS are used, or abort',
    ours: 'F_ADDR_SIZE',
    section: '3.4, 7.3.14',
  },
  'tbi1-uses-tbi0': {
    recorded: 'TBI0 decides for the upper half too',
    ours: 'TBI1 does',
    section: '3.4.1, 5.4',
  },
  'unpriv-ap': {
    recorded: 'AP[1] = 0 and APTable[0] = 1 do not keep unprivileged requests out',
    ours: 'F_PERMISSION',
    section: '7.3.16; DDI 0487, D8',
  },
};
