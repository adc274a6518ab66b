/** The iommufds of a machine, for counting what they hold: also one that has ended and should hold nothing. */
import type { IommufdContext } from '../iommufd/context.ts';

export class OpenContexts {
  private readonly contexts: Set<IommufdContext>;

  constructor() {
    this.contexts = new Set();
  }

  add(context: IommufdContext): IommufdContext {
    this.prune();
    this.contexts.add(context);
    return context;
  }

  /** Objects of all of them. */
  get objects(): number {
    this.prune();
    let count = 0;
    for (const { objects } of this.contexts) count += objects.size;
    return count;
  }

  private prune(): void {
    for (const context of this.contexts) {
      if (context.ended && context.objects.size === 0) this.contexts.delete(context);
    }
  }
}
