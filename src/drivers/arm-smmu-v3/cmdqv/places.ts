/** Where in the register block of a CMDQV a virtual interface and its queues have their registers. */
import {
  CONFIG_REGISTERS,
  PAGE_BYTES,
  PAGE0,
  PAGE1,
  VCMDQ_BYTES,
  VINTF,
  VINTF_BYTES,
  VINTF_PAGES,
  VINTF_REGISTERS,
} from '../../../hardware/cmdqv/spec/registers.ts';

/** The same register `bytes` further on. */
const moved = <R extends { readonly offset: number }>(register: R, bytes: number): R => ({
  ...register,
  offset: register.offset + bytes,
});

/** The `n`-th of registers in a row. */
const nth = <R extends { readonly offset: number }>(register: R, n: number): R => moved(register, 4 * n);

/** Page 0 of an interface: what its owner has of it. */
export const page0Of = (vintf: number): number => VINTF_PAGES + 2 * PAGE_BYTES * vintf;

export function interfaceRegisters(vintf: number) {
  const at = VINTF_REGISTERS + VINTF_BYTES * vintf;
  return {
    config: moved(VINTF.CONFIG, at),
    status: moved(VINTF.STATUS, at),
    sidMatch: (slot: number) => nth(moved(VINTF.SID_MATCH, at), slot),
    sidReplace: (slot: number) => nth(moved(VINTF.SID_REPLACE, at), slot),
    errorMap: [0, 1, 2, 3].map((word) => nth(moved(VINTF.LVCMDQ_ERR_MAP, at), word)),
  };
}

/** By the logical index of the queue, so that they are there only while the queue is allocated to the interface. */
export function queueRegisters(vintf: number, logical: number) {
  const at = page0Of(vintf) + VCMDQ_BYTES * logical;
  return {
    base: moved(PAGE1.BASE, at + PAGE_BYTES),
    consBase: moved(PAGE1.CONS_INDX_BASE_DRAM, at + PAGE_BYTES),
    cons: moved(PAGE0.CONS_INDX, at),
    prod: moved(PAGE0.PROD_INDX, at),
    config: moved(PAGE0.CONFIG, at),
    status: moved(PAGE0.STATUS, at),
    gerror: moved(PAGE0.GERROR, at),
    gerrorn: moved(PAGE0.GERRORN, at),
  };
}

/** Whose the VCMDQ with this global index is. */
export const allocation = (vcmdq: number) => nth(CONFIG_REGISTERS.CMDQ_ALLOC_MAP, vcmdq);
