/**
 * A machine as a JSON document: its memory, its IOMMUs, its PCI functions. parseMachine() fills in defaults and answers a
 * mistake with one sentence that names the key, what was found, and what was expected.
 */
import { z } from 'zod';
import { DEFAULT_CMDQV_SETTINGS } from '../hardware/cmdqv/settings.ts';
import { FUNCTION_KINDS } from '../hardware/pci/function-kinds.ts';
import { DEFAULT_SETTINGS } from '../hardware/smmuv3/settings.ts';
import { sharesGroup } from './iommu-groups.ts';
import { firstMistake, type JsonSchema, MachineError } from './machine-error.ts';
import { WINDOW_BYTES } from './message-window.ts';
import { parseBdf, requesterOf } from './pci-address.ts';
import { physicalLayout } from './physical-layout.ts';
import { checkRegisterBlocks } from './register-blocks.ts';

const flag = (value: boolean, text: string) => z.boolean().default(value).describe(text);
const whole = (low: number, high: number, value: number, text: string) =>
  z.int().min(low).max(high).default(value).describe(text);

/** Cache capacities are powers of two. */
const capacity = (value: number, text: string) =>
  z
    .literal(Array.from({ length: 21 }, (_, log2) => 2 ** log2))
    .default(value)
    .describe(text);

const address = z.string().regex(/^0x[0-9a-f]{1,8}$/, 'a hexadecimal address below 4 GiB such as "0x2b400000"');
const bdf = z.string().regex(/^[0-9a-f]{4}:[0-9a-f]{2}:[01][0-9a-f]\.[0-7]$/, 'a PCI address such as "0000:01:00.0"');

const Memory = z.strictObject({
  hostRamGiB: whole(1, 64, 1, "RAM for the host's own tables, in GiB"),
  fragmentSeed: z.int().optional().describe('shuffles the physical pages of programs; contiguous when absent'),
  pageKiB: z
    .literal([4, 2048, 1048576])
    .default(4)
    .describe('size of those pages, in KiB: 4, or huge pages of 2 MiB or 1 GiB; each is contiguous in itself'),
});

const Cmdqv = z.strictObject({
  address: address.describe(
    'of its registers, a multiple of 0x10000; they take 0x30000 bytes, and 0x20000 for each VINTF',
  ),
  log2Vintfs: whole(
    0,
    6,
    DEFAULT_CMDQV_SETTINGS.log2Vintfs,
    "log2 of its virtual interfaces, the host's own among them",
  ),
  log2Vcmdqs: whole(0, 7, DEFAULT_CMDQV_SETTINGS.log2Vcmdqs, 'log2 of its queues, which the interfaces share equally'),
  log2Sids: whole(0, 4, DEFAULT_CMDQV_SETTINGS.log2Sids, 'log2 of the devices that an interface can tell apart'),
});

const Smmuv3 = z.strictObject({
  type: z.literal('smmuv3').describe('what it is'),
  address: address.describe(
    'of its registers, a multiple of 0x20000 below 0x40000000; gives it its name, as in /sys/class/iommu',
  ),
  vmidBits: z
    .int()
    .min(1)
    .max(16)
    .optional()
    .describe('a smaller VMID pool than the hardware has: 2^vmidBits - 1 VMIDs'),
  msiWindow: address
    .nullable()
    .default('0x8000000')
    .describe(
      'IOVAs where its functions find the MSI doorbell, mapped by the host: 1 MiB, a multiple of 0x100000; null when ' +
        'messages pass the IOMMU by, at 0xfee00000, as on x86',
    ),
  cmdqv: Cmdqv.optional().describe(
    'a Tegra241 CMDQV in front of it, as on Grace: command queues that guests write to without the host',
  ),
  s1p: flag(DEFAULT_SETTINGS.s1p, 'has stage 1 (IDR0.S1P)'),
  s2p: flag(DEFAULT_SETTINGS.s2p, 'has stage 2 (IDR0.S2P)'),
  granules: z
    .array(z.literal([4, 16, 64]))
    .min(1)
    .default([...DEFAULT_SETTINGS.granules])
    .describe('translation granules in KiB'),
  oas: z
    .literal([32, 36, 40, 42, 44, 48, 52])
    .default(DEFAULT_SETTINGS.oas)
    .describe('output address bits; every physical address of the machine lies below the smallest'),
  asid16: flag(DEFAULT_SETTINGS.asid16, '16-bit ASIDs instead of 8-bit ones'),
  vmid16: flag(DEFAULT_SETTINGS.vmid16, '16-bit VMIDs instead of 8-bit ones'),
  sidSize: whole(0, 32, DEFAULT_SETTINGS.sidSize, 'bits of a StreamID'),
  ssidSize: whole(0, 20, DEFAULT_SETTINGS.ssidSize, 'bits of a SubstreamID'),
  twoLevelStreamTable: flag(DEFAULT_SETTINGS.twoLevelStreamTable, 'takes two-level stream tables (IDR0.ST_LEVEL)'),
  twoLevelCdTable: flag(DEFAULT_SETTINGS.twoLevelCdTable, 'takes two-level tables of context descriptors (IDR0.CD2L)'),
  ril: flag(DEFAULT_SETTINGS.ril, 'range invalidation (IDR3.RIL)'),
  termModel: z
    .literal([0, 1])
    .default(DEFAULT_SETTINGS.termModel)
    .describe('IDR0.TERM_MODEL: what faults and ends aborts (1), or software may let it pass as though done (0)'),
  stallModel: z
    .literal([0, 1, 2])
    .default(DEFAULT_SETTINGS.stallModel)
    .describe('IDR0.STALL_MODEL: faulting transactions may stall (0), never stall (1), always stall (2)'),
  stallMax: whole(1, 0xffff, DEFAULT_SETTINGS.stallMax, 'transactions that are stalled at a time (IDR5.STALL_MAX)'),
  bbml: z.literal([0, 1, 2]).default(DEFAULT_SETTINGS.bbml).describe('level of break-before-make (IDR3.BBML)'),
  had: flag(DEFAULT_SETTINGS.had, 'CDs may switch hierarchical permissions off (IDR3.HAD)'),
  httu: z
    .literal([0, 1, 2])
    .default(DEFAULT_SETTINGS.httu)
    .describe('IDR0.HTTU: sets access flags (1), and dirty state too (2), which dirty tracking needs'),
  ats: flag(DEFAULT_SETTINGS.ats, 'devices may ask for translations and cache them (IDR0.ATS)'),
  pri: flag(DEFAULT_SETTINGS.pri, 'has a queue for page requests (IDR0.PRI); needs ats'),
  iotlbEntries: capacity(DEFAULT_SETTINGS.iotlbEntries, 'capacity of the IOTLB in entries, each a page or block'),
  steEntries: capacity(DEFAULT_SETTINGS.steEntries, 'capacity of the cache of stream table entries'),
  cdEntries: capacity(DEFAULT_SETTINGS.cdEntries, 'capacity of the cache of context descriptors'),
});

const Namespace = z.strictObject({
  sizeMiB: whole(1, 65536, 256, 'size of one in memory; it takes what is written'),
  file: z.string().min(1).optional().describe('a file that has the data, for a namespace of its size'),
  blockBytes: z.literal([512, 4096]).default(512).describe('bytes of a logical block'),
});

const PciFunction = z.strictObject({
  bdf: bdf.describe('its PCI address, on a bus above 00'),
  iommu: z.string().describe('name of the IOMMU in front of it: smmu3. and its address with 16 digits'),
  model: z
    .literal(Object.keys(FUNCTION_KINDS))
    .default('ioat')
    .describe(
      'what it does: a copy engine like that of Intel (IOAT), one that touches what it is told to, or a disk (NVMe)',
    ),
  streamId: z
    .int()
    .min(0)
    .max(2 ** 32 - 1)
    .optional()
    .describe('its number at the IOMMU; its BDF when absent'),
  ats: flag(true, 'has a translation cache of its own, and uses it when the IOMMU has ATS too'),
  pri: flag(false, 'can request pages that it finds not mapped (PRI); needs ats'),
  canStall: flag(
    false,
    'an integrated endpoint whose transactions may stall: the host then has its faults stall, where the SMMU can',
  ),
  pasidBits: whole(0, 20, 0, 'bits of a PASID; 0 without PASIDs'),
  msi: z
    .literal([0, 1, 2, 4, 8, 16, 32])
    .default(0)
    .describe('vectors of its MSI capability, beside MSI-X; 0 without one'),
  acs: flag(
    true,
    'as one of several functions of a device it has ACS, and an IOMMU group to itself; those without share one',
  ),
  mmap: flag(
    true,
    'programs may map its BARs: each load and store then traps; false for KVM, which cannot give a guest such memory',
  ),
  namespaces: z
    .array(Namespace)
    .min(1)
    .max(32)
    .optional()
    .describe('what an nvme function holds; one of 256 MiB in memory when absent'),
});

const Policy = z.strictObject({
  vmid: z
    .literal(['per-viommu', 'per-domain'])
    .default('per-viommu')
    .describe('who owns a VMID: each vIOMMU, or each stage 2 on each IOMMU'),
  vmidOverride: z
    .int()
    .min(1)
    .max(65535)
    .optional()
    .describe('every stage 2 gets this VMID, to show what then goes wrong'),
  oneViommuPerPiommu: flag(false, 'a program may have one vIOMMU on each IOMMU only'),
  memlock: z
    .literal(['counted', 'enforced'])
    .default('counted')
    .describe('pinned pages only count (any user can run a VM), or RLIMIT_MEMLOCK holds for them as in a kernel'),
});

const Machine = z.strictObject({
  $schema: z.string().optional().describe('where editors find the schema; not looked at'),
  memory: Memory.prefault({}).describe('physical memory'),
  iommus: z.array(Smmuv3).min(1).describe('the IOMMUs, at least one'),
  functions: z
    .array(PciFunction)
    .describe('PCI functions in the order of their nodes: /dev/vfio/devices/vfio0, vfio1 ...'),
  policy: Policy.prefault({}).describe('choices of the host that Linux has made one way, or may make another'),
});

export type MachineDescription = z.output<typeof Machine>;
/** As a person writes it: everything with a default may be absent. */
export type MachineInput = z.input<typeof Machine>;
export type SmmuDescription = z.output<typeof Smmuv3>;
export type FunctionDescription = z.output<typeof PciFunction>;

/** The JSON schema of a machine description, for editors. */
export function machineSchema(): JsonSchema {
  const schema = z.toJSONSchema(Machine, { io: 'input' }) as JsonSchema;
  return { title: 'uiommufd machine', ...schema };
}

/** Name of an SMMU, as its driver registers it. */
export const smmuName = ({ address }: Pick<SmmuDescription, 'address'>): string =>
  `smmu3.0x${BigInt(address).toString(16).padStart(16, '0')}`;

/** StreamID of a function. */
export function streamOf(description: FunctionDescription): number {
  return description.streamId ?? requesterOf(parseBdf(description.bdf));
}

/** @throws MachineError with one sentence */
export function parseMachine(input: unknown): MachineDescription {
  const parsed = Machine.safeParse(input);
  if (!parsed.success) throw firstMistake(parsed.error, input, machineSchema());
  checkRegisterBlocks(parsed.data);
  checkIommus(parsed.data);
  checkFunctions(parsed.data);
  checkPolicy(parsed.data);
  physicalLayout(parsed.data);
  return parsed.data;
}

function checkIommus({ iommus }: MachineDescription): void {
  for (const [i, smmu] of iommus.entries()) {
    const { msiWindow, pri, ats, s1p, s2p, granules, cmdqv, vmidBits = 0 } = smmu;
    const key = `iommus[${i}]`;
    if (msiWindow !== null && Number(msiWindow) % WINDOW_BYTES) {
      throw new MachineError(`${key}.msiWindow: ${msiWindow} found, expected a multiple of 0x100000`);
    }
    if (cmdqv && cmdqv.log2Vcmdqs < cmdqv.log2Vintfs) {
      const { log2Vcmdqs, log2Vintfs } = cmdqv;
      throw new MachineError(
        `${key}.cmdqv.log2Vcmdqs: ${log2Vcmdqs} found, expected at least log2Vintfs, ${log2Vintfs}`,
      );
    }
    if (pri && !ats) throw new MachineError(`${key}.pri: true found, expected false when ats is false`);
    if (!s1p && !s2p) throw new MachineError(`${key}.s2p: false found, expected true when s1p is false`);
    if (new Set(granules).size < granules.length) {
      throw new MachineError(`${key}.granules: ${JSON.stringify(granules)} found, expected each granule once`);
    }
    if (vmidBits > hardwareVmidBits(smmu)) {
      throw new MachineError(`${key}.vmidBits: ${vmidBits} found, expected at most 8 when vmid16 is false`);
    }
  }
}

const hardwareVmidBits = ({ vmid16 }: SmmuDescription): number => (vmid16 ? 16 : 8);

function checkPolicy({ iommus, policy: { vmidOverride = 0 } }: MachineDescription): void {
  for (const smmu of iommus) {
    const last = 2 ** hardwareVmidBits(smmu) - 1;
    if (vmidOverride <= last) continue;
    const name = smmuName(smmu);
    throw new MachineError(`policy.vmidOverride: ${vmidOverride} found, expected at most ${last} (vmid16 of ${name})`);
  }
}

function checkFunctions({ iommus, functions }: MachineDescription): void {
  const names = iommus.map(smmuName);
  for (const [i, fn] of functions.entries()) {
    const key = `functions[${i}]`;
    const smmu = iommus[names.indexOf(fn.iommu)];
    if (!smmu) throw new MachineError(`${key}.iommu: "${fn.iommu}" found, expected one of ${names.join(', ')}`);
    if (parseBdf(fn.bdf).bus === 0) {
      throw new MachineError(`${key}.bdf: "${fn.bdf}" found, expected a bus above 00, where the root ports are`);
    }
    const twin = functions.findIndex(({ bdf: taken }) => taken === fn.bdf);
    if (twin < i)
      throw new MachineError(`${key}.bdf: "${fn.bdf}" found, expected another one than functions[${twin}] has`);
    const stream = streamOf(fn);
    if (stream >= 2 ** smmu.sidSize) {
      throw new MachineError(
        `${key}.streamId: ${stream} found, expected one below 2^${smmu.sidSize} (sidSize of ${fn.iommu})`,
      );
    }
    const clash = functions.findIndex((other) => other.iommu === fn.iommu && streamOf(other) === stream);
    if (clash < i) {
      throw new MachineError(`${key}.streamId: ${stream} found, expected another one than functions[${clash}] has`);
    }
    if (fn.namespaces && fn.model !== 'nvme') {
      throw new MachineError(`${key}.namespaces: found, expected none when model is "${fn.model}"`);
    }
    const partner = functions.findIndex((other) => sharesGroup(other, fn));
    if (partner < i && functions[partner]!.iommu !== fn.iommu) {
      throw new MachineError(
        `${key}.iommu: "${fn.iommu}" found, expected that of functions[${partner}], whose group it shares without acs`,
      );
    }
    if (fn.pri && !fn.ats) throw new MachineError(`${key}.pri: true found, expected false when ats is false`);
  }
}
