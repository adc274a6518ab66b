/** The thread that waits for events of a vIOMMU and passes them on. */
import type { Client } from './client.ts';
import type { Faults } from './faults.ts';
import type { EventSink, HostEvents } from './host-events.ts';
import type { Body, Threads } from './threads.ts';

export interface EventThreadPort {
  readonly client: Client;
  readonly threads: Threads;
  readonly faults: Faults;
  /** Milliseconds after which it looks whether it is to end; null: it is woken up for that. */
  readonly timeout: number | null;
}

export class EventThread {
  private readonly port: EventThreadPort;
  private readonly events: HostEvents;
  /** An eventfd. */
  private readonly wakeUp: number;
  private readonly thread: ReturnType<Threads['start']>;
  private ending: boolean;

  constructor(port: EventThreadPort, name: string, events: HostEvents, sink: EventSink) {
    const { client, threads } = port;
    this.port = port;
    this.events = events;
    this.wakeUp = client.process.makeEventFd();
    this.ending = false;
    this.thread = threads.start(`the event thread of ${name}`, this.body(sink));
    client.process.file(events.fd).onPollChange = () => client.machine.clock.defer(() => threads.run());
  }

  /** Waits for its end. Its events are nobody's then. */
  end(): void {
    const { client, threads, faults, timeout } = this.port;
    this.ending = true;
    if (faults.closeToWake) client.close(this.events.fd);
    else if (timeout === null && !faults.pollForEver) client.process.signalEventFd(this.wakeUp);
    threads.join(this.thread);
    client.process.closeEventFd(this.wakeUp);
  }

  private *body(sink: EventSink): Body {
    const { client, timeout } = this.port;
    const fds = [this.events.fd, this.wakeUp];
    while (!this.ending) {
      yield { fds, timeout };
      this.events.drain(sink);
      client.machine.settle();
    }
  }
}
