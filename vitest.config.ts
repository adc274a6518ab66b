import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['src/**/*.test.ts', 'test/**/*.test.ts'],
    globalSetup: 'test/compile-shim.ts',
    maxWorkers: '100%',
    // No test changes what another file's can see, and a module is read once for all of them.
    isolate: false,
    testTimeout: 30_000,
    hookTimeout: 30_000,
    benchmark: { include: ['src/**/*.bench.ts'] },
  },
});
