/** The client's example in README.md runs as it stands, under a server. */
import { execFile } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { describe, expect, it } from 'vitest';
import { MockMachine } from '../../src/host/mock-machine.ts';
import { Server } from '../../src/server/server.ts';
import { hasCompiler } from '../abi/layout.ts';

const ROOT = new URL('../../', import.meta.url);

/** With this checkout's sources in place of the published package. */
function example(): string {
  const [, text] = /^```ts\n([\s\S]*?)^```$/m.exec(readFileSync(new URL('README.md', ROOT), 'utf8'))!;
  return text!
    .replace(/'uiommufd\/(\w+)'/g, (_, name) => `'${new URL(`src/${name}/index.ts`, ROOT).pathname}'`)
    .replace("'koffi'", `'${new URL('node_modules/koffi/index.js', ROOT).pathname}'`);
}

describe.skipIf(!hasCompiler() || process.platform !== 'linux')("the client's example", () => {
  it('maps memory of the program', async () => {
    const directory = mkdtempSync(path.join(tmpdir(), 'uiommufd-readme-'));
    const server = new Server({ machine: new MockMachine(), directory });
    await server.start();
    try {
      const file = path.join(directory, 'example.mts');
      writeFileSync(file, example());
      const tsx = path.join(ROOT.pathname, 'node_modules/tsx/dist/loader.mjs');
      const env = { ...process.env, ...server.environment() };
      const { stdout } = await promisify(execFile)(process.execPath, ['--import', tsx, file], { env });
      expect(stdout).toMatch(/^1 MiB of this program is at IOVA 0x[1-9a-f][0-9a-f]*\n$/);
    } finally {
      await server.stop();
      rmSync(directory, { recursive: true, force: true });
    }
  });
});
