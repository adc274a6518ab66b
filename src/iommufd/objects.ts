/**
 * The objects of one iommufd: their IDs, who uses whom, and when they end. An ID is the lowest free one from 1 on.
 * It is reserved while its object is being made, which is then published (others find it) or aborted (it never was).
 * Only objects that nobody uses can be destroyed, so an object's end is always the end of a leaf.
 */
import { fail } from '../abi/errno.ts';
import { mayFail } from '../drivers/failure-points.ts';

export type ObjectKind =
  | 'ioas'
  | 'hwpt-paging'
  | 'hwpt-nested'
  | 'device'
  | 'viommu'
  | 'vdevice'
  | 'veventq'
  | 'virq'
  | 'fault-queue'
  | 'hw-queue'
  | 'vqueue'
  | 'access'
  | 'mock-device';

export abstract class IommufdObject {
  abstract readonly kind: ObjectKind;
  /** 0 until an ID is reserved. */
  id: number;
  /** Objects and files that need this one. */
  users: number;

  constructor() {
    this.id = 0;
    this.users = 0;
  }

  /** Gives back everything that it holds. Called once, when nobody uses it. */
  abstract destroy(): void;
}

/** `object` is needed from now on: it cannot be destroyed. */
export function use<T extends IommufdObject>(object: T): T {
  object.users++;
  return object;
}

/** Ends one use(). */
export function unuse(object: IommufdObject): void {
  if (object.users === 0) throw new Error(`${object.kind} ${object.id} is given back more often than used`);
  object.users--;
}

/** An ID that is taken, but found by nobody. */
const RESERVED = Symbol('reserved');

type Entry = IommufdObject | typeof RESERVED;

export class ObjectTable {
  private readonly entries: Map<number, Entry>;
  /** No ID below is free. */
  private lowestFree: number;

  constructor() {
    this.entries = new Map();
    this.lowestFree = 1;
  }

  /** IDs taken, those of objects in the making and of tombstones included. */
  get size(): number {
    return this.entries.size;
  }

  /** Takes an ID for `object`. It ends when there is no memory for it. */
  reserve<T extends IommufdObject>(object: T): T {
    try {
      mayFail(`the ${object.kind}`);
    } catch (error) {
      object.destroy();
      throw error;
    }
    while (this.entries.has(this.lowestFree)) this.lowestFree++;
    object.id = this.lowestFree++;
    this.entries.set(object.id, RESERVED);
    return object;
  }

  publish(object: IommufdObject): void {
    if (this.entries.get(object.id) !== RESERVED) throw new Error(`ID ${object.id} is not reserved`);
    this.entries.set(object.id, object);
  }

  /** Ends an object that was never published. */
  abort(object: IommufdObject): void {
    if (this.entries.get(object.id) !== RESERVED) throw new Error(`ID ${object.id} is not reserved`);
    object.destroy();
    this.free(object.id);
  }

  /** The published object `id`, whatever it is, or null. */
  find(id: number): IommufdObject | null {
    const entry = this.entries.get(id);
    return entry instanceof IommufdObject ? entry : null;
  }

  /** The object `id` if it is a `type`. ENOENT otherwise; `field` names the ID in the reason. */
  get<T extends IommufdObject>(id: number, type: abstract new (...args: never[]) => T, field: string): T {
    const object = this.find(id);
    if (object instanceof type) return object;
    throw fail('ENOENT', object ? `${field} ${id} is a ${object.kind}` : `${field} ${id} does not exist`);
  }

  /** DESTROY: ENOENT when there is no such object, EBUSY while it is used. */
  remove(id: number): void {
    const object = this.find(id);
    if (!object) throw fail('ENOENT', `id ${id} does not exist`);
    if (object.users) {
      throw fail('EBUSY', `${object.kind} ${id} is used by ${object.users} other object${object.users > 1 ? 's' : ''}`);
    }
    this.free(id);
    object.destroy();
  }

  /** Destroys a published object whose ID is not to be used again before the iommufd is closed. */
  entomb(object: IommufdObject): void {
    this.remove(object.id);
    this.entries.set(object.id, RESERVED);
  }

  /** Destroys everything, leaves first. */
  clear(): void {
    for (let objects = this.all(); objects.length; objects = this.all()) {
      const leaves = objects.filter((object) => object.users === 0);
      if (leaves.length === 0) throw new Error(`objects hold one another: ${JSON.stringify(this.counts())}`);
      // A mock device's end takes others along.
      for (const leaf of leaves) if (this.find(leaf.id) === leaf) this.remove(leaf.id);
    }
    this.entries.clear();
    this.lowestFree = 1;
  }

  /** Published objects by ID. */
  all(): IommufdObject[] {
    const objects = [...this.entries.values()].filter((entry) => entry instanceof IommufdObject);
    return objects.sort((a, b) => a.id - b.id);
  }

  /** How many published objects there are of each kind that there is. */
  counts(): Partial<Record<ObjectKind, number>> {
    const counts: Partial<Record<ObjectKind, number>> = {};
    for (const { kind } of this.all()) counts[kind] = (counts[kind] ?? 0) + 1;
    return counts;
  }

  private free(id: number): void {
    this.entries.delete(id);
    if (id < this.lowestFree) this.lowestFree = id;
  }
}
