/**
 * Pages that devices write their messages to (MSI), and where an iommufd has its domains map them: in the window that the
 * devices reserve for it. Whatever domain a device is in, it finds a page at the same IOVA, so its messages need no new
 * address when it is attached to another one.
 */
import { PAGE_BYTES } from './pages.ts';

export interface MessagePage {
  readonly iova: bigint;
  /** Physical address of the page. */
  readonly physical: number;
  /** First IOVA of the window that it lies in. */
  readonly window: bigint;
}

export class MessagePages {
  private readonly pages: MessagePage[];

  constructor() {
    this.pages = [];
  }

  /** The place of a page in a window: its own, or the next one that is free. */
  place(physical: number, window: bigint): MessagePage {
    const neighbours = this.pages.filter((page) => page.window === window);
    const found = neighbours.find((page) => page.physical === physical);
    if (found) return found;
    const page = { iova: window + BigInt(neighbours.length) * PAGE_BYTES, physical, window };
    this.pages.push(page);
    return page;
  }
}
