/** A server in a process of its own, to be killed: prints its folder, and ends abruptly at the end of its input. */
import { Server } from '../../src/server/server.ts';
import { TestMachine } from './machine.ts';

const server = new Server({ machine: new TestMachine(), directory: process.argv[2]! });
await server.start();
process.stdout.write(`${server.folder}\n`);
process.stdin.on('end', () => process.exit(0)).resume();
