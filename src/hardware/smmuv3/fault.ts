/** Why the last transaction was refused: what its event record will say. One object per SMMU, overwritten each time. */
import type { ContextConfig } from './context-config.ts';
import { CLASS_IN } from './spec/events.ts';
import type { StreamConfig } from './stream-config.ts';

/** Refused without an event (IHI 0070: STE.Config = 0b000, CD.R = 0, ...). */
export const SILENT_ABORT = -1;

export class Fault {
  /** Event number (spec/events.ts), or SILENT_ABORT. */
  type: number;
  /** The fault configuration (CD.R, STE.S2R, CR2.RECINVSID) lets it be recorded. */
  recorded: boolean;
  /** The fault configuration (CD.S, STE.S2S) lets the transaction stall. */
  stall: boolean;
  /** The transaction ends RAZ/WI instead of with an abort, unless it stalls. */
  discard: boolean;
  stage2: boolean;
  class: number;
  ipaFrame: number;
  /** Stage 2 refused the update of a stage 1 descriptor, not its fetch. */
  tableWrite: boolean;
  fetchFrame: number;
  fetchOffset: number;

  constructor() {
    this.type = 0;
    this.recorded = false;
    this.stall = false;
    this.discard = false;
    this.stage2 = false;
    this.class = CLASS_IN;
    this.ipaFrame = 0;
    this.tableWrite = false;
    this.fetchFrame = 0;
    this.fetchOffset = 0;
  }

  /** A configuration error: nothing but its number. */
  configuration(type: number, recorded = true): number {
    this.type = type;
    this.recorded = recorded;
    this.stall = false;
    this.discard = false;
    this.stage2 = false;
    return type;
  }

  /** A structure could not be read at this physical address. */
  fetch(type: number, frame: number, offset: number): number {
    this.configuration(type);
    this.fetchFrame = frame;
    this.fetchOffset = offset;
    return type;
  }

  /** An external abort on a descriptor of either stage, always recorded. */
  walkAbort(type: number, stage2: boolean, cls: number, frame: number, offset: number): number {
    this.fetch(type, frame, offset);
    this.stage2 = stage2;
    this.class = cls;
    return type;
  }

  /** A fault of stage 1 for the input address. */
  stage1(type: number, context: ContextConfig): number {
    this.type = type;
    this.recorded = context.record;
    this.stall = context.stall;
    this.discard = context.discard;
    this.stage2 = false;
    this.class = CLASS_IN;
    return type;
  }

  /** A fault of stage 2 for an IPA: of the transaction, of a stage 1 descriptor or of a CD. */
  second(type: number, stream: StreamConfig, cls: number, ipaFrame: number, tableWrite = false): number {
    this.type = type;
    this.recorded = stream.s2Record;
    this.stall = stream.s2Stall;
    this.discard = false;
    this.stage2 = true;
    this.class = cls;
    this.ipaFrame = ipaFrame;
    this.tableWrite = tableWrite;
    return type;
  }
}
