/** How numbers look in the reasons of refused calls. */

export const hex = (value: bigint | number): string => `0x${value.toString(16)}`;

/** Both bounds inclusive. */
export const range = (start: bigint, last: bigint): string => `[${hex(start)}, ${hex(last)}]`;
