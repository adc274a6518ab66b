#!/usr/bin/env node
import { CliError, OWN_FAILURE } from './exit.ts';
import { program } from './program.ts';

// Whoever reads our output may stop reading: `uiommufd abi | head -1`.
process.stdout.on('error', ignoreBrokenPipe);
process.stderr.on('error', ignoreBrokenPipe);

try {
  await program().parseAsync();
} catch (error) {
  const known = error instanceof CliError;
  process.stderr.write(`uiommufd: ${known ? error.message : ((error as Error)?.stack ?? error)}\n`);
  process.exitCode = known ? error.status : OWN_FAILURE;
}

function ignoreBrokenPipe(error: NodeJS.ErrnoException): void {
  if (error.code !== 'EPIPE') throw error;
}
