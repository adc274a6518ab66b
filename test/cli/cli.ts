/** Runs the command line as its users do: bundled, as a process of its own, in an environment where leftovers show. */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'tsdown';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));

export interface Ended {
  readonly status: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

export class Cli {
  private readonly bundle: string;
  /** Where the command may put temporary files. */
  readonly temporary: string;

  private constructor(bundle: string, temporary: string) {
    this.bundle = bundle;
    this.temporary = temporary;
  }

  /** Bundles the sources as they are now, below this repository so that the package's other files are found. */
  static async build(): Promise<Cli> {
    mkdirSync(path.join(ROOT, 'build'), { recursive: true });
    const bundle = mkdtempSync(path.join(ROOT, 'build', 'cli-test-'));
    await build({
      config: false,
      cwd: ROOT,
      entry: { cli: 'src/cli/main.ts' },
      outDir: bundle,
      format: 'esm',
      platform: 'node',
      target: 'node20.19',
      fixedExtension: false,
      noExternal: ['commander', 'zod'],
      inlineOnly: false,
      dts: false,
      logLevel: 'error',
    });
    return new Cli(bundle, mkdtempSync(path.join(tmpdir(), 'cli-test-')));
  }

  remove(): void {
    rmSync(this.bundle, { recursive: true, force: true });
    rmSync(this.temporary, { recursive: true, force: true });
  }

  /** What the command has left where it puts temporary files. */
  get left(): string[] {
    return readdirSync(this.temporary);
  }

  /** @param descriptors what the command finds open from 3 on */
  start(args: readonly string[], descriptors: readonly number[] = []): ChildProcess {
    const { XDG_RUNTIME_DIR: _, ...environment } = process.env;
    const env = { ...environment, TMPDIR: this.temporary, NO_COLOR: '1' };
    return spawn(process.execPath, [path.join(this.bundle, 'cli.js'), ...args], {
      env,
      stdio: ['pipe', 'pipe', 'pipe', ...descriptors],
    });
  }

  async run(args: readonly string[], input = ''): Promise<Ended> {
    const child = this.start(args);
    child.stdin?.on('error', () => {});
    child.stdin?.end(input);
    return ending(child);
  }
}

export function ending(child: ChildProcess): Promise<Ended> {
  let stdout = '';
  let stderr = '';
  child.stdout?.on('data', (chunk) => {
    stdout += chunk;
  });
  child.stderr?.on('data', (chunk) => {
    stderr += chunk;
  });
  return new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (status, signal) => resolve({ status, signal, stdout, stderr }));
  });
}
