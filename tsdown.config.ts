import { writeFile } from 'node:fs/promises';
import { defineConfig, type UserConfig } from 'tsdown';

const common: UserConfig = {
  format: 'esm',
  platform: 'node',
  target: 'node20.19',
  fixedExtension: false,
  // The package installs and starts without fetching anything: what it uses is in the bundle.
  noExternal: ['commander', 'zod'],
  inlineOnly: false,
  logLevel: 'warn',
};

// Two builds: the command starts faster from one file, and has no types.
export default defineConfig([
  { ...common, entry: { cli: 'src/cli/main.ts' }, dts: false },
  {
    ...common,
    entry: { index: 'src/index.ts', abi: 'src/abi/index.ts', client: 'src/client/index.ts' },
    dts: true,
    hooks: { 'build:done': writeSchema },
  },
]);

async function writeSchema(): Promise<void> {
  const { machineSchema } = await import(new URL('./dist/index.js', import.meta.url).href);
  const schema = JSON.stringify(machineSchema(), null, 2);
  await writeFile(new URL('./dist/machine.schema.json', import.meta.url), `${schema}\n`);
}
