import { describe, expect, it } from 'vitest';
import { machineSchema, parseMachine, smmuName, streamOf } from './machine-description.ts';
import { DEFAULT_PRESET, PRESETS, preset } from './presets.ts';

/** two-smmus with a change. */
type Changes = (machine: {
  memory?: Record<string, unknown>;
  iommus: Record<string, unknown>[];
  functions: Record<string, unknown>[];
  [key: string]: unknown;
}) => void;

function mistake(change: Changes): string {
  const machine = structuredClone(preset('two-smmus').machine) as never;
  change(machine);
  try {
    parseMachine(machine);
  } catch (error) {
    return (error as Error).message;
  }
  return 'no mistake';
}

describe('a machine description', () => {
  it('gets defaults for what it leaves out', () => {
    const machine = parseMachine({ iommus: [{ type: 'smmuv3', address: '0x2b400000' }], functions: [] });
    expect(machine.memory).toEqual({ hostRamGiB: 1, pageKiB: 4 });
    expect(machine.iommus[0]).toMatchObject({ oas: 48, granules: [4, 16, 64], ats: true, vmid16: true });
    expect(machine.policy).toEqual({ vmid: 'per-viommu', oneViommuPerPiommu: false, memlock: 'counted' });
  });

  it('names an SMMU by its address as Linux does', () => {
    expect(smmuName({ address: '0x2b400000' })).toBe('smmu3.0x000000002b400000');
  });

  it('takes the BDF for a StreamID unless told otherwise', () => {
    const [first] = parseMachine(preset('two-smmus').machine).functions;
    expect(streamOf(first!)).toBe(0x100);
    expect(streamOf({ ...first!, bdf: '0001:02:03.4' })).toBe(0x1021c);
    expect(streamOf({ ...first!, streamId: 7 })).toBe(7);
  });

  it.each<[string, Changes]>([
    ['iommus[1].oas: 45 found, expected one of 32, 36, 40, 42, 44, 48, 52', (m) => (m.iommus[1]!.oas = 45)],
    ['iommus[0].granules: [4,4] found, expected each granule once', (m) => (m.iommus[0]!.granules = [4, 4])],
    ['iommus[0].vmidBits: 9 found, expected at most 8 when vmid16 is false', (m) => (m.iommus[0]!.vmidBits = 9)],
    [
      'policy.vmidOverride: 300 found, expected at most 255 (vmid16 of smmu3.0x000000002b400000)',
      (m) => (m.policy = { vmidOverride: 300 }),
    ],
    [
      'iommus[0].msiWindow: 0x8001000 found, expected a multiple of 0x100000',
      (m) => (m.iommus[0]!.msiWindow = '0x8001000'),
    ],
    [
      'iommus[1].address: 0x8080000 found, expected 0x20000 bytes clear of those of the MSI doorbell',
      (m) => (m.iommus[1]!.address = '0x8080000'),
    ],
    ['iommus[0].stallModel: 3 found, expected one of 0, 1, 2', (m) => (m.iommus[0]!.stallModel = 3)],
    ['iommus[0].sidSize: 33 found, expected at most 32', (m) => (m.iommus[0]!.sidSize = 33)],
    ['iommus[0].sidSize: 1.5 found, expected a whole number', (m) => (m.iommus[0]!.sidSize = 1.5)],
    ['iommus[0].ats: "yes" found, expected a boolean', (m) => (m.iommus[0]!.ats = 'yes')],
    ['iommus[0].type: "smmuv2" found, expected "smmuv3"', (m) => (m.iommus[0]!.type = 'smmuv2')],
    ['functions[1].bdf: nothing found, expected a string', (m) => delete m.functions[1]!.bdf],
    [
      'functions[1].bdf: "2:0.0" found, expected a PCI address such as "0000:01:00.0"',
      (m) => (m.functions[1]!.bdf = '2:0.0'),
    ],
    [
      'functions[1].bdf: "0000:00:01.0" found, expected a bus above 00, where the root ports are',
      (m) => (m.functions[1]!.bdf = '0000:00:01.0'),
    ],
    [
      'functions[1].bdf: "0000:01:00.0" found, expected another one than functions[0] has',
      (m) => (m.functions[1]!.bdf = '0000:01:00.0'),
    ],
    [
      'functions[0].iommu: "smmu9" found, expected one of smmu3.0x000000002b400000, smmu3.0x000000002b500000',
      (m) => (m.functions[0]!.iommu = 'smmu9'),
    ],
    [
      'functions[1].streamId: 256 found, expected another one than functions[0] has',
      (m) => Object.assign(m.functions[1]!, { iommu: m.functions[0]!.iommu, streamId: 256 }),
    ],
    [
      'functions[0].streamId: 256 found, expected one below 2^8 (sidSize of smmu3.0x000000002b400000)',
      (m) => (m.iommus[0]!.sidSize = 8),
    ],
    [
      'functions[0].pri: true found, expected false when ats is false',
      (m) => Object.assign(m.functions[0]!, { pri: true, ats: false }),
    ],
    ['iommus[0].pri: true found, expected false when ats is false', (m) => (m.iommus[0]!.ats = false)],
    [
      'iommus[1].address: 0x2b400000 found, expected 0x20000 bytes clear of those of iommus[0]',
      (m) => (m.iommus[1]!.address = '0x2b400000'),
    ],
    [
      'iommus[0].cmdqv.address: 0x2b3f0000 found, expected 0x830000 bytes clear of those of iommus[0]',
      (m) => (m.iommus[0]!.cmdqv = { address: '0x2b3f0000' }),
    ],
    [
      'iommus[1].address: 0x2b500000 found, expected 0x20000 bytes clear of those of iommus[0]',
      (m) => (m.iommus[0]!.cmdqv = { address: '0x2b480000', log2Vintfs: 3 }),
    ],
    [
      'iommus[0].cmdqv.address: 0x2b601000 found, expected a multiple of 0x10000 below 0x40000000',
      (m) => (m.iommus[0]!.cmdqv = { address: '0x2b601000' }),
    ],
    [
      'iommus[0].cmdqv.address: 0x3ff00000 found, expected a multiple of 0x10000 below 0x40000000',
      (m) => (m.iommus[0]!.cmdqv = { address: '0x3ff00000' }),
    ],
    [
      'iommus[0].cmdqv.log2Vcmdqs: 5 found, expected at least log2Vintfs, 6',
      (m) => (m.iommus[0]!.cmdqv = { address: '0x2c000000', log2Vcmdqs: 5 }),
    ],
    [
      'iommus[0].cmdqv.log2Sids: 5 found, expected at most 4',
      (m) => (m.iommus[0]!.cmdqv = { address: '0x2c000000', log2Sids: 5 }),
    ],
    [
      'iommus[1].address: 0x2b401000 found, expected a multiple of 0x20000 below 0x40000000',
      (m) => (m.iommus[1]!.address = '0x2b401000'),
    ],
    [
      'memory.hostRamGiB: 9 found, expected at most 2 when an oas is 32',
      (m) => {
        m.memory = { hostRamGiB: 9 };
        m.iommus[0]!.oas = 32;
      },
    ],
    ['colour: unknown key, expected one of $schema, memory, iommus, functions, policy', (m) => (m.colour = 'red')],
    ['iommus: [] found, expected at least 1 of them', (m) => m.iommus.splice(0)],
  ])('answers a mistake with: %s', (sentence, change) => {
    expect(mistake(change)).toBe(sentence);
  });

  it('names an unknown key in a list, and what there is instead', () => {
    expect(mistake((m) => (m.functions[0]!.speed = 3))).toMatch(
      /^functions\[0\]\.speed: unknown key, expected one of bdf, iommu, model,/,
    );
  });

  it('that is no object at all is refused in a sentence too', () => {
    expect(() => parseMachine(7)).toThrow('machine: 7 found, expected an object');
    expect(() => parseMachine(undefined)).toThrow('machine: nothing found, expected an object');
  });

  it('has a JSON schema in which only what has no default is required', () => {
    const schema = machineSchema() as {
      required: string[];
      properties: Record<string, { items?: { required: string[] } }>;
    };
    expect(schema.required.sort()).toEqual(['functions', 'iommus']);
    expect(schema.properties.functions!.items!.required.sort()).toEqual(['bdf', 'iommu']);
    expect(JSON.parse(JSON.stringify(schema))).toEqual(schema);
  });
});

describe('presets', () => {
  it.each(Object.keys(PRESETS))('%s is a valid machine', (name) => {
    expect(() => parseMachine(preset(name).machine)).not.toThrow();
  });

  it('put a device behind each of two SMMUs by default', () => {
    const machine = parseMachine(preset(DEFAULT_PRESET).machine);
    expect(machine.functions.map(({ bdf, iommu, model, ats }) => [bdf, iommu, model, ats])).toEqual([
      ['0000:01:00.0', 'smmu3.0x000000002b400000', 'ioat', true],
      ['0000:02:00.0', 'smmu3.0x000000002b500000', 'ioat', true],
    ]);
  });

  it('answer an unknown name with those that there are', () => {
    expect(() => preset('hopper')).toThrow(
      'machine: "hopper" found, expected one of two-smmus, two-smmus-fragmented, two-smmus-nvme, two-smmus-nvme-x86, ',
    );
    expect(() => preset('toString')).toThrow('expected one of');
  });
});
