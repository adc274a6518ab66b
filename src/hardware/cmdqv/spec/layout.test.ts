/** Layouts against numbers that drivers of this hardware have, written here as values: offset, then bits [high, low]. */
import { describe, expect, it } from 'vitest';
import type { Field } from '../../smmuv3/spec/field.ts';
import { CONFIG_REGISTERS, PAGE0, PAGE1, type RegisterSpec, VINTF } from './registers.ts';

const place = (f: Field): [number, number] => {
  const low = f.word * 32 + f.shift;
  return [low + f.width - 1, low];
};

const { CONFIG, PARAM, STATUS, VI_ERR_MAP, VI_INT_MASK, CMDQ_ERR_MAP, CMDQ_ALLOC_MAP } = CONFIG_REGISTERS;

const OFFSETS: Array<[string, RegisterSpec, number, number]> = [
  ['CONFIG', CONFIG, 0x0, 1],
  ['PARAM', PARAM, 0x4, 1],
  ['STATUS', STATUS, 0x8, 1],
  ['VI_ERR_MAP', VI_ERR_MAP, 0x14, 2],
  ['VI_INT_MASK', VI_INT_MASK, 0x1c, 2],
  ['CMDQ_ERR_MAP', CMDQ_ERR_MAP, 0x24, 4],
  ['CMDQ_ALLOC_MAP', CMDQ_ALLOC_MAP, 0x200, 128],
  ['VINTF CONFIG', VINTF.CONFIG, 0x0, 1],
  ['VINTF STATUS', VINTF.STATUS, 0x4, 1],
  ['VINTF SID_MATCH', VINTF.SID_MATCH, 0x40, 16],
  ['VINTF SID_REPLACE', VINTF.SID_REPLACE, 0x80, 16],
  ['VINTF LVCMDQ_ERR_MAP', VINTF.LVCMDQ_ERR_MAP, 0xc0, 4],
  ['CONS_INDX', PAGE0.CONS_INDX, 0x0, 1],
  ['PROD_INDX', PAGE0.PROD_INDX, 0x4, 1],
  ['VCMDQ CONFIG', PAGE0.CONFIG, 0x8, 1],
  ['VCMDQ STATUS', PAGE0.STATUS, 0xc, 1],
  ['GERROR', PAGE0.GERROR, 0x10, 1],
  ['GERRORN', PAGE0.GERRORN, 0x14, 1],
  ['BASE', PAGE1.BASE, 0x0, 2],
  ['CONS_INDX_BASE_DRAM', PAGE1.CONS_INDX_BASE_DRAM, 0x8, 2],
];

const FIELDS: Array<[string, Field, [number, number]]> = [
  ['CONFIG.CMDQV_EN', CONFIG.fields.CMDQV_EN, [0, 0]],
  ['PARAM.CMDQV_VER', PARAM.fields.CMDQV_VER, [3, 0]],
  ['PARAM.CMDQV_NUM_CMDQ_LOG2', PARAM.fields.CMDQV_NUM_CMDQ_LOG2, [7, 4]],
  ['PARAM.CMDQV_NUM_VI_LOG2', PARAM.fields.CMDQV_NUM_VI_LOG2, [11, 8]],
  ['PARAM.CMDQV_NUM_SID_PER_VI_LOG2', PARAM.fields.CMDQV_NUM_SID_PER_VI_LOG2, [15, 12]],
  ['CMDQ_ALLOC_MAP.ALLOC', CMDQ_ALLOC_MAP.fields.ALLOC, [0, 0]],
  ['CMDQ_ALLOC_MAP.LVCMDQ', CMDQ_ALLOC_MAP.fields.LVCMDQ, [7, 1]],
  ['CMDQ_ALLOC_MAP.VIRT_INTF_INDX', CMDQ_ALLOC_MAP.fields.VIRT_INTF_INDX, [20, 15]],
  ['VINTF CONFIG.ENABLE', VINTF.CONFIG.fields.ENABLE, [0, 0]],
  ['VINTF CONFIG.VMID', VINTF.CONFIG.fields.VMID, [16, 1]],
  ['VINTF CONFIG.HYP_OWN', VINTF.CONFIG.fields.HYP_OWN, [17, 17]],
  ['VINTF STATUS.ENABLE_OK', VINTF.STATUS.fields.ENABLE_OK, [0, 0]],
  ['VINTF STATUS.STATUS', VINTF.STATUS.fields.STATUS, [3, 1]],
  ['VINTF STATUS.VI_NUM_LVCMDQ', VINTF.STATUS.fields.VI_NUM_LVCMDQ, [23, 16]],
  ['SID_MATCH.VIRT_SID', VINTF.SID_MATCH.fields.VIRT_SID, [20, 1]],
  ['SID_REPLACE.PHYS_SID', VINTF.SID_REPLACE.fields.PHYS_SID, [19, 0]],
  ['CONS_INDX.RD', PAGE0.CONS_INDX.fields.RD, [19, 0]],
  ['CONS_INDX.ERR', PAGE0.CONS_INDX.fields.ERR, [30, 24]],
  ['GERROR.CMDQ_INIT_ERR', PAGE0.GERROR.fields.CMDQ_INIT_ERR, [2, 2]],
  ['BASE.LOG2SIZE', PAGE1.BASE.fields.LOG2SIZE, [4, 0]],
  ['BASE.ADDR', PAGE1.BASE.fields.ADDR, [47, 5]],
];

describe('registers of a CMDQV', () => {
  it.each(OFFSETS)('%s is at its offset', (_name, { offset, words }, expected, count) => {
    expect([offset, words]).toEqual([expected, count]);
  });

  it.each(FIELDS)('%s has its bits', (_name, field, expected) => {
    expect(place(field)).toEqual(expected);
  });
});
