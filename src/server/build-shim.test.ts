import fs from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { buildShim } from './build-shim.ts';

let folder: string;
beforeEach(() => {
  folder = fs.mkdtempSync(path.join(tmpdir(), 'uiommufd-build-'));
  vi.stubEnv('XDG_CACHE_HOME', path.join(folder, 'cache'));
});
afterEach(() => {
  vi.unstubAllEnvs();
  fs.rmSync(folder, { recursive: true });
});

/** A shim of two lines: the real one takes seconds, and is built for other tests. */
function smallSources(keeper = 'int x;'): string {
  const sources = path.join(folder, 'sources');
  fs.mkdirSync(path.join(sources, 'keeper'), { recursive: true });
  fs.writeFileSync(path.join(sources, 'keeper/keeper.c'), keeper);
  fs.writeFileSync(path.join(sources, 'shim.c'), 'int y;');
  return sources;
}

describe('the build of the shim', () => {
  it('compiles once, leaves nothing else, and finds it again', () => {
    const sources = smallSources();
    const built = buildShim(sources);
    const before = fs.statSync(built.library);
    expect(buildShim(sources)).toEqual(built);
    expect(fs.statSync(built.library).ino).toBe(before.ino);
    expect(fs.readdirSync(path.dirname(built.library)).sort()).toEqual(['keeper.node', 'libuiommufd-shim.so']);
    expect(fs.readdirSync(path.join(folder, 'cache/uiommufd'))).toHaveLength(1);
  });

  it('says what to do when there is no compiler', () => {
    vi.stubEnv('CC', '/none/cc');
    expect(() => buildShim()).toThrow("needs a compiler: '/none/cc' cannot be run");
  });

  it('passes on what the compiler says, and leaves nothing', () => {
    expect(() => buildShim(smallSources('int x = ;'))).toThrow(/failed:\n[\s\S]*keeper\.c:1/);
    expect(fs.readdirSync(path.join(folder, 'cache/uiommufd'))).toEqual([]);
  });

  it('takes arguments in CC, as make does', () => {
    vi.stubEnv('CC', 'cc -DUNUSED');
    expect(fs.existsSync(buildShim(smallSources()).keeper)).toBe(true);
  });

  it('takes any folder as the cache', () => {
    vi.stubEnv('XDG_CACHE_HOME', path.join(folder, 'a cache'));
    expect(fs.existsSync(buildShim(smallSources()).library)).toBe(true);
  });
});
