/** What stands behind BAR0 of a PCI function: a kind (facts, known before anything runs) and a model made from it. */
import type { Clock } from '../clock.ts';
import type { MmioDevice } from '../iommu.ts';
import type { DmaPort } from './dma.ts';
import type { Disk } from './nvme/disk.ts';
import type { RegisterFile } from './register-file.ts';
import type { Register } from './spec/register.ts';

export interface FunctionIdentity {
  readonly vendorId: number;
  readonly deviceId: number;
  readonly subsystemVendorId: number;
  readonly subsystemId: number;
  /** Base class, subclass and programming interface: 24 bits. */
  readonly classCode: number;
  readonly revision: number;
  /** A power of two, at least 4096. BAR0 is 64-bit memory; there is no other. */
  readonly bar0Bytes: number;
  /** Table and pending bits lie in BAR0, each at a multiple of 4096; null for none. */
  readonly msix: { readonly vectors: number; readonly tableOffset: number; readonly pendingOffset: number } | null;
  /** INTA (1) or none (0). */
  readonly interruptPin: 0 | 1;
  /** Device-specific registers in configuration space. */
  readonly registers: readonly Register[];
}

/** All that a model sees of the world. */
export interface FunctionPorts {
  /** BDF as Linux writes it: '0000:01:00.0'. */
  readonly name: string;
  readonly clock: Clock;
  readonly dma: DmaPort;
  /** What a storage controller keeps its data on. */
  readonly disks: readonly Disk[];
  /** Configuration space, for the kind's own registers. */
  readonly config: RegisterFile;
  /** Vectors that the driver has switched on, of MSI-X or MSI; 0: it takes the pin. */
  readonly enabledVectors: number;
  sendMessage(vector: number): void;
  /** Level of the interrupt pin. */
  setPin(asserted: boolean): void;
}

/** BAR0's registers. Offsets are relative to BAR0; the MSI-X table never comes here. */
export interface FunctionModel extends MmioDevice {
  /** Function level reset: everything is as at power-on. */
  reset(): void;
}

export interface FunctionKind {
  readonly name: string;
  readonly identity: FunctionIdentity;
  create(ports: FunctionPorts): FunctionModel;
}
