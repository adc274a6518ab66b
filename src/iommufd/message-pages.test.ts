import { expect, it } from 'vitest';
import { MessagePages } from './message-pages.ts';

it('pages of a window follow each other, and each keeps its place', () => {
  const pages = new MessagePages();
  const place = (physical: number, window: bigint) => pages.place(physical, window).iova;
  expect(place(0x809_0000, 0x800_0000n)).toBe(0x800_0000n);
  expect(place(0x80a_0000, 0x800_0000n)).toBe(0x800_1000n);
  expect(place(0x80a_0000, 0xfee0_0000n)).toBe(0xfee0_0000n);
  expect(place(0x809_0000, 0x800_0000n)).toBe(0x800_0000n);
  expect(pages.place(0x809_0000, 0x800_0000n)).toBe(pages.place(0x809_0000, 0x800_0000n));
});
