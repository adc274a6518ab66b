/** Carries events from every layer to whoever listens. With no sink, `on` is false and no layer builds an event. */
import type { TraceEvent, Tracer } from './events.ts';

/** Receives every event, in order. Events and their bytes are never changed after they were emitted: keep them freely. */
export type Sink = (event: TraceEvent) => void;

export class Trace implements Tracer {
  on: boolean;
  private sinks: readonly Sink[];
  private readonly onBroken: (error: unknown) => void;

  /** @param onBroken told once about each sink that threw; the sink is dropped and the engine goes on */
  constructor(onBroken: (error: unknown) => void = () => {}) {
    this.on = false;
    this.sinks = [];
    this.onBroken = onBroken;
  }

  /** @returns takes the sink away again */
  add(sink: Sink): () => void {
    this.set([...this.sinks, sink]);
    return () => this.remove(sink);
  }

  emit(event: TraceEvent): void {
    for (const sink of this.sinks) {
      try {
        sink(event);
      } catch (error) {
        this.remove(sink);
        this.onBroken(error);
      }
    }
  }

  private remove(sink: Sink): void {
    this.set(this.sinks.filter((other) => other !== sink));
  }

  private set(sinks: readonly Sink[]): void {
    this.sinks = sinks;
    this.on = sinks.length > 0;
  }
}

/** Keeps the newest events. */
export class Recorder {
  readonly events: TraceEvent[];
  /** Events that were let go because there were more than `limit`. */
  dropped: number;
  readonly sink: Sink;

  constructor(limit: number) {
    this.events = [];
    this.dropped = 0;
    this.sink = (event) => {
      // Half at once, so that a full recorder still costs a constant per event.
      if (this.events.length >= limit) this.dropped += this.events.splice(0, Math.ceil(limit / 2)).length;
      this.events.push(event);
    };
  }
}
