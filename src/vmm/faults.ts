/**
 * What a VMM can get wrong, each a switch. Every one is a mistake that a VMM has made; `scenario` is its number in the list
 * of VMM scenarios. A VMM without any is what a right one does.
 */
export const FAULTS = {
  // Commands of the guest

  skipTlbiForwarding: { scenario: 'V16', does: 'keeps TLBI commands to itself' },
  dropTlbiAll: { scenario: 'V16', does: 'keeps TLBI_NH_ALL and TLBI_NSNH_ALL to itself' },
  skipAtcInvForwarding: { scenario: 'V16', does: 'keeps ATC_INV to itself' },
  skipCfgiCdForwarding: { scenario: 'V16', does: 'keeps CFGI_CD and CFGI_CD_ALL to itself' },
  dropWithoutStage1: { scenario: 'V16', does: 'drops CFGI_CD and ATC_INV of a device that has no nested HWPT now' },
  forwardUnknownStreams: {
    scenario: 'V16',
    does: 'forwards commands for StreamIDs that are no device, and drops the rest of the batch',
  },
  assertBatches: { scenario: 'V16', does: 'dies when the host carries out less than the whole batch' },
  roundRanges: { scenario: 'V14', does: 'makes a range invalidation an aligned power of two' },
  ignoreUnknownCommands: { scenario: 'V9', does: 'skips commands that do not exist' },
  acceptAtcInvWithoutAts: { scenario: 'V9', does: 'takes ATC_INV without having said that it has ATS' },
  atcInvWhileDisabled: { scenario: 'V9', does: 'forwards ATC_INV while SMMUEN is 0' },
  ignoreSteRange: { scenario: 'V9', does: 'ignores CFGI_STE_RANGE, and so CFGI_ALL' },
  acceptSecureStreams: { scenario: 'V9', does: 'ignores SSec on the non-secure queue' },
  acceptReservedSync: { scenario: 'V7', does: 'takes CMD_SYNC with the reserved CS' },

  // Registers

  ignoreDisable: { scenario: 'V9', does: 'leaves devices translated when SMMUEN goes from 1 to 0, and ignores GBPA' },
  writableCommandCons: { scenario: 'V7', does: 'lets CMDQ_CONS be written while the queue is enabled' },
  ignoreAlignment: { scenario: 'V14, V15', does: 'uses the bases of queues and stream table as they were written' },
  advertiseWideOas: { scenario: 'V6', does: 'tells the guest of 48 bits of output address, whatever the host has' },
  hideAts: { scenario: 'V8', does: 'tells the guest of no ATS' },

  // Streams

  shiftSteDword1: { scenario: 'V7', does: "reads the STE's second doubleword one bit off" },
  replaceThroughBypass: { scenario: 'V16', does: 'attaches the bypass HWPT before it replaces a nested one' },
  bypassBeforeVdevice: { scenario: 'V1', does: 'attaches the bypass HWPT to a device that has no vDEVICE yet' },
  skipVdevice: { scenario: 'V1', does: 'makes no vDEVICEs' },
  forgetSidZero: { scenario: 'V16', does: 'takes StreamID 0 for "none yet", and makes its vDEVICE at every CFGI_STE' },
  keepVdevice: { scenario: 'V16', does: 'leaves the vDEVICE of a device whose StreamID changes' },
  mixHosts: { scenario: 'V9', does: 'puts a device behind a vSMMU without a look at the SMMU that it is behind' },

  // Events

  skipEventQueue: { scenario: 'V2', does: 'makes no vEVENTQ' },
  lostEventsAsAbort: { scenario: 'V4', does: 'reports lost events as GERROR.EVENTQ_ABT_ERR' },

  // From start to end

  trackDirtyParent: { scenario: 'V11', does: 'asks for dirty tracking of the nesting parent' },
  openBarsAlways: { scenario: 'V8', does: 'passes accesses to BARs on in D3hot and without memory decode' },
  skipDeviceReset: { scenario: 'V8', does: 'resets the VM without its devices' },
  insistOnPeers: { scenario: 'V17', does: 'gives up when a BAR cannot be mapped into the IOAS by its address' },
  destroyViommuBeforeEvents: { scenario: 'V3', does: 'destroys the vIOMMU before its vEVENTQ' },
  destroyEventsWhileOpen: { scenario: 'V3', does: 'destroys the vEVENTQ before it closes its descriptor' },
  destroyParentFirst: { scenario: 'V5', does: 'destroys the nesting parent before the vIOMMU' },
  panicOnRefusal: { scenario: 'V5', does: 'gives up where a reset or the end of an object is refused' },
  keepDeviceOpen: { scenario: 'V10', does: 'leaves the descriptors of devices open' },
  keepIoas: { scenario: 'V10', does: 'leaves the IOAS in the iommufd' },
} as const satisfies Record<string, { readonly scenario: string; readonly does: string }>;

export type FaultName = keyof typeof FAULTS;

export type Faults = Readonly<Partial<Record<FaultName, boolean>>>;
