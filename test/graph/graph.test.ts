/**
 * The object graph as a state machine: random sequences of all commands, good and bad, on a machine with the mock driver
 * and on machines with SMMUs. Every answer is the one that the kernel's rules give, and after each step the engine has what
 * the model has. Sequences shrink; the seed and path of a failure are printed by fast-check, and UIOMMUFD_GRAPH_RUNS makes
 * more of them.
 */
import { afterAll, describe, expect, it } from 'vitest';
import { COMMANDS } from './commands.ts';
import { checkSequences, type Tally } from './sequences.ts';

const RUNS = Number(process.env.UIOMMUFD_GRAPH_RUNS ?? 40);

/** Commands that a machine has none of. */
const MOCK_ONLY = [
  'mockDomain',
  'mockReplace',
  'pasidAttach',
  'pasidReplace',
  'pasidDetach',
  'pasidCheck',
  'addReserved',
  'dmabufGet',
  'dmabufRevoke',
  'checkMap',
  'createAccess',
  'accessPages',
  'accessRw',
  'accessReplaceIoas',
  'destroyAccessPages',
  'triggerIopf',
  'triggerVevent',
  'hwQueueAlloc',
  'regionMap',
  'mockDirty',
];
const VFIO_ONLY = [
  ...['vfioOpen', 'vfioBind', 'vfioAttach', 'vfioDetach', 'dma', 'guestMap', 'guestChange'],
  ...['groupOpen', 'groupSetContainer', 'groupUnsetContainer', 'groupStatus', 'groupGetDevice'],
];
const PASIDS = ['vfioPasidAttach', 'vfioPasidDetach'];
const DIRTY = ['setDirtyTracking', 'getDirtyBitmap'];
const FAULTS = ['faultRespond'];
const V2_ONLY = ['unsetVdevId'];
/** Commands of releases after the design thread. */
const SINCE_V2 = ['ioasMapFile', 'ioasChangeProcess'];

const tallies = new Map<string, Tally>();

afterAll(() => {
  for (const [name, tally] of tallies) console.log(`${name}: ${describeTally(tally)}`);
});

const describeTally = (tally: Tally): string =>
  [...tally].map(([command, { ok, refused }]) => `${command} ${ok}/${ok + refused}`).join(', ');

const ON_SMMUS = [...MOCK_ONLY, ...V2_ONLY];

describe.each([
  { machine: 'mock', abi: 'linux-7.1', share: 1, lacks: [...VFIO_ONLY, ...PASIDS, ...V2_ONLY] },
  { machine: 'two-smmus', abi: 'linux-7.1', share: 0.5, lacks: [...ON_SMMUS, ...PASIDS, ...DIRTY, ...FAULTS] },
  {
    machine: 'two-smmus-fragmented',
    abi: 'viommu-v2',
    share: 0.5,
    lacks: [...MOCK_ONLY, ...SINCE_V2, ...PASIDS, ...DIRTY, ...FAULTS],
  },
  { machine: 'one-smmu', abi: 'linux-7.1', share: 0.5, lacks: [...ON_SMMUS, ...FAULTS] },
  { machine: 'page-faults', abi: 'linux-7.1', share: 1, lacks: [...ON_SMMUS, ...DIRTY] },
])('random commands on $machine, $abi', ({ machine, abi, share, lacks }) => {
  it('are answered by the rules and keep the graph whole', { timeout: 600_000 }, async () => {
    const tally = await checkSequences(machine, abi, Math.ceil(RUNS * share));
    tallies.set(`${machine} ${abi}`, tally);
    const never = Object.keys(COMMANDS).filter((name) => !lacks.includes(name) && !tally.get(name)?.ok);
    expect(never, 'commands that never succeeded').toEqual([]);
  });
});
