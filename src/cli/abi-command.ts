/** `uiommufd abi`: the dialects, and what each speaks. */

import { type CommandLayout, DEFAULT_DIALECT, DIALECTS, type Dialect } from '../abi/dialects.ts';
import { findDialect } from './session.ts';

export function abiCommand(name: string | undefined): void {
  process.stdout.write(name === undefined ? listDialects() : describeDialect(findDialect(name)));
}

/** One line for each dialect. */
function listDialects(): string {
  const lines = DIALECTS.map((dialect, i) => {
    const mark = dialect.name === DEFAULT_DIALECT ? ' (default)' : '';
    return (
      `${dialect.name}${mark}`.padEnd(22) + (i === 0 ? describeFirst(dialect) : describeNew(dialect, before(dialect)))
    );
  });
  return `${lines.join('\n')}\n`;
}

/** viommu-v2 grew from 6.11, every other one from the one above it. */
const before = (dialect: Dialect): Dialect =>
  dialect.name === 'viommu-v2'
    ? DIALECTS.find(({ name }) => name === 'linux-6.11')!
    : DIALECTS[DIALECTS.indexOf(dialect) - 1]!;

const describeFirst = (dialect: Dialect): string => `${dialect.commands.size} commands`;

function describeNew(dialect: Dialect, previous: Dialect): string {
  const all = (of: Dialect): CommandLayout[] => [...of.commands.values(), ...of.vfioCommands.values()];
  const known = new Set(all(previous).map(({ name }) => name));
  const names = all(dialect).flatMap(({ name }) => (known.has(name) ? [] : [name.replace(/^IOMMU_/, '')]));
  const iommufd = names.filter((name) => !name.startsWith('VFIO_'));
  const vfio = names.length - iommufd.length;
  return [...iommufd, ...(vfio ? [`${vfio} commands of VFIO devices`] : [])].join(', ') || 'no new command';
}

function describeDialect(dialect: Dialect): string {
  const sections = [
    ['/dev/iommu', dialect.commands],
    ['VFIO devices', dialect.vfioCommands],
  ] as const;
  const lines = sections.flatMap(([file, commands]) => [
    `${file}: ${commands.size} commands`,
    ...[...commands.values()].sort((a, b) => a.nr - b.nr).map((command) => `  ${describeCommand(command)}`),
  ]);
  return `${lines.join('\n')}\n`;
}

function describeCommand({ command, name, minimumSize, size }: CommandLayout): string {
  const bytes = minimumSize === size ? `${size}` : `${minimumSize}-${size}`;
  return `0x${command.toString(16)}  ${name.padEnd(36)} ${bytes.padStart(6)} bytes`;
}
