/** Random sequences of commands by fast-check, checked against the model step by step. */
import fc from 'fast-check';
import type { ErrnoName } from '../../src/abi/errno.ts';
import { Dice } from '../fuzz/dice.ts';
import { COMMANDS, DRAW } from './commands.ts';
import { checkWorld } from './invariants.ts';
import { Picker } from './picker.ts';
import type { Plan } from './world.ts';
import { World } from './world.ts';

const MOST_STEPS = 400;
const NUMBERS = 10;

/** How often each command succeeded and was refused. */
export type Tally = Map<string, { ok: number; refused: number }>;

/** A command, the numbers that its choices are made of, and which of its allocations fails (0: none). */
export type StepText = readonly [name: string, numbers: readonly number[], fails?: number];

class Step implements fc.AsyncCommand<World, World> {
  private readonly text: StepText;
  private readonly tally: Tally | null;

  constructor(text: StepText, tally: Tally | null) {
    this.text = text;
    this.tally = tally;
  }

  check(world: Readonly<World>): boolean {
    return this.plan(world as World) !== null;
  }

  async run(world: World): Promise<void> {
    const plan = this.plan(world)!;
    world.log.push(`${JSON.stringify(this.text)}, // ${plan.text}: ${plan.expected || 'ok'}`);
    const { failures } = world;
    failures.failNth(plan.undone ? (this.text[2] ?? 0) : 0);
    const errno = await plan.call();
    const { failed } = failures;
    failures.failNth(0);
    if (!failed) this.finish(plan, errno);
    else if (errno !== 'ENOMEM') throw new Error(`${plan.text} is answered ${errno || 'ok'} without ${failed}`);
    checkWorld(world);
  }

  toString(): string {
    return this.text[0];
  }

  private plan(world: World): Plan | null {
    const [name, numbers] = this.text;
    return COMMANDS[name]!(world, new Picker(numbers));
  }

  private finish(plan: Plan, errno: ErrnoName | ''): void {
    const { text, expected } = plan;
    if (errno !== expected) throw new Error(`${text} is answered ${errno || 'ok'}, not ${expected || 'ok'}`);
    if (errno) plan.refused?.();
    else plan.apply();
    for (const name of [this.text[0], ...(plan.counts ?? [])]) {
      const count = this.tally?.get(name) ?? { ok: 0, refused: 0 };
      if (errno) count.refused++;
      else count.ok++;
      this.tally?.set(name, count);
    }
  }
}

/** Everybody leaves, in some order, and nothing remains. */
function leave(world: World): void {
  for (const [viommu, mapping] of world.mappings) if (viommu.mapped) mapping.ended();
  for (const process of [...world.processes]) world.exit(process, (descriptors) => descriptors.toReversed());
  const left = Object.entries(world.remains());
  if (left.length) throw new Error(`left behind: ${left.map(([name, count]) => `${name} ${count}`).join(', ')}`);
}

/** A machine from its start to its end. A failure tells all steps, to be pasted into regressions.ts. */
async function lifeOf(machine: string, abi: string, live: (world: World) => Promise<void>): Promise<void> {
  const world = new World(machine, abi);
  try {
    await live(world);
    leave(world);
  } catch (error) {
    const steps = world.log.map((line) => `      ${line}\n`).join('');
    const paste = `{ machine: '${machine}', abi: '${abi}', steps: [\n${steps}    ] }`;
    throw new Error(`${(error as Error).message}\n    ${paste}`, { cause: error });
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

/**
 * What leads to deep states. Every sequence begins with some of it, each made to succeed if it can; words behind a name
 * are to be in the text of the plan.
 */
const OPENING: readonly string[] = [
  ...['optionRlimitMode', 'ioasAlloc', 'ioasAlloc', 'vfioIoas', 'setIommu', 'groupOpen', 'groupSetContainer'],
  ...['vfioOpen', 'vfioOpen', 'vfioOpen', 'vfioBind', 'vfioBind', 'vfioBind', 'mockDomain', 'mockDomain', 'spawn'],
  ...['ioasMap', 'ioasMap', 'ioasMap', 'faultQueueAlloc', 'hwptAllocPaging flags 0x1', 'hwptAllocPaging flags 0x4'],
  ...['hwptAllocPaging', 'hwptAllocPaging', 'viommuAlloc', 'viommuAlloc', 'vdeviceAlloc', 'vdeviceAlloc'],
  ...['vdeviceAlloc', 'hwptAllocNested', 'hwptAllocNested stage1', 'guestMap', 'ioasMap', 'ioasMap'],
  ...['eventQueueAlloc', 'hwQueueAlloc', 'hwQueueAlloc', 'createAccess', 'accessPages'],
  ...['vfioAttach', 'vfioAttach', 'vfioAttach hwpt-nested', 'mockReplace', 'mockReplace hwpt-nested', 'groupGetDevice'],
  ...['pasidAttach', 'pasidAttach', 'vfioPasidAttach', 'vfioPasidAttach', 'guestChange', 'regionMap'],
  ...[
    'setDirtyTracking',
    'mockDirty',
    'triggerIopf',
    'triggerVevent',
    'dma waiting',
    'dma',
    'faultRead',
    'bringPage',
    'faultRead',
  ],
  ...['type1Map', 'type1Map', 'type1Unmap', 'ioasMapFile'],
];
const TRIES = 60;
/** Also of shrinking. */
const LONGEST_MS = 90_000;

/** Makes a command with choices that the rules allow, if such are found. */
async function open(world: World, what: string, dice: Dice, tally: Tally): Promise<void> {
  const [name, ...words] = what.split(' ');
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
  await fc.assert(
    fc.asyncProperty(opening, fc.noBias(fc.nat(0xffff)), sequences, async (names, openingSeed, steps) => {
      await lifeOf(machine, abi, async (world) => {
        const dice = new Dice(openingSeed);
        world.filesOnly = openingSeed % 4 === 3;
        const byNodeOnly = openingSeed % 3 > 0;
        for (const name of names)
          if (name && !(byNodeOnly && name.startsWith('group'))) await open(world, name, dice, tally);
        await fc.asyncModelRun(() => ({ model: world, real: world }), steps);
      });
    }),
    {
      numRuns: runs,
      interruptAfterTimeLimit: LONGEST_MS,
      markInterruptAsFailure: true,
      seed,
    },
  );
  return tally;
}
