/** Random sequences of commands by fast-check, checked against the model step by step. */
import fc from 'fast-check';
import { Dice } from '../fuzz/dice.ts';
import { COMMANDS, DRAW } from './commands.ts';
import { checkWorld } from './invariants.ts';
import { Picker } from './picker.ts';
import { shrink } from './shrink.ts';
import { Step, type Tally } from './step.ts';
import { type StepText, World } from './world.ts';

const MOST_STEPS = 400;
const NUMBERS = 10;

/** Everybody leaves, one descriptor after the other, and nothing remains. */
function leave(world: World): void {
  for (const [viommu, mapping] of world.mappings) {
    if (!viommu.mapped) continue;
    mapping.ended();
    viommu.mapped = false;
  }
  world.prune();
  for (const process of [...world.processes]) {
    world.exit(
      process,
      (descriptors) => descriptors.toReversed(),
      () => checkWorld(world),
    );
  }
  const left = Object.entries(world.remains());
  if (left.length) throw new Error(`left behind: ${left.map(([name, count]) => `${name} ${count}`).join(', ')}`);
}

/** What went wrong, and all steps that led there, to be pasted into regressions.test.ts. */
class Failure extends Error {
  readonly steps: readonly StepText[];

  constructor(machine: string, abi: string, { log }: World, cause: Error) {
    const lines = log.map(({ step, what }) => `      ${JSON.stringify(step)}, // ${what}\n`);
    super(`${cause.message}\n    { machine: '${machine}', abi: '${abi}', steps: [\n${lines.join('')}    ] }`, {
      cause,
    });
    this.steps = log.map(({ step }) => step);
  }
}

/** A machine from its start to its end. */
async function lifeOf(machine: string, abi: string, live: (world: World) => Promise<void>): Promise<void> {
  const world = new World(machine, abi);
  try {
    await live(world);
    leave(world);
  } catch (error) {
    throw new Failure(machine, abi, world, error as Error);
  }
}

/** What once went wrong: steps that have no sense any more are left out. */
export const replay = (machine: string, abi: string, steps: readonly StepText[]): Promise<void> =>
  lifeOf(machine, abi, async (world) => {
    for (const text of steps) {
      const step = new Step(text, null);
      if (step.check(world)) await step.run(world);
    }
  });

/** The same failure, or another one, with as few steps as are found. */
async function shrunk(machine: string, abi: string, failure: Failure): Promise<Failure> {
  let found = failure;
  await shrink(failure.steps, async (steps) => {
    try {
      await replay(machine, abi, steps);
      return false;
    } catch (error) {
      found = error as Failure;
      return true;
    }
  });
  return found;
}

/**
 * What leads to deep states. Every sequence begins with some of it, each made to succeed if it can; words behind a name
 * are to be in the text of the plan. One of those between bars is made.
 */
const OPENING: readonly string[] = [
  ...['optionRlimitMode', 'ioasAlloc', 'ioasAlloc', 'vfioIoas', 'setIommu', 'groupOpen', 'groupSetContainer'],
  ...['vfioOpen', 'vfioOpen', 'vfioOpen', 'vfioBind', 'vfioBind', 'vfioBind', 'mockDomain', 'mockDomain', 'spawn'],
  ...['ioasMap', 'ioasMap', 'ioasMap', 'faultQueueAlloc', 'hwptAllocPaging flags 0x1', 'hwptAllocPaging flags 0x4'],
  ...[
    'hwptAllocPaging',
    'hwptAllocPaging',
    'viommuAlloc with data|viommuAlloc',
    'vdeviceAlloc',
    'vdeviceAlloc',
    'vdeviceAlloc',
  ],
  ...['hwptAllocNested', 'hwptAllocNested stage1|hwptAllocNested stage1 4', 'guestMap', 'ioasMap', 'ioasMap'],
  ...['eventQueueAlloc', 'hwQueueAlloc', 'hwQueueAlloc', 'createAccess', 'accessPages'],
  ...['vfioAttach', 'vfioAttach', 'vfioAttach hwpt-nested', 'mockReplace', 'mockReplace hwpt-nested', 'groupGetDevice'],
  ...[
    'pasidAttach',
    'pasidAttach',
    'vfioPasidAttach',
    'vfioPasidAttach',
    'guestChange|guestChange SSID 1',
    'regionMap',
    'guestChange',
    'guestChange',
    'viommuAlloc',
  ],
  ...[
    'setDirtyTracking',
    'mockDirty',
    'triggerIopf',
    'triggerVevent',
    'dma waiting',
    'dma',
    'dma of a guest: done',
    'dma of a guest: waiting',
    'faultRead',
    'bringPage',
    'faultRespond code 0',
    'faultRead',
  ],
  ...['type1Map', 'type1Map', 'type1Unmap', 'ioasMapFile', 'exportBar', 'exportBar', 'ioasMapFile of a dma-buf'],
  ...['ioasMapFile of a dma-buf', 'ioasCopy of a dma-buf', 'dma', 'close vfio|deviceReset|lowPower ENTRY|setPower 3'],
  ...['setCommand COMMAND 4|setCommand COMMAND 6', 'exportBar', 'vfioOpen', 'vfioBind', 'vfioAttach'],
];
const TRIES = 60;
/** Makes a command with choices that the rules allow, if such are found. */
async function open(world: World, what: string, dice: Dice, tally: Tally): Promise<void> {
  const choices = what.split('|');
  const [name, ...words] = choices[dice.below(choices.length)]!.split(' ');
  for (let tries = 0; tries < TRIES; tries++) {
    const numbers = Array.from({ length: NUMBERS }, () => dice.below(0x10000));
    const plan = COMMANDS[name!]!(world, new Picker(numbers));
    if (plan && !plan.expected && plan.text.includes(words.join(' ')))
      return new Step([name!, numbers], tally).run(world);
  }
}

export async function checkSequences(machine: string, abi: string, runs: number): Promise<Tally> {
  const tally: Tally = new Map();
  const seed = Number(process.env.UIOMMUFD_GRAPH_SEED ?? 1);
  const fails = fc.oneof(
    { weight: 7, arbitrary: fc.constant(0) },
    { weight: 1, arbitrary: fc.integer({ min: 1, max: 8 }) },
  );
  const step = fc
    .tuple(fc.constantFrom(...DRAW), fc.array(fc.nat(0xffff), { minLength: NUMBERS, maxLength: NUMBERS }), fails)
    .map(([name, numbers, nth]) => new Step(nth ? [name, numbers, nth] : [name, numbers], tally));
  // Without bias: small numbers would make the same choices again and again.
  const sequences = fc.noBias(fc.commands([fc.noBias(step)], { maxCommands: MOST_STEPS, size: 'max' }));
  const opening = fc.noBias(fc.tuple(...OPENING.map((name) => fc.option(fc.constant(name), { freq: 5 }))));
  const check = fc.assert(
    fc.asyncProperty(opening, fc.noBias(fc.nat(0xffff)), sequences, async (names, openingSeed, steps) => {
      await lifeOf(machine, abi, async (world) => {
        const dice = new Dice(openingSeed);
        if (openingSeed % 4 === 3) await open(world, 'filesOnly', dice, tally);
        const byNodeOnly = openingSeed % 3 > 0;
        for (const name of names)
          if (name && !(byNodeOnly && name.startsWith('group'))) await open(world, name, dice, tally);
        await fc.asyncModelRun(() => ({ model: world, real: world }), steps);
      });
    }),
    { numRuns: runs, seed, endOnFailure: true },
  );
  await check.catch(async (error) => {
    const { cause } = error as Error;
    throw cause instanceof Failure ? await shrunk(machine, abi, cause) : error;
  });
  return tally;
}
