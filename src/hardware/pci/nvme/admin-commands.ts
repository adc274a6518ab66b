/** The admin command set (NVMe 1.4, 5). */
import type { AsyncEvents } from './async-events.ts';
import type { Command, Transfer } from './command.ts';
import type { Engine } from './engine.ts';
import type { ErrorLog } from './error-log.ts';
import type { Features } from './features.ts';
import {
  activeNamespaces,
  type ControllerFacts,
  identifyController,
  identifyNamespace,
  namespaceDescriptors,
} from './identify.ts';
import { MOST_BYTES } from './limits.ts';
import { logPage } from './log-pages.ts';
import type { Namespace } from './namespace.ts';
import {
  createCompletionQueue,
  createSubmissionQueue,
  deleteCompletionQueue,
  deleteSubmissionQueue,
  type QueueRules,
} from './queue-commands.ts';
import {
  ABORT_REQUESTED,
  ADMIN_ABORT,
  ADMIN_ASYNC_EVENT,
  ADMIN_CREATE_CQ,
  ADMIN_CREATE_SQ,
  ADMIN_DELETE_CQ,
  ADMIN_DELETE_SQ,
  ADMIN_GET_FEATURES,
  ADMIN_GET_LOG_PAGE,
  ADMIN_IDENTIFY,
  ADMIN_SET_FEATURES,
  INVALID_FIELD,
  INVALID_LOG_PAGE,
  INVALID_NAMESPACE,
  INVALID_OPCODE,
  NSID_ALL,
  SQE_CDW10,
  SQE_CDW11,
  SQE_CDW12,
  SQE_CDW13,
  SUCCESS,
} from './spec/commands.ts';
import { ASYNC_TEMPERATURE } from './spec/features.ts';
import {
  CNS_ACTIVE_NAMESPACES,
  CNS_CONTROLLER,
  CNS_NAMESPACE,
  CNS_NAMESPACE_DESCRIPTORS,
  IDENTIFY_BYTES,
} from './spec/identify.ts';
import { EVENT_SMART, LOG_SMART, RETAIN_EVENT, SMART_TEMPERATURE_THRESHOLD } from './spec/log-pages.ts';
import type { Statistics } from './statistics.ts';

export interface AdminParts {
  readonly engine: Engine;
  readonly events: AsyncEvents;
  readonly features: Features;
  readonly errors: ErrorLog;
  readonly statistics: Statistics;
  readonly namespaces: readonly Namespace[];
  readonly facts: ControllerFacts;
}

/** A part of the payload for the host; zeros behind its end. */
const PAYLOAD: Transfer = {
  toHost: true,
  piece({ payload }, at, bytes) {
    const part = payload.subarray(at, at + bytes.length);
    bytes.set(part);
    bytes.fill(0, part.length);
    return SUCCESS;
  },
  end: () => SUCCESS,
};

export class AdminCommands {
  private readonly parts: AdminParts;

  constructor(parts: AdminParts) {
    this.parts = parts;
  }

  /** @returns a status, or IN_PROGRESS */
  execute(command: Command, rules: QueueRules): number {
    const { engine, events, features } = this.parts;
    switch (command.opcode) {
      case ADMIN_DELETE_SQ:
        return deleteSubmissionQueue(command, engine);
      case ADMIN_CREATE_SQ:
        return createSubmissionQueue(command, rules);
      case ADMIN_DELETE_CQ:
        return deleteCompletionQueue(command, engine);
      case ADMIN_CREATE_CQ:
        return createCompletionQueue(command, rules);
      case ADMIN_GET_LOG_PAGE:
        return this.getLogPage(command, rules.pageBytes);
      case ADMIN_IDENTIFY:
        return this.identify(command, rules.pageBytes);
      case ADMIN_ABORT:
        return this.abort(command);
      case ADMIN_SET_FEATURES:
        return this.setFeatures(command);
      case ADMIN_GET_FEATURES:
        return features.get(command);
      case ADMIN_ASYNC_EVENT:
        return events.request(command);
      default:
        return INVALID_OPCODE;
    }
  }

  private identify(command: Command, pageBytes: number): number {
    const { namespaces, facts } = this.parts;
    const nsid = command.namespaceId;
    const namespace = namespaces[nsid - 1];
    switch (command.dword(SQE_CDW10) & 0xff) {
      case CNS_CONTROLLER:
        command.payload = identifyController(facts);
        break;
      case CNS_NAMESPACE:
        if (!namespace) return INVALID_NAMESPACE;
        command.payload = identifyNamespace(namespace, facts.digits);
        break;
      case CNS_NAMESPACE_DESCRIPTORS:
        if (!namespace) return INVALID_NAMESPACE;
        command.payload = namespaceDescriptors(namespace, facts.digits);
        break;
      case CNS_ACTIVE_NAMESPACES:
        if (nsid >= NSID_ALL - 1) return INVALID_NAMESPACE;
        command.payload = activeNamespaces(namespaces, nsid);
        break;
      default:
        return INVALID_FIELD;
    }
    return command.transfer(PAYLOAD, IDENTIFY_BYTES, pageBytes);
  }

  private getLogPage(command: Command, pageBytes: number): number {
    const control = command.dword(SQE_CDW10);
    const id = control & 0xff;
    const { errors, statistics, features, events } = this.parts;
    const page = logPage(id, { errors, statistics, isTooWarm: features.isTooWarm });
    if (!page) return INVALID_LOG_PAGE;
    const nsid = command.namespaceId;
    if (id === LOG_SMART && nsid !== 0 && nsid !== NSID_ALL) return INVALID_FIELD;
    const dwords = (command.dword(SQE_CDW11) & 0xffff) * 0x1_0000 + (control >>> 16) + 1;
    const offset = command.dword(SQE_CDW13) * 2 ** 32 + command.dword(SQE_CDW12);
    if (offset > page.length || offset % 4 || dwords * 4 > MOST_BYTES) return INVALID_FIELD;
    if (!(control & RETAIN_EVENT)) events.logRead(id);
    command.payload = page.subarray(offset);
    return command.transfer(PAYLOAD, dwords * 4, pageBytes);
  }

  /** Bit 0 of the result: not aborted. A command that is not at work any more, or not yet, cannot be. */
  private abort(command: Command): number {
    const { engine, events } = this.parts;
    const target = command.dword(SQE_CDW10);
    const found = engine.find(target & 0xffff, target >>> 16);
    command.result = found ? 0 : 1;
    if (found) {
      events.forget(found);
      engine.abort(found, ABORT_REQUESTED);
    }
    return SUCCESS;
  }

  private setFeatures(command: Command): number {
    const { features, events } = this.parts;
    const status = features.set(command);
    if (features.isTooWarm && features.asyncEvents & ASYNC_TEMPERATURE) {
      events.raise(EVENT_SMART, SMART_TEMPERATURE_THRESHOLD);
    }
    return status;
  }
}
