/**
 * A call through shim and server, against a bare echo over the same kind of socket in the same process. One run is 1000
 * round trips made by a C program. Wanted: an ioctl at most twice an echo.
 */
import { once } from 'node:events';
import { createServer } from 'node:net';
import { bench, cleanup, describe } from '../../bench/harness.ts';
import { Harness } from '../../test/server/harness.ts';
import { REPLY_BYTES } from './protocol.ts';

const ROUND_TRIPS = 1000;

const name = `uiommufd-bench-${process.pid}-`.padEnd(107, '-');
const answer = Buffer.alloc(REPLY_BYTES);
const echo = createServer((socket) => socket.on('data', () => socket.write(answer)));
echo.listen(`\0${name}`);
await once(echo, 'listening');
const harness = new Harness({ on: false, emit: () => {} });
await harness.server.start();
const client = harness.start(harness.compile('round-trip'), name);

const run = async (kind: string): Promise<void> => {
  client.stdin!.write(`${kind} ${ROUND_TRIPS}\n`);
  await once(client.stdout!, 'data');
};

describe(`${ROUND_TRIPS} round trips`, () => {
  bench('bare echo', () => run('echo'));
  bench('ioctl alone', () => run('ioctl'));
  bench('ioctl that reads and writes 4 bytes of the client', () => run('increment'));
});

cleanup(() => harness.stop());
