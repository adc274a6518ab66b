/** Create and Delete I/O Completion and Submission Queue (NVMe 1.4, 5.3 to 5.6). */
import type { Command } from './command.ts';
import type { CompletionQueue } from './completion-queue.ts';
import type { Engine } from './engine.ts';
import type { Features } from './features.ts';
import { MQES } from './limits.ts';
import {
  COMPLETION_QUEUE_INVALID,
  CQE_LOG2,
  INVALID_FIELD,
  INVALID_INTERRUPT_VECTOR,
  INVALID_QUEUE_DELETION,
  INVALID_QUEUE_IDENTIFIER,
  INVALID_QUEUE_SIZE,
  PRP_OFFSET_INVALID,
  QUEUE_CONTIGUOUS,
  QUEUE_INTERRUPTS,
  SQE_CDW10,
  SQE_CDW11,
  SQE_LOG2,
  SQE_PRP1,
  SUCCESS,
} from './spec/commands.ts';

/** What a new queue has to fit. */
export interface QueueRules {
  readonly engine: Engine;
  readonly features: Features;
  /** MSI-X is on: each queue may have a vector of its own. */
  readonly enabledVectors: number;
  readonly pageBytes: number;
  /** CC.IOSQES and CC.IOCQES. */
  readonly submissionEntryLog2: number;
  readonly completionEntryLog2: number;
}

export function createCompletionQueue(command: Command, rules: QueueRules): number {
  const { engine, features, enabledVectors } = rules;
  const id = command.dword(SQE_CDW10) & 0xffff;
  const flags = command.dword(SQE_CDW11);
  const queue = engine.completions[id];
  if (id === 0 || id > features.completionQueues || !queue || queue.exists) return INVALID_QUEUE_IDENTIFIER;
  const refused = checkPlace(command, rules, rules.completionEntryLog2 === CQE_LOG2);
  if (refused) return refused;
  const vector = flags >>> 16;
  if (vector >= Math.max(1, enabledVectors)) return INVALID_INTERRUPT_VECTOR;
  queue.open(baseFrame(command), sizeOf(command), flags & QUEUE_INTERRUPTS ? vector : -1);
  return SUCCESS;
}

export function createSubmissionQueue(command: Command, rules: QueueRules): number {
  const { engine, features } = rules;
  const id = command.dword(SQE_CDW10) & 0xffff;
  const completionId = command.dword(SQE_CDW11) >>> 16;
  const queue = engine.submissions[id];
  if (id === 0 || id > features.submissionQueues || !queue || queue.exists) return INVALID_QUEUE_IDENTIFIER;
  if (completionId === 0 || completionId > features.completionQueues) return INVALID_QUEUE_IDENTIFIER;
  const completions = engine.completions[completionId]!;
  if (!completions.exists) return COMPLETION_QUEUE_INVALID;
  const refused = checkPlace(command, rules, rules.submissionEntryLog2 === SQE_LOG2);
  if (refused) return refused;
  queue.open(baseFrame(command), sizeOf(command), completions);
  return SUCCESS;
}

export function deleteSubmissionQueue(command: Command, engine: Engine): number {
  const id = command.dword(SQE_CDW10) & 0xffff;
  const queue = engine.submissions[id];
  if (id === 0 || !queue?.exists) return INVALID_QUEUE_IDENTIFIER;
  engine.removeSubmissions(queue);
  return SUCCESS;
}

export function deleteCompletionQueue(command: Command, engine: Engine): number {
  const id = command.dword(SQE_CDW10) & 0xffff;
  const queue = engine.completions[id];
  if (id === 0 || !queue?.exists) return INVALID_QUEUE_IDENTIFIER;
  if (isUsed(queue, engine)) return INVALID_QUEUE_DELETION;
  engine.removeCompletions(queue);
  return SUCCESS;
}

const isUsed = (queue: CompletionQueue, { submissions }: Engine): boolean =>
  submissions.some(({ exists, completions }) => exists && completions === queue);

/** @param entrySize CC has the size of its entries right: it must be set before a queue is made */
function checkPlace(command: Command, { pageBytes }: QueueRules, entrySize: boolean): number {
  const size = sizeOf(command);
  if (size < 2 || size > MQES + 1 || !entrySize) return INVALID_QUEUE_SIZE;
  if (!(command.dword(SQE_CDW11) & QUEUE_CONTIGUOUS)) return INVALID_FIELD;
  return command.dword(SQE_PRP1) % pageBytes ? PRP_OFFSET_INVALID : SUCCESS;
}

/** QSIZE is 0's based. */
const sizeOf = (command: Command): number => (command.dword(SQE_CDW10) >>> 16) + 1;

const baseFrame = (command: Command): number =>
  command.dword(SQE_PRP1 + 4) * 2 ** 20 + (command.dword(SQE_PRP1) >>> 12);
