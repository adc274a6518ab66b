/** Turns a refused transaction into its event record (IHI 0070, 7.3). */
import { EXECUTE, PRIVILEGED, WRITE } from '../iommu.ts';
import type { EventQueue } from './event-queue.ts';
import type { Fault } from './fault.ts';
import {
  ATS_TREQ_EVENT,
  C_BAD_SUBSTREAMID,
  CLASS_TT,
  EVENT,
  F_ACCESS,
  F_ADDR_SIZE,
  F_BAD_ATS_TREQ,
  F_CD_FETCH,
  F_PERMISSION,
  F_STE_FETCH,
  F_STREAM_DISABLED,
  F_TRANSL_FORBIDDEN,
  F_TRANSLATION,
  F_WALK_EABT,
} from './spec/events.ts';
import { put, putFrame } from './spec/field.ts';
import { NO_STAG } from './stalls.ts';

const NO_SUBSTREAM_FIELD = -1;

export class FaultRecorder {
  private readonly events: EventQueue;

  constructor(events: EventQueue) {
    this.events = events;
  }

  /**
   * Records `fault` of an ordinary transaction. `privileged` and `instruction` are those after the STE's overrides.
   * @param stag of a transaction that stalls; NO_STAG for one that ends
   */
  transaction(
    fault: Fault,
    stream: number,
    substream: number,
    frame: number,
    offset: number,
    access: number,
    privileged: boolean,
    instruction: boolean,
    stag: number,
  ): void {
    if (!fault.recorded) return;
    const type = fault.type;
    const record = this.events.begin(type, stream, type === F_STREAM_DISABLED ? NO_SUBSTREAM_FIELD : substream);
    // This record has a SubstreamID without the valid flag; a CD found through S1DSS is that of SubstreamID 0.
    if (type === C_BAD_SUBSTREAMID) put(record, 0, EVENT.SSV, 0);
    if (isTranslationRelated(type) || type === F_WALK_EABT) {
      put(record, 0, EVENT.PnU, Number(privileged));
      put(record, 0, EVENT.InD, Number(instruction));
      put(record, 0, EVENT.RnW, (access & WRITE) === 0 ? 1 : 0);
      put(record, 0, EVENT.S2, Number(fault.stage2));
      put(record, 0, EVENT.CLASS, fault.class);
      putFrame(record, 0, EVENT.InputAddr, frame, offset);
    }
    if (stag !== NO_STAG) {
      put(record, 0, EVENT.Stall, 1);
      put(record, 0, EVENT.STAG, stag);
    }
    if (isTranslationRelated(type) && fault.stage2) putFrame(record, 0, EVENT.IPA, fault.ipaFrame);
    if (type === F_PERMISSION && fault.stage2 && fault.class === CLASS_TT) {
      put(record, 0, EVENT.TTRnW, fault.tableWrite ? 0 : 1);
    }
    if (type === F_STE_FETCH || type === F_CD_FETCH || type === F_WALK_EABT) {
      putFrame(record, 0, EVENT.FetchAddr, fault.fetchFrame, fault.fetchOffset);
    }
    this.events.write();
  }

  /** A translation request of a stream that may make none (7.3.6): one STU of one frame. It always asks to read. */
  badAtsRequest(stream: number, substream: number, frame: number, access: number): void {
    const record = this.events.begin(F_BAD_ATS_TREQ, stream, substream);
    put(record, 0, ATS_TREQ_EVENT.Read, 1);
    put(record, 0, ATS_TREQ_EVENT.Write, Number((access & WRITE) !== 0));
    put(record, 0, ATS_TREQ_EVENT.Execute, Number((access & EXECUTE) !== 0));
    put(record, 0, ATS_TREQ_EVENT.Priv, Number((access & PRIVILEGED) !== 0));
    put(record, 0, ATS_TREQ_EVENT.Span, 1);
    putFrame(record, 0, ATS_TREQ_EVENT.InputAddr, frame);
    this.events.write();
  }

  /** A translated transaction of a stream that may make none (7.3.8). */
  translatedForbidden(stream: number, frame: number, offset: number, access: number): void {
    const record = this.events.begin(F_TRANSL_FORBIDDEN, stream, NO_SUBSTREAM_FIELD);
    put(record, 0, EVENT.RnW, (access & WRITE) === 0 ? 1 : 0);
    putFrame(record, 0, EVENT.InputAddr, frame, offset);
    this.events.write();
  }
}

/** The four faults that CD.R and STE.S2R govern, and that an ATS request turns into "no access" (5.5, 3.9.1.2). */
export const isTranslationRelated = (type: number): boolean =>
  type === F_TRANSLATION || type === F_ADDR_SIZE || type === F_ACCESS || type === F_PERMISSION;
