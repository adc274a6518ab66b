/** The generated parts of docs/fidelity.md: what is refused, what differs from the recorded model, the registers. */
import { ABSENT_REGISTERS, REGISTERS, type RegisterSpec } from '../../src/hardware/smmuv3/spec/registers.ts';
import { UNSUPPORTED } from '../../src/hardware/smmuv3/spec/unsupported.ts';
import { readCases } from '../../test/smmuv3-oracle/cases.ts';
import { DEVIATIONS } from './deviations.ts';
import { code, table } from './markdown.ts';

export function unsupportedFeatures(): string {
  const rows = UNSUPPORTED.map(({ feature, shownBy, answer }) => [feature, shownBy, answer]);
  return table(['feature', 'shown by', 'when used all the same'], rows);
}

/** One row for each kind of deviation in the recorded cases, with the number of requests that show it. */
export function deviations(): string {
  const counts = new Map<string, number>();
  for (const step of readCases().cases.flatMap(({ steps }) => steps)) {
    if (step.op !== 'dma' || step.cls !== 'deviation') continue;
    for (const name of step.dev!) counts.set(name, (counts.get(name) ?? 0) + 1);
  }
  const strays = Object.keys(DEVIATIONS).filter((name) => !counts.has(name));
  if (strays.length) throw new Error(`no recorded case deviates by ${strays.join(', ')}`);
  const rows = [...counts]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([name, count]) => {
      const deviation = DEVIATIONS[name];
      if (!deviation) throw new Error(`the deviation ${name} of the recorded cases is not explained`);
      return [code(name), String(count), deviation.recorded, deviation.ours, deviation.section];
    });
  return table(['name', 'requests', 'the recorded model', 'here, as the architecture has it', 'section'], rows);
}

export function registers(): string {
  const rows = Object.entries(REGISTERS).map(([name, register]) => registerRow(name, register));
  const absent = Object.entries(ABSENT_REGISTERS).map(([offset, name]) => `${name} (${hex(Number(offset))})`);
  const heads = ['register', 'offset', 'bits', 'access', 'writes ignored while', 'fields'];
  return `${table(heads, rows)}\n\nKnown to the architecture and absent here: ${absent.join(', ')}.`;
}

function registerRow(name: string, { offset, words, access, lock, reset, fields }: RegisterSpec): string[] {
  const parts = Object.entries(fields).map(([field, layout]) => {
    const low = layout.word * 32 + layout.shift;
    const high = low + layout.width - 1;
    return high === low ? `${field}[${low}]` : `${field}[${high}:${low}]`;
  });
  const from = reset === 0 ? '' : `; reset ${hex(reset)}`;
  return [code(name), hex(offset), String(words * 32), access, lock ?? '-', parts.join(', ') + from];
}

const hex = (value: number): string => `0x${value.toString(16)}`;
