/**
 * The readable trace: a line per event, in the order in which things happened. A call's line is written when it
 * returns, so what it caused stands above it, as in strace. Lines that say nothing new are counted, not repeated.
 */
import type { CacheEvent, DmaEvent, InterruptEvent, TraceEvent } from './events.ts';
import { isPlainSync, showCommand } from './print-command.ts';
import { showFault, showVevent } from './print-fault.ts';
import { type CommandLookup, showFileCall, showIoctl } from './print-ioctl.ts';
import { showLength } from './print-struct.ts';

export type Style = 'source' | 'call' | 'hardware' | 'refused' | 'quiet';

export interface PrinterOptions {
  /** Takes one line, without its end. */
  readonly write: (line: string) => void;
  /** The ioctls of the dialect that is spoken. */
  readonly lookup: CommandLookup;
  /** Adds colour; plain text when absent. */
  readonly paint?: (style: Style, text: string) => string;
  /** Also register and config accesses, cache hits and fills, and CMD_SYNC. */
  readonly all?: boolean;
}

interface Line {
  readonly source: string;
  readonly style: Style;
  readonly text: string;
  readonly pid?: number;
}

/** Width of the column that says who: an SMMU's name. */
const SOURCE_WIDTH = 16;
/** Lines of a monotonous run that are shown. */
const RUN_SHOWN = 4;

export class Printer {
  private readonly options: PrinterOptions;
  private readonly paint: (style: Style, text: string) => string;
  private firstPid: number | undefined;
  /** The last two lines without their numbers: a run may alternate between a call and a command that it causes. */
  private before: readonly [string, string];
  private runLength: number;

  constructor(options: PrinterOptions) {
    this.options = options;
    this.paint = options.paint ?? ((_style, text) => text);
    this.firstPid = undefined;
    this.before = ['', ''];
    this.runLength = 0;
  }

  readonly sink = (event: TraceEvent): void => {
    const line = this.show(event);
    if (line) this.print(line);
  };

  /** Writes what is still counted. Call it at the end. */
  flush(): void {
    const hidden = this.runLength - RUN_SHOWN;
    if (hidden > 0)
      this.options.write(this.paint('quiet', `${' '.repeat(SOURCE_WIDTH)}  ... ${hidden} more like these`));
    this.runLength = 0;
  }

  private print(line: Line): void {
    const shape = `${line.source} ${line.text}`.replace(/0x[0-9a-f]+|\d+/g, '#');
    if (!this.before.includes(shape)) this.flush();
    else if (++this.runLength > RUN_SHOWN) return;
    this.before = [this.before[1], shape];
    const source = this.paint('source', line.source.padEnd(SOURCE_WIDTH));
    this.options.write(`${source}  ${this.showPid(line.pid)}${this.paint(line.style, line.text)}`);
  }

  /** Only when more than one process is there to be told apart. */
  private showPid(pid: number | undefined): string {
    if (pid === undefined) return '';
    this.firstPid ??= pid;
    return pid === this.firstPid ? '' : this.paint('quiet', `[${pid}] `);
  }

  private show(event: TraceEvent): Line | null {
    const all = this.options.all ?? false;
    switch (event.type) {
      case 'ioctl':
        return {
          source: shortName(event.file),
          style: event.result < 0 ? 'refused' : 'call',
          text: showIoctl(event, this.options.lookup),
          pid: event.pid,
        };
      case 'file':
        if (!all && event.result >= 0 && event.call !== 'open' && event.call !== 'close') return null;
        return {
          source: shortName(event.file),
          style: event.result < 0 ? 'refused' : 'call',
          text: showFileCall(event),
          pid: event.pid,
        };
      case 'command':
        if (!all && isPlainSync(event)) return null;
        return {
          source: shortName(event.iommu),
          style: event.error ? 'refused' : 'hardware',
          text: showCommand(event),
        };
      case 'fault':
        return { source: shortName(event.iommu), style: 'refused', text: `event: ${showFault(event)}` };
      case 'dma':
        return {
          source: shortName(event.device),
          style: event.via === 'refused' ? 'refused' : 'hardware',
          text: showDma(event),
        };
      case 'cache':
        return all ? { source: shortName(event.owner), style: 'quiet', text: showCache(event) } : null;
      case 'interrupt':
        return { source: shortName(event.device), style: 'hardware', text: showInterrupt(event) };
      case 'vevent':
        return {
          source: `vIOMMU ${event.viommu}`,
          style: 'refused',
          text: `queue ${event.queue}: ${showVevent(event)}`,
        };
      case 'note':
        return { source: shortName(event.from), style: 'refused', text: event.text };
    }
  }
}

/** `/dev/vfio/devices/vfio0` is vfio0; the leading zeros of `smmu3.0x000000002b400000` tell nobody anything. */
export const shortName = (name: string): string => name.replace(/^\/dev\/(.*\/)?/, '').replace(/0x0+(?=.)/, '0x');

const hex = (frame: number, offset: number): string => `0x${(BigInt(frame) * 4096n + BigInt(offset)).toString(16)}`;

/** `DMA write 4 KiB at 0x20000 -> PA 0x10400b000` */
function showDma({ write, length, iovaFrame, offset, substream, frame, via }: DmaEvent): string {
  const what = `DMA ${write ? 'write' : 'read '} ${showLength(BigInt(length)).padStart(5)} at ${hex(iovaFrame, offset)}`;
  const pasid = substream >= 0 ? ` PASID ${substream}` : '';
  if (via === 'refused' || via === 'discarded' || via === 'stalled') return `${what}${pasid} ${via}`;
  if (via === 'page-request') return `${what}${pasid} requests its page`;
  return `${what}${pasid} -> PA ${hex(frame, offset)}${via === 'atc' ? ' (ATC)' : ''}`;
}

function showCache({ cache, action, vmid, asid, frame, count }: CacheEvent): string {
  const tags = [vmid >= 0 ? ` VMID=${vmid}` : '', asid >= 0 ? ` ASID=${asid}` : ''].join('');
  const many = action === 'invalidate' ? `: ${count} dropped` : '';
  return `${cache} ${action}${tags}${frame >= 0 ? ` ${hex(frame, 0)}` : ''}${many}`;
}

const INTERRUPTS = ['INTx', 'MSI', 'MSI-X', 'ERR', 'REQ'];

const showInterrupt = ({ index, vector }: InterruptEvent): string =>
  `interrupt ${INTERRUPTS[index] ?? index} ${vector}`;
