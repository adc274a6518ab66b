/** Where the engine refuses calls: each `fail('E...')` in its sources, and which of them a run of the suite has reached. */
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import type { Errno } from '../../src/abi/errno.ts';

const ROOT = path.join(import.meta.dirname, '../..');
const FOLDERS = ['src/iommufd', 'src/vfio', 'src/drivers/mock'];
const OTHERS = /\.(test|bench)\.ts$|\/testing[^/]*\.ts$/;

export interface Site {
  /** 'src/iommufd/ioas.ts:70' */
  readonly at: string;
  /** The call, on one line. */
  readonly text: string;
}

/** Every site, in the order of files and lines. */
export function refusalSites(): Site[] {
  return FOLDERS.flatMap((folder) =>
    readdirSync(path.join(ROOT, folder), { recursive: true, encoding: 'utf8' })
      .map((name) => `${folder}/${name}`)
      .filter((name) => name.endsWith('.ts') && !OTHERS.test(name))
      .sort()
      .flatMap(sitesOf),
  );
}

function sitesOf(file: string): Site[] {
  const lines = readFileSync(path.join(ROOT, file), 'utf8').split('\n');
  return lines.flatMap((line, index) => {
    if (!/\bfail\((\s*$|'E|taken)/.test(line)) return [];
    const rest = lines.slice(index, index + 4).map((part) => part.trim());
    return [{ at: `${file}:${index + 1}`, text: rest.join(' ').replace(/^.*?\bfail\(/, 'fail(') }];
  });
}

/** The site at which an Errno was made. */
export function siteOf(errno: Errno): string {
  const frames = errno.stack!.split('\n').filter((line) => line.startsWith('    at '));
  const maker = frames.findIndex((frame) => /\bfail\b/.test(frame));
  const [, file, line] = /(src\/[^:?]+)[^:]*:(\d+):\d+\)?$/.exec(frames[maker + 1]!) ?? [];
  return `${file}:${line}`;
}
