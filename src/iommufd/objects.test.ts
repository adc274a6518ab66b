import { describe, expect, it } from 'vitest';
import type { Errno } from '../abi/errno.ts';
import { IommufdObject, ObjectTable, unuse, use } from './objects.ts';

class Leaf extends IommufdObject {
  readonly log: string[];
  readonly name: string;
  readonly needs: IommufdObject | null;

  constructor(name: string, log: string[], needs: IommufdObject | null = null) {
    super();
    this.name = name;
    this.log = log;
    this.needs = needs && use(needs);
  }

  get kind(): 'ioas' {
    return 'ioas';
  }

  destroy(): void {
    this.log.push(this.name);
    if (this.needs) unuse(this.needs);
  }
}

class Other extends Leaf {}

function code(call: () => unknown): string {
  try {
    call();
    return '';
  } catch (error) {
    return (error as Errno).code;
  }
}

describe('object IDs', () => {
  it('are the lowest free ones from 1 on', () => {
    const table = new ObjectTable();
    const make = () => {
      const object = table.reserve(new Leaf('', []));
      table.publish(object);
      return object.id;
    };
    expect([make(), make(), make(), make()]).toEqual([1, 2, 3, 4]);
    table.remove(3);
    table.remove(2);
    expect([make(), make(), make()]).toEqual([2, 3, 5]);
  });

  it('are taken, but found by nobody, while the object is being made', () => {
    const table = new ObjectTable();
    const object = table.reserve(new Leaf('a', []));
    expect(table.find(1)).toBeNull();
    expect(code(() => table.remove(1))).toBe('ENOENT');
    expect(table.reserve(new Leaf('b', [])).id).toBe(2);
    table.publish(object);
    expect(table.find(1)).toBe(object);
  });

  it('are free again when the object is aborted, which destroys it', () => {
    const table = new ObjectTable();
    const log: string[] = [];
    table.abort(table.reserve(new Leaf('a', log)));
    expect(log).toEqual(['a']);
    expect(table.reserve(new Leaf('b', log)).id).toBe(1);
  });

  it('stay taken for good after entomb()', () => {
    const table = new ObjectTable();
    const object = table.reserve(new Leaf('a', []));
    table.publish(object);
    table.entomb(object);
    expect(code(() => table.remove(1))).toBe('ENOENT');
    expect(code(() => table.get(1, Leaf, 'id'))).toBe('ENOENT');
    expect(table.reserve(new Leaf('b', [])).id).toBe(2);
    expect(table.counts()).toEqual({});
  });
});

describe('objects', () => {
  it('are found by their type only', () => {
    const table = new ObjectTable();
    table.publish(table.reserve(new Leaf('a', [])));
    expect(table.get(1, Leaf, 'id').name).toBe('a');
    expect(code(() => table.get(1, Other, 'id'))).toBe('ENOENT');
    expect(code(() => table.get(0, Leaf, 'id'))).toBe('ENOENT');
  });

  it('cannot be destroyed while they are used', () => {
    const table = new ObjectTable();
    const log: string[] = [];
    const base = table.reserve(new Leaf('base', log));
    table.publish(base);
    table.publish(table.reserve(new Leaf('user', log, base)));
    expect(code(() => table.remove(1))).toBe('EBUSY');
    table.remove(2);
    table.remove(1);
    expect(log).toEqual(['user', 'base']);
    expect(() => unuse(base)).toThrow('more often');
  });

  it('all end with clear(), users before what they use', () => {
    const table = new ObjectTable();
    const log: string[] = [];
    const base = table.reserve(new Leaf('base', log));
    const middle = table.reserve(new Leaf('middle', log, base));
    const top = table.reserve(new Leaf('top', log, middle));
    for (const object of [base, middle, top]) table.publish(object);
    table.entomb(top);
    table.clear();
    expect(log).toEqual(['top', 'middle', 'base']);
    expect(table.size).toBe(0);
  });
});
