/** Colours of the readable trace, on a terminal that wants them. */
import { styleText } from 'node:util';
import type { Style } from '../trace/printer.ts';

type Colour = Parameters<typeof styleText>[0];
export type Paint = (style: Style, text: string) => string;

const COLOURS: Readonly<Record<Style, Colour>> = {
  source: 'cyan',
  call: 'reset',
  hardware: 'green',
  refused: 'yellow',
  quiet: 'dim',
};

/** Undefined where text should stay plain: no terminal, or NO_COLOR (no-color.org). */
export function painter(stream: NodeJS.WriteStream): Paint | undefined {
  if (!stream.isTTY || process.env.NO_COLOR) return undefined;
  return (style, text) => styleText(COLOURS[style], text);
}
