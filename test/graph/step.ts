/** One command of a sequence: planned by the model, made, compared, and everything checked behind it. */
import type fc from 'fast-check';
import type { ErrnoName } from '../../src/abi/errno.ts';
import { COMMANDS } from './commands.ts';
import { checkWorld } from './invariants.ts';
import { Picker } from './picker.ts';
import type { Plan, StepText, World } from './world.ts';

/** How often each command succeeded and was refused. */
export type Tally = Map<string, { ok: number; refused: number }>;

export class Step implements fc.AsyncCommand<World, World> {
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
    world.log.push({ step: this.text, what: `${plan.text}: ${plan.expected || 'ok'}` });
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
