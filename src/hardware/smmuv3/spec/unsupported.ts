/** What the architecture has and this model does not, one line each: the "not supported" table is generated from here. */
export interface Unsupported {
  /** The feature as the specification names it. */
  readonly feature: string;
  /** Where software finds that out. */
  readonly shownBy: string;
  /** What happens when it is used all the same. */
  readonly answer: string;
}

export const UNSUPPORTED: readonly Unsupported[] = [
  {
    feature: 'Suppression of equal stall records, early retry of stalled transactions',
    shownBy: '-',
    answer: 'allowed not to be done, and not done',
  },
  {
    feature: 'Hardware update of the access flag in table descriptors (HAFT)',
    shownBy: 'IDR0.HTTU at most 0b10',
    answer: 'fields are RES0',
  },
  {
    feature: 'AArch32 tables (VMSAv8-32 LPAE)',
    shownBy: 'IDR0.TTF = 0b10',
    answer: 'CD.AA64 = 0: C_BAD_CD; STE.S2AA64 = 0: C_BAD_STE',
  },
  { feature: 'Big-endian tables', shownBy: 'IDR0.TTENDIAN = 0b10', answer: 'CD.ENDI: C_BAD_CD; STE.S2ENDI: C_BAD_STE' },
  {
    feature: 'EL2 and E2H stream worlds (STE.STRW, CMD_TLBI_EL2_*)',
    shownBy: 'IDR0.Hyp = 0',
    answer: 'STRW is ignored; commands: CERROR_ILL',
  },
  {
    feature: 'Secure, Realm and Root interfaces, EL3 stream world',
    shownBy: 'no Secure registers, IDR0.RME_IMPL = 0',
    answer: 'registers: RAZ/WI; SSec = 1: CERROR_ILL',
  },
  { feature: 'Split-stage ATS (STE.EATS = 0b10)', shownBy: 'IDR0.NS1ATS = 1', answer: 'C_BAD_STE' },
  { feature: 'Device Permission Table (STE.EATS = 0b11)', shownBy: 'IDR3.DPT = 0', answer: 'as EATS = 0b00' },
  { feature: 'PASIDs on translated transactions', shownBy: 'IDR3.PASIDTT = 0', answer: 'the PASID is ignored' },
  {
    feature: 'Address translation operations (GATOS, VATOS)',
    shownBy: 'IDR0.ATOS = 0, IDR0.VATOS = 0',
    answer: 'registers: RAZ/WI',
  },
  { feature: 'Broadcast TLB maintenance', shownBy: 'IDR0.BTM = 0', answer: 'nothing arrives' },
  { feature: 'VMID wildcards (CR0.VMW)', shownBy: 'IDR0.VMW = 0', answer: 'the field is RES0' },
  { feature: 'WFE wake-up events (CMD_SYNC with SIG_SEV)', shownBy: 'IDR0.SEV = 0', answer: 'as SIG_NONE' },
  {
    feature: 'ATS invalidation timeouts (CERROR_ATC_INV_SYNC)',
    shownBy: '-',
    answer: 'invalidations of a device always complete',
  },
  { feature: 'Enhanced command queues', shownBy: 'IDR1.ECMDQ = 0', answer: 'registers: RAZ/WI' },
  {
    feature: 'Memory attributes (MAIR, SH, MTCFG, S2FWB, CR1)',
    shownBy: 'IDR1.ATTR_TYPES_OVR = 0, IDR3.FWB = 0',
    answer: 'kept, without effect; only S2PTW looks at a memory type',
  },
  { feature: '52-bit virtual addresses', shownBy: 'IDR5.VAX = 0', answer: 'TxSZ < 16: C_BAD_CD' },
  {
    feature: '52-bit addresses with 4 KiB and 16 KiB granules (LPA2)',
    shownBy: 'IDR5.DS = 0',
    answer: 'descriptors address 48 bits',
  },
  {
    feature: '56-bit addresses, 128-bit descriptors',
    shownBy: 'IDR5.D128 = 0, OAS at most 52 bits',
    answer: 'fields are RES0',
  },
  { feature: 'Small translation tables (TxSZ > 39)', shownBy: 'IDR3.STT = 0', answer: 'C_BAD_CD, C_BAD_STE' },
  { feature: 'E0PD, EPAN, permission indirection and overlays, MTE, THE', shownBy: 'IDR3', answer: 'fields are RES0' },
  { feature: 'MPAM, PBHA', shownBy: 'IDR3.MPAM = 0, IDR3.PBHA = 0', answer: 'fields and registers are RES0' },
  {
    feature: 'Merged events (STE.MEV), prefetch into caches, STE.CONT',
    shownBy: '-',
    answer: 'allowed not to be done, and not done',
  },
  { feature: 'F_TLB_CONFLICT, F_CFG_CONFLICT, F_UUT, E_PAGE_REQUEST', shownBy: '-', answer: 'never recorded' },
  { feature: 'Accesses to registers of 1 or 2 bytes', shownBy: '-', answer: 'RAZ/WI, noted' },
];
