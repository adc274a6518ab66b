/**
 * The object graph as a state machine: random sequences of all commands, good and bad, on a machine with the mock driver
 * and on machines with SMMUs. Every answer is the one that the kernel's rules give, and after each step the engine has what
 * the model has. Sequences that fail shrink, and are printed as regressions.test.ts takes them. UIOMMUFD_GRAPH_RUNS makes more
 * of them, and UIOMMUFD_GRAPH_SEED others.
 */
import { afterAll, describe, expect, it } from 'vitest';
import { COMMANDS } from './commands.ts';
import { checkSequences } from './sequences.ts';
import type { Tally } from './step.ts';

/** On a machine of which there is a whole share. */
const RUNS = Number(process.env.UIOMMUFD_GRAPH_RUNS ?? 40);

/** Commands that succeed only where there is what they are about. */
const ONLY_WITH = {
  mock: [
    ...['mockDomain', 'mockReplace', 'pasidAttach', 'pasidReplace', 'pasidDetach', 'pasidCheck', 'addReserved'],
    ...['dmabufGet', 'dmabufRevoke', 'checkMap', 'createAccess', 'accessPages', 'accessRw', 'accessReplaceIoas'],
    ...['destroyAccessPages', 'triggerIopf', 'triggerVevent', 'mockDirty'],
  ],
  queues: ['hwQueueAlloc', 'regionMap'],
  ownQueues: [],
  vfio: [
    ...['vfioOpen', 'vfioBind', 'vfioAttach', 'vfioDetach', 'dma', 'guestMap', 'guestChange'],
    ...['groupOpen', 'groupSetContainer', 'groupUnsetContainer', 'groupStatus', 'groupGetDevice'],
    ...['setCommand', 'setPower', 'lowPower', 'deviceReset', 'hotReset'],
  ],
  exports: ['exportBar'],
  pasids: ['vfioPasidAttach', 'vfioPasidDetach', 'guestContext'],
  dirty: ['setDirtyTracking', 'getDirtyBitmap'],
  faults: ['faultRespond'],
  waiting: ['bringPage'],
  v2: ['unsetVdevId'],
  sinceV2: ['ioasMapFile', 'ioasChangeProcess'],
} as const;

/** What else has to happen there. */
const HAPPENS: Partial<Record<keyof typeof ONLY_WITH, readonly string[]>> = {
  vfio: ['DMA of a device done', 'DMA of a device refused', 'DMA of a guest done', 'DMA of a guest refused'],
  pasids: [
    'DMA with a PASID of a device done',
    'DMA with a PASID of a device refused',
    'DMA with a PASID of a guest refused',
  ],
  ownQueues: ['invalidation by a queue of the guest'],
  dirty: ['bitmap of areas in a row', 'bitmap of parts of areas'],
  waiting: [
    ...['DMA of a device waiting', 'DMA with a PASID of a device waiting', 'DMA of a guest waiting'],
    ...['DMA that waited done', 'DMA that waited refused', 'DMA that waited waiting'],
  ],
};

const FEATURES = Object.keys(ONLY_WITH) as (keyof typeof ONLY_WITH)[];

const tallies = new Map<string, Tally>();

afterAll(() => {
  for (const [name, tally] of tallies) console.log(`${name}: ${describeTally(tally)}`);
});

const describeTally = (tally: Tally): string =>
  [...tally].map(([command, { ok, refused }]) => `${command} ${ok}/${ok + refused}`).join(', ');

function expected(has: readonly (keyof typeof ONLY_WITH)[]): string[] {
  const lacks = FEATURES.filter((feature) => !has.includes(feature)).flatMap<string>((feature) => ONLY_WITH[feature]);
  const happens = has.flatMap((feature) => HAPPENS[feature] ?? []);
  return [...Object.keys(COMMANDS).filter((name) => !lacks.includes(name)), ...happens];
}

describe.each([
  { machine: 'mock', abi: 'linux-7.1', share: 1, has: ['mock', 'queues', 'dirty', 'faults', 'sinceV2'] as const },
  { machine: 'two-smmus', abi: 'linux-7.1', share: 0.5, has: ['vfio', 'exports', 'sinceV2'] as const },
  {
    machine: 'two-smmus with CMDQVs',
    abi: 'linux-7.1',
    share: 0.5,
    has: ['vfio', 'exports', 'queues', 'ownQueues', 'sinceV2'] as const,
  },
  { machine: 'two-smmus-fragmented', abi: 'viommu-v2', share: 0.5, has: ['vfio', 'v2'] as const },
  {
    machine: 'one-smmu',
    abi: 'linux-7.1',
    share: 0.75,
    has: ['vfio', 'exports', 'pasids', 'dirty', 'sinceV2'] as const,
  },
  {
    machine: 'page-faults',
    abi: 'linux-7.1',
    share: 1,
    has: ['vfio', 'exports', 'pasids', 'faults', 'waiting', 'sinceV2'] as const,
  },
  {
    machine: 'page-faults with groups',
    abi: 'linux-7.1',
    share: 1,
    has: ['vfio', 'exports', 'pasids', 'faults', 'waiting', 'sinceV2'] as const,
  },
])('random commands on $machine, $abi', ({ machine, abi, share, has }) => {
  it('are answered by the rules and keep the graph whole', { timeout: 600_000 }, async () => {
    const tally = await checkSequences(machine, abi, Math.ceil(RUNS * share));
    tallies.set(`${machine} ${abi}`, tally);
    const never = expected(has).filter((name) => !tally.get(name)?.ok);
    expect(never, 'what never succeeded').toEqual([]);
  });
});
