import { describe, expect, it } from 'vitest';
import type { NoteEvent } from './events.ts';
import { Recorder, Trace } from './trace.ts';

const note = (text: string): NoteEvent => ({ type: 'note', from: 'test', text });

describe('a trace', () => {
  it('is on only while somebody listens', () => {
    const trace = new Trace();
    expect(trace.on).toBe(false);
    const remove = trace.add(() => {});
    expect(trace.on).toBe(true);
    remove();
    expect(trace.on).toBe(false);
  });

  it('gives every event to every sink, in order', () => {
    const trace = new Trace();
    const a: string[] = [];
    const b: string[] = [];
    trace.add((event) => a.push((event as NoteEvent).text));
    trace.add((event) => b.push((event as NoteEvent).text));
    trace.emit(note('one'));
    trace.emit(note('two'));
    expect([a, b]).toEqual([
      ['one', 'two'],
      ['one', 'two'],
    ]);
  });

  it('drops a sink that throws, says so once, and goes on with the others', () => {
    const broken: unknown[] = [];
    const trace = new Trace((error) => broken.push(error));
    const heard: string[] = [];
    const mistake = new Error('disk full');
    trace.add(() => {
      throw mistake;
    });
    trace.add((event) => heard.push((event as NoteEvent).text));
    trace.emit(note('one'));
    trace.emit(note('two'));
    expect(heard).toEqual(['one', 'two']);
    expect(broken).toEqual([mistake]);
    expect(trace.on).toBe(true);
  });
});

describe('a recorder', () => {
  it('keeps the newest events and counts the others', () => {
    const recorder = new Recorder(4);
    for (let i = 0; i < 10; i++) recorder.sink(note(`${i}`));
    const texts = recorder.events.map((event) => (event as NoteEvent).text);
    expect(texts.length).toBeLessThanOrEqual(4);
    expect(texts.at(-1)).toBe('9');
    expect(recorder.dropped + texts.length).toBe(10);
  });
});
