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
  trustStreams: { scenario: 'V16', does: 'takes it that ATC_INV names a device, and dies when it does not' },
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
  hideSsids: { scenario: 'V8', does: 'tells the guest of no SSIDs' },

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
  pollForEver: { scenario: 'V16', does: 'lets its event thread poll for ever, and waits for it at the end' },
  closeToWake: { scenario: 'V16', does: 'closes the vEVENTQ for the thread that polls it to notice' },
  lostEventsAsAbort: { scenario: 'V4', does: 'reports lost events as GERROR.EVENTQ_ABT_ERR' },

  // Command queues of the guest that the hardware reads

  wideQueues: { scenario: 'V12', does: "offers queues of more than a page of what is behind the guest's memory" },
  pretendQueues: { scenario: 'V12', does: 'has a queue seem to run that the host has refused' },
  exposeHypOwn: { scenario: 'V13', does: 'lets the guest read back the HYP_OWN that it has written' },
  skipQueueErrors: { scenario: 'V2, V13', does: 'makes no vEVENTQ for errors of command queues' },
  forgetQueues: { scenario: 'V10', does: 'resets the VM without an end to its HW queues' },
  queuesFirstToLast: { scenario: 'V3', does: 'destroys HW queues in the order in which they were made' },
  destroyViommuBeforeQueues: { scenario: 'V3', does: 'destroys the vIOMMU before its HW queues' },
  keepPageMapped: { scenario: 'V3', does: 'leaves the registers of command queues mapped' },

  // From start to end

  trackDirtyParent: { scenario: 'V11', does: 'asks for dirty tracking of the nesting parent' },
  openBarsAlways: { scenario: 'V8', does: 'passes accesses to BARs on in D3hot and without memory decode' },
  skipDeviceReset: { scenario: 'V8', does: 'resets the VM without its devices' },
  insistOnPeers: { scenario: 'V17', does: 'gives up when a BAR cannot be mapped into the IOAS' },
  peersByAddress: { scenario: 'V17', does: 'maps BARs into the IOAS by their address' },
  trustSharedBars: {
    scenario: 'V17',
    does: 'takes a BAR that it has once mapped for mapped, whatever was reset since',
  },
  destroyViommuBeforeEvents: { scenario: 'V3', does: 'destroys the vIOMMU before its vEVENTQ' },
  destroyEventsWhileOpen: { scenario: 'V3', does: 'destroys the vEVENTQ before it closes its descriptor' },
  destroyParentFirst: { scenario: 'V5', does: 'destroys the nesting parent before the vIOMMU' },
  panicOnRefusal: { scenario: 'V5', does: 'gives up where a reset or the end of an object is refused' },
  keepDeviceOpen: { scenario: 'V10', does: 'leaves the descriptors of devices open' },
  keepIoas: { scenario: 'V10', does: 'leaves the IOAS in the iommufd' },
} as const satisfies Record<string, { readonly scenario: string; readonly does: string }>;

export type FaultName = keyof typeof FAULTS;

export type Faults = Readonly<Partial<Record<FaultName, boolean>>>;
