import { once } from 'node:events';
import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import fc from 'fast-check';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { Harness } from './harness.ts';

const harness = new Harness();
let files: string;
let hostile: string;
let config: string;

let descriptors: number;
const openDescriptors = (): number => fs.readdirSync('/proc/self/fd').length;

beforeAll(async () => {
  await harness.server.start();
  files = harness.compile('files');
  hostile = harness.compile('hostile');
  config = path.join(harness.server.folder, 'config');
  descriptors = openDescriptors();
});
afterAll(() => harness.stop());
afterEach(async () => {
  await harness.nothingIsLeft();
  expect(harness.errors).toEqual([]);
  await harness.passes(files, 'simple');
  // A descriptor that nobody asked for stays until others push it out.
  await vi.waitFor(() => expect(openDescriptors()).toBeLessThanOrEqual(descriptors + 2), 5000);
});

/** An abstract name of the configuration. */
const socketName = (key: string): string => new RegExp(`^${key} (.*)$`, 'm').exec(fs.readFileSync(config, 'utf8'))![1]!;

describe('a client that breaks the protocol', () => {
  it.each([
    ['is refused when it claims to be another process', 'false-claims'],
    ['loses its connection for a frame out of turn, and its open for a false answer', 'out-of-turn'],
    ['loses what it sends to the keeper', 'keeper'],
    ['is cut off when it does not read its answers', 'never-reads'],
  ])('%s', (_, scenario) => harness.passes(hostile, config, scenario));

  it('is mentioned in the trace when its memory does not show the nonce', () => {
    expect(harness.trace).toContainEqual({
      type: 'note',
      from: 'server',
      text: expect.stringContaining('was refused'),
    });
  });

  it('may send well-formed frames with random content', async () => {
    for (const seed of ['1', '2', '3']) await harness.passes(hostile, config, 'random', seed);
  });

  it('may send any bytes before it has said who it is', async () => {
    const name = socketName('calls');
    const bytes = fc.uint8Array({ maxLength: 300 });
    await fc.assert(
      fc.asyncProperty(bytes, async (sent) => {
        const socket = net.connect(`\0${name}`);
        socket.on('error', () => {});
        socket.end(sent);
        await once(socket, 'close');
      }),
      { numRuns: 50 },
    );
  });
});
