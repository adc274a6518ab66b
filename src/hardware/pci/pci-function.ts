/**
 * A PCI Express function: configuration space, BAR0 with the model behind it, interrupts, function level reset. The host
 * reaches it through configuration and BAR accesses only.
 */
import type { PhysicalMemory } from '../../memory/physical-memory.ts';
import type { Tracer } from '../../trace/events.ts';
import type { Clock } from '../clock.ts';
import type { Iommu, MmioDevice } from '../iommu.ts';
import { writeRegisters } from '../register-access.ts';
import { Atc } from './atc.ts';
import { configRegisters, type FunctionFeatures } from './config-registers.ts';
import { DmaPort } from './dma.ts';
import type { FunctionKind, FunctionModel, FunctionPorts } from './function-model.ts';
import { Messages, type MessageTable } from './messages.ts';
import { Msi } from './msi.ts';
import { MsixTable } from './msix.ts';
import type { Disk } from './nvme/disk.ts';
import { PageRequests } from './page-requests.ts';
import { RegisterFile } from './register-file.ts';
import {
  ATS_CONTROL_ENABLE,
  COMMAND_INTX_DISABLE,
  COMMAND_MASTER,
  COMMAND_MEMORY,
  CONFIG_BYTES,
  DEVCTL_FLR,
  MSIX_CONTROL_ENABLE,
  MSIX_CONTROL_MASK_ALL,
  PASID_CONTROL_ENABLE,
  PMCSR_POWER_STATE,
  POWER_D3HOT,
  PRI_CONTROL_ENABLE,
  PRI_CONTROL_RESET,
  PRI_STATUS_FAILURE,
  PRI_STATUS_UNEXPECTED,
  STATUS_INTERRUPT,
} from './spec/config-space.ts';

/** Who takes the function's pin. Its messages go by memory. */
export interface InterruptTarget {
  /** The pin is asserted and not disabled. Called on the machine's clock. */
  pin(): void;
}

export interface PciFunctionOptions extends FunctionFeatures {
  /** BDF as Linux writes it: '0000:01:00.0'. */
  readonly name: string;
  readonly kind: FunctionKind;
  readonly iommu: Iommu;
  readonly stream: number;
  /** How interrupt controllers know it: its requester ID, with the segment above it. */
  readonly requester: number;
  readonly memory: PhysicalMemory;
  readonly clock: Clock;
  /** Its transactions may stall: it is integrated, and the path to its IOMMU bears it. */
  readonly canStall?: boolean;
  readonly disks?: readonly Disk[];
  readonly tracer: Tracer;
}

const ALL_ONES = [0, 0xff, 0xffff, 0, 0xffff_ffff];

/** What the DMA port looks at. */
const PORT_REGISTERS: ReadonlySet<string> = new Set(['COMMAND', 'PMCSR', 'ATS_CONTROL', 'PASID_CONTROL']);

/** What decides whether a message that is pending can go. */
const MESSAGE_REGISTERS: ReadonlySet<string> = new Set(['MSIX_CONTROL', 'MSI_CONTROL', 'MSI_MASK']);

export class PciFunction implements MmioDevice, FunctionPorts {
  readonly name: string;
  readonly kind: FunctionKind;
  readonly stream: number;
  readonly features: FunctionFeatures;
  readonly config: RegisterFile;
  readonly atc: Atc;
  readonly dma: DmaPort;
  readonly msix: MsixTable | null;
  readonly msi: Msi | null;
  interruptTarget: InterruptTarget | null;
  readonly clock: Clock;
  readonly disks: readonly Disk[];
  private readonly messages: Messages;
  private readonly pages: PageRequests;
  private readonly model: FunctionModel;
  private readonly effect: (name: string) => void;
  private pinAsserted: boolean;
  /** D0 or D3hot: there are no others. */
  private powerState: number;
  /** Counts resets: what was on its way before one does not arrive. */
  private resets: number;

  constructor(options: PciFunctionOptions) {
    const { name, kind, stream, clock } = options;
    this.name = name;
    this.kind = kind;
    this.stream = stream;
    const { ats, pri, pasidBits, msi = 0, multifunction = false, acs = false } = options;
    const endsLink = (options.requester & 7) === 0;
    this.features = { ats, pri, pasidBits, msi, multifunction, acs, endsLink };
    this.clock = clock;
    this.disks = options.disks ?? [];
    this.config = new RegisterFile(CONFIG_BYTES, configRegisters(kind.identity, this.features));
    this.atc = new Atc(name, options.tracer);
    this.pages = new PageRequests(this.config, options.iommu, stream);
    this.dma = new DmaPort({ ...options, atc: this.atc, pages: this.pages, canStall: options.canStall ?? false });
    this.msix = kind.identity.msix ? new MsixTable(kind.identity.msix.vectors) : null;
    this.msi = msi ? new Msi(this.config, msi) : null;
    this.messages = new Messages(this.dma, () => (this.allMasked ? null : this.enabledTable));
    this.interruptTarget = null;
    this.pinAsserted = false;
    this.powerState = 0;
    this.resets = 0;
    this.effect = (register) => this.configWritten(register);
    this.model = kind.create(this);
  }

  /** @param size 1, 2 or 4 bytes, naturally aligned */
  readConfig(offset: number, size: number): number {
    return this.config.read(offset, size);
  }

  writeConfig(offset: number, size: number, value: number): void {
    this.config.write(offset, size, value, this.effect);
  }

  /** What a host's ATS code does: the enable bit of the capability. Switched off, the function forgets its ATC. */
  enableAts(on: boolean): void {
    this.writeConfig(this.config.offsetOf('ATS_CONTROL'), 2, on ? ATS_CONTROL_ENABLE : 0);
  }

  /** What a host does when it finds a function: its requests to others of its device go up to the IOMMU. */
  enableAcs(): void {
    if (this.config.has('ACS_CONTROL')) this.config.set('ACS_CONTROL', this.config.get('ACS_FLAGS'));
  }

  /** The same for the PASID capability. It may change only while ATS is off (PCIe 5.0, 10.5.1.3). */
  enablePasid(on: boolean): void {
    this.writeConfig(this.config.offsetOf('PASID_CONTROL'), 2, on ? PASID_CONTROL_ENABLE : 0);
  }

  /**
   * The same for page requests: all that the function is able to have outstanding. On again, the function starts afresh,
   * whatever made it stop.
   */
  enablePri(on: boolean): void {
    const { config } = this;
    const control = config.offsetOf('PRI_CONTROL');
    if (on) {
      this.writeConfig(control, 2, PRI_CONTROL_RESET);
      this.writeConfig(config.offsetOf('PRI_STATUS'), 2, PRI_STATUS_FAILURE | PRI_STATUS_UNEXPECTED);
      this.writeConfig(config.offsetOf('PRI_ALLOCATION'), 4, config.get('PRI_CAPACITY'));
    }
    this.writeConfig(control, 2, on ? PRI_CONTROL_ENABLE : 0);
  }

  /** A read of BAR0. All ones when the function does not decode memory. */
  readRegister(offset: number, size: number): number {
    if (!this.decodesMemory) return ALL_ONES[size]!;
    const word = this.msixWord(offset);
    if (word >= 0) return size === 4 ? this.msix!.readTable(word) : 0;
    const pending = this.pendingWord(offset);
    if (pending >= 0) return size === 4 ? this.msix!.readPending(pending) : 0;
    return this.model.readRegister(offset, size);
  }

  writeRegister(offset: number, size: number, value: number): void {
    if (!this.decodesMemory) return;
    const word = this.msixWord(offset);
    if (word >= 0) {
      if (size === 4) this.msix!.writeTable(word, value);
      this.messages.sendPending();
    } else if (this.pendingWord(offset) < 0) this.model.writeRegister(offset, size, value);
  }

  postWrite(offset: number, from: Uint8Array): void {
    const bytes = from.slice();
    const { resets } = this;
    this.clock.defer(() => {
      if (resets === this.resets) writeRegisters(this, offset, bytes);
    });
  }

  /** Masks or unmasks a vector of MSI-X or of MSI, as a write of its mask bit does. */
  maskVector(vector: number, masked: boolean, table: MessageTable = this.msix!): void {
    table.mask(vector, masked);
    this.messages.sendPending();
  }

  /**
   * Function level reset (PCIe 5.0, 6.6.2): registers, caches and the model are as at power-on, but for sticky bits.
   * BAR0 has no address.
   */
  reset(): void {
    this.resets++;
    this.dma.reset();
    this.config.reset();
    this.msix?.reset();
    this.atc.clear();
    this.pinAsserted = false;
    this.powerState = 0;
    this.refreshPort();
    this.model.reset();
  }

  get decodesMemory(): boolean {
    return (this.config.get('COMMAND') & COMMAND_MEMORY) !== 0 && this.poweredOn;
  }

  get msixEnabled(): boolean {
    return this.msix !== null && (this.config.get('MSIX_CONTROL') & MSIX_CONTROL_ENABLE) !== 0;
  }

  get enabledVectors(): number {
    return this.enabledTable?.vectors ?? 0;
  }

  /** With fewer vectors than the function could use, some share one. */
  sendMessage(vector: number): void {
    const table = this.enabledTable;
    if (!table || !this.canSend) return;
    table.setPending(vector % table.vectors);
    this.messages.sendPending();
  }

  setPin(asserted: boolean): void {
    const status = this.config.get('STATUS');
    this.config.set('STATUS', asserted ? status | STATUS_INTERRUPT : status & ~STATUS_INTERRUPT);
    this.pinAsserted = asserted;
    this.drivePin();
  }

  /** While both are enabled, which software is not to do, messages are those of MSI-X. */
  private get enabledTable(): MessageTable | null {
    if (this.msixEnabled) return this.msix;
    return this.msi?.enabled ? this.msi : null;
  }

  private get allMasked(): boolean {
    return this.msixEnabled && (this.config.get('MSIX_CONTROL') & MSIX_CONTROL_MASK_ALL) !== 0;
  }

  private get poweredOn(): boolean {
    return (this.config.get('PMCSR') & PMCSR_POWER_STATE) === 0;
  }

  private get canSend(): boolean {
    return (this.config.get('COMMAND') & COMMAND_MASTER) !== 0 && this.poweredOn;
  }

  private configWritten(register: string): void {
    if (register === 'PMCSR') this.changePower();
    if (PORT_REGISTERS.has(register)) this.refreshPort();
    if (register === 'COMMAND') this.drivePin();
    if (register === 'PRI_CONTROL') this.pages.controlWritten();
    if (MESSAGE_REGISTERS.has(register)) this.messages.sendPending();
    if (register === 'DEVCTL' && this.config.get('DEVCTL') & DEVCTL_FLR) this.reset();
  }

  /** A state that the function does not have is discarded, and the write ends as usual (PCI PM 1.2, 3.2.4). */
  private changePower(): void {
    const control = this.config.get('PMCSR');
    const state = control & PMCSR_POWER_STATE;
    if (state === 0 || state === POWER_D3HOT) this.powerState = state;
    else this.config.set('PMCSR', (control & ~PMCSR_POWER_STATE) | this.powerState);
  }

  private refreshPort(): void {
    const ats = this.features.ats && (this.config.get('ATS_CONTROL') & ATS_CONTROL_ENABLE) !== 0;
    if (!ats) this.atc.clear();
    this.dma.enabled = this.canSend;
    if (!this.canSend) this.dma.stop();
    this.dma.atsEnabled = ats;
    const { pasidBits } = this.features;
    const pasid = pasidBits > 0 && (this.config.get('PASID_CONTROL') & PASID_CONTROL_ENABLE) !== 0;
    this.dma.pasids = pasid ? 2 ** pasidBits : 0;
  }

  private drivePin(): void {
    if (!this.pinAsserted || this.enabledTable || this.config.get('COMMAND') & COMMAND_INTX_DISABLE) return;
    this.clock.defer(() => {
      if (this.pinAsserted) this.interruptTarget?.pin();
    });
  }

  /** Word of the MSI-X table at `offset` of BAR0, or -1. */
  private msixWord(offset: number): number {
    return this.wordWithin(offset, this.kind.identity.msix?.tableOffset, this.msix?.tableBytes);
  }

  private pendingWord(offset: number): number {
    return this.wordWithin(offset, this.kind.identity.msix?.pendingOffset, this.msix?.pendingBytes);
  }

  private wordWithin(offset: number, start: number | undefined, bytes: number | undefined): number {
    if (start === undefined || bytes === undefined || offset < start || offset >= start + bytes) return -1;
    return (offset - start) >>> 2;
  }
}
