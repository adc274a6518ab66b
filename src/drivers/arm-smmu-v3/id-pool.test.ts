import { describe, expect, it } from 'vitest';
import { IdPool } from './id-pool.ts';

describe('IdPool', () => {
  it('gives the lowest free ID, never 0, and -1 at the end', () => {
    const pool = new IdPool(2);
    expect([pool.take(), pool.take(), pool.take(), pool.take()]).toEqual([1, 2, 3, -1]);
    pool.give(3);
    pool.give(1);
    expect([pool.take(), pool.take(), pool.take()]).toEqual([1, 3, -1]);
    expect(pool.used).toBe(3);
  });

  it('takes back only what it gave', () => {
    const pool = new IdPool(8);
    expect(() => pool.give(1)).toThrow('not taken');
  });
});
