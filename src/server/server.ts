/**
 * Serves one machine to client processes: everything between a program under the shim and an OpenFile.
 *
 * Start, give a child `environment()`, stop. All files that are still open are released at stop.
 */
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import type { Server as NetServer } from 'node:net';
import { createServer } from 'node:net';
import path from 'node:path';
import { FailurePoints } from '../drivers/failure-points.ts';
import type { Tracer } from '../trace/events.ts';
import { SILENT } from '../trace/events.ts';
import { buildShim } from './build-shim.ts';
import { ClientProcesses } from './client-processes.ts';
import { Connection, type Shared } from './connection.ts';
import { PrivateDirectory } from './directory.ts';
import { EventFds } from './event-fds.ts';
import { type Handle, Handles } from './handles.ts';
import { errnoName, loadKeeper } from './keeper.ts';
import type { ServedMachine } from './served-machine.ts';
import { SharedRegions } from './shared-regions.ts';

export interface ServerOptions {
  readonly machine: ServedMachine;
  readonly tracer?: Tracer;
  /** Makes an allocation fail, counted over the calls of all programs. */
  readonly failures?: FailurePoints;
  /** Where to make the private folder; by default the user's runtime folder, or the temporary one. */
  readonly directory?: string;
  /** Told of our own mistakes; by default they go to stderr. The server lives on, and the call gets EIO. */
  readonly onInternalError?: (error: unknown) => void;
}

/** What client processes hold of the server. All zero when they have gone. */
export interface ClientCounts {
  readonly processes: number;
  readonly connections: number;
  readonly handles: number;
  readonly eventFds: number;
}

/**
 * Tasks of the machine's clock between two calls, in steps: no further one when they have taken long, so that a device
 * with much to do does not keep other programs waiting. One task takes up to some milliseconds.
 */
const SLICE = 128;
const STEP = 16;
const SLICE_MS = 5;

/** How often closed handles are looked for when nobody calls. */
const IDLE_SWEEP_MS = 50;

export class Server {
  private readonly options: ServerOptions;
  private readonly tracer: Tracer;
  private readonly connections = new Set<Connection>();
  private running: Running | null = null;
  /** The next slice of the machine's work is on its way. */
  private slicing = false;

  constructor(options: ServerOptions) {
    this.options = options;
    this.tracer = options.tracer ?? SILENT;
  }

  async start(): Promise<void> {
    if (this.running) throw new Error('the server has been started already');
    const built = buildShim();
    const addon = loadKeeper(built.keeper);
    const id = randomBytes(12).toString('hex');
    const secret = randomBytes(16);
    const handleNames = `uiommufd/${id}/`;
    const keeper = addon.createKeeper(`${handleNames}keeper`, handleNames);
    if (typeof keeper === 'number') throw new Error(`cannot listen for handles: ${errnoName(keeper)}`);

    const handles = new Handles(addon, keeper, (handle) => this.released(handle));
    const processes = new ClientProcesses(addon);
    const eventFds = new EventFds(addon, keeper, () => this.signalled());
    const regions = new SharedRegions(addon);
    const { machine, failures = new FailurePoints() } = this.options;
    const shared: Shared = {
      machine,
      tracer: this.tracer,
      secret,
      handles,
      processes,
      eventFds,
      regions,
      failures,
      settle: () => this.settle(),
      internalError: (error) => this.internalError(error),
      note: (text) => {
        if (this.tracer.on) this.tracer.emit({ type: 'note', from: 'server', text });
      },
    };
    // Node pads an abstract name to the size of sockaddr_un in some versions: only a full one is the same in all.
    const calls = `${handleNames}calls/`.padEnd(107, '-');
    const listener = createServer((socket) => {
      const connection = new Connection(shared, socket);
      this.connections.add(connection);
      socket.on('close', () => this.connections.delete(connection));
    });
    const directory = new PrivateDirectory(built.library, this.options.directory);
    const sweeper = setInterval(() => this.sweep(), IDLE_SWEEP_MS).unref();
    this.running = { shared, listener, directory, sweeper };
    try {
      listener.listen(`\0${calls}`);
      await once(listener, 'listening');
      listener.unref();
      processes.showAccounts(path.join(directory.path, 'accounts'));
      directory.fill(machine, { calls, keeper: `${handleNames}keeper`, handles: handleNames, secret }, addon);
      machine.onVisible = (file, visible) => directory.setVisible(file, visible);
      machine.onContent = (file, content) => directory.setContent(file, content);
    } catch (error) {
      await this.stop();
      throw error;
    }
  }

  /** Ends all connections, releases all files, removes the private folder. Clients see their calls fail with EIO. */
  async stop(): Promise<void> {
    const running = this.running;
    if (!running) return;
    this.running = null;
    clearInterval(running.sweeper);
    running.listener.close();
    this.options.machine.onVisible = null;
    this.options.machine.onContent = null;
    for (const connection of this.connections) connection.destroy();
    // Connections tell their handlers of the end in the next turn; files go after that.
    while (this.connections.size > 0) await new Promise((resolve) => setImmediate(resolve));
    running.shared.handles.close();
    running.shared.eventFds.close();
    this.unattended(() => running.shared.regions.close());
    running.shared.processes.close();
    await running.directory.remove();
  }

  /** What a child process needs in its environment, besides what it has. */
  environment(): Record<string, string> {
    if (!this.running) throw new Error('the server is not running');
    const { library } = this.running.directory;
    const { LD_PRELOAD: preloaded = '', ASAN_OPTIONS: options } = process.env;
    // A server that we run under is none of the child's.
    const others = preloaded.split(/[\s:]+/).filter((each) => each && path.basename(each) !== path.basename(library));
    return {
      LD_PRELOAD: [library, ...others].join(':'),
      // AddressSanitizer ends programs that have another library in front of its own.
      ASAN_OPTIONS: options ? `verify_asan_link_order=0:${options}` : 'verify_asan_link_order=0',
    };
  }

  /** The private folder. */
  get folder(): string {
    if (!this.running) throw new Error('the server is not running');
    return this.running.directory.path;
  }

  get clients(): ClientCounts {
    if (!this.running) return { processes: 0, connections: 0, handles: 0, eventFds: 0 };
    const { handles, processes, eventFds } = this.running.shared;
    handles.sweep();
    return {
      processes: processes.count,
      connections: this.connections.size,
      handles: handles.count,
      eventFds: eventFds.count,
    };
  }

  private sweep(): void {
    if (!this.running) return;
    const { handles, processes, regions } = this.running.shared;
    this.unattended(() => {
      handles.sweep();
      handles.prune();
      regions.sweep();
      processes.sweep();
    });
  }

  /** A program has signalled an event fd, and may not call us for a long time. */
  private signalled(): void {
    this.unattended(() => this.running?.shared.eventFds.sweep());
    this.settle();
  }

  private released(handle: Handle): void {
    this.unattended(() => handle.file.release());
    this.settle();
    if (this.tracer.on) {
      const { pid, name } = handle;
      this.tracer.emit({ type: 'file', pid, file: name, call: 'close', offset: 0, length: 0, result: 0, reason: '' });
    }
  }

  /** What is left after a slice goes on between other calls: devices of one program may keep themselves busy for ever. */
  private settle(): void {
    let settled = false;
    try {
      settled = this.settleSlice();
      this.running?.shared.processes.publishAccounts();
    } catch (error) {
      this.internalError(error);
    }
    if (settled || this.slicing || !this.running) return;
    this.slicing = true;
    setImmediate(() => {
      this.slicing = false;
      this.settle();
    });
  }

  /** @returns whether nothing is left to do */
  private settleSlice(): boolean {
    const end = performance.now() + SLICE_MS;
    for (let left = SLICE; left > 0; left -= STEP) {
      if (this.options.machine.settle(STEP)) return true;
      if (performance.now() > end) break;
    }
    return false;
  }

  /** Does what no call of a program asks for, so that none gets EIO for a mistake of ours. */
  private unattended(work: () => void): void {
    try {
      work();
    } catch (error) {
      this.internalError(error);
    }
  }

  private internalError(error: unknown): void {
    const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
    if (this.tracer.on) this.tracer.emit({ type: 'note', from: 'server', text: `internal error: ${text}` });
    if (this.options.onInternalError) this.options.onInternalError(error);
    else process.stderr.write(`uiommufd: internal error: ${text}\n`);
  }
}

interface Running {
  readonly shared: Shared;
  readonly listener: NetServer;
  readonly directory: PrivateDirectory;
  readonly sweeper: NodeJS.Timeout;
}
