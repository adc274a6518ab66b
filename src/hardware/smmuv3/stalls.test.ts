/** Stalls (IHI 0070, 3.12.2, 4.7, 5.5, 7.2.1). */
import { describe, expect, it } from 'vitest';
import {
  ABORTED,
  ATS_SUCCESS,
  DISCARDED,
  NO_SUBSTREAM,
  READ,
  type Requester,
  STALLED,
  TRANSLATED,
  WRITE,
} from '../iommu.ts';
import type { SmmuSettings } from './settings.ts';
import { CMD_CFGI_CD, CMD_RESUME, CMD_STALL_TERM, CMD_TLBI_NH_ALL } from './spec/commands.ts';
import { at, QUEUE_LOG2, Rig, S1_LEAF } from './test-rig.ts';

const BOTH = { stallModel: 0 } as const;
const FORCED = { stallModel: 2 } as const;
const SIZE = 2 ** QUEUE_LOG2;

/** A client device with one transaction at a time, which it sends again when it is told to. */
class Client implements Requester {
  readonly told: boolean[] = [];
  readonly discarded: boolean[] = [];

  stallEnded(retry: boolean, discarded = false): void {
    this.told.push(retry);
    this.discarded.push(discarded);
  }
}

function send(rig: Rig, stream: number, frame: number, client: Client | null, access = READ, substream = NO_SUBSTREAM) {
  return rig.smmu.translate(stream, substream, frame, 0x123, access, client);
}

/** Stream 1 with a stage 1 that stalls. */
function stalling(settings: Partial<SmmuSettings> = BOTH, cd = {}) {
  const rig = new Rig(settings);
  const { root, cd: context } = rig.stage1Stream(1, { S: 1, ...cd });
  return { rig, root, context, client: new Client() };
}

const resume = (rig: Rig, StreamID: number, STAG: number, Action: 0 | 1): void =>
  rig.command(CMD_RESUME, { StreamID, STAG, Action, Abort: 1 - Action });

describe('ID registers', () => {
  it.each([
    [0, 0b00, 256],
    [1, 0b01, 0],
    [2, 0b10, 256],
  ] as const)('show stall model %i, and how many transactions may be stalled', (stallModel, model, most) => {
    const rig = new Rig({ stallModel });
    expect([(rig.get('IDR0') >>> 24) & 3, rig.get('IDR5') >>> 16]).toEqual([model, most]);
  });
});

describe('configurations that are ILLEGAL (5.5)', () => {
  it.each([
    ['S with terminate only', { stallModel: 1 }, 1, 0, 'C_BAD_CD'],
    ['S under S1STALLD', BOTH, 1, 1, 'C_BAD_CD'],
    ['no S where stalls are forced', FORCED, 0, 0, 'C_BAD_CD'],
    ['S1STALLD with terminate only', { stallModel: 1 }, 0, 1, 'C_BAD_STE'],
    ['S1STALLD where stalls are forced', FORCED, 1, 1, 'C_BAD_STE'],
  ] as const)('of stage 1: %s', (_what, settings, S, S1STALLD, name) => {
    const rig = new Rig(settings);
    rig.stage1Stream(1, { S }, { S1STALLD });
    const client = new Client();
    expect(send(rig, 1, 5, client)).toBe(ABORTED);
    expect(rig.events()).toMatchObject([{ name }]);
  });

  it.each([
    ['S2S with terminate only', { stallModel: 1 }, 1],
    ['no S2S where stalls are forced', FORCED, 0],
  ] as const)('of stage 2: %s', (_what, settings, S2S) => {
    const rig = new Rig(settings);
    rig.stage2Stream(1, { S2S });
    expect(send(rig, 1, 5, new Client())).toBe(ABORTED);
    expect(rig.events()).toMatchObject([{ name: 'C_BAD_STE' }]);
  });

  it('do not include S1STALLD where it keeps a stage 1 from stalling', () => {
    const rig = new Rig(BOTH);
    rig.stage1Stream(1, {}, { S1STALLD: 1 });
    expect(send(rig, 1, 5, new Client())).toBe(ABORTED);
    expect(rig.events()).toMatchObject([{ name: 'F_TRANSLATION', Stall: 0 }]);
  });
});

describe('a fault of a stage that stalls', () => {
  it.each([BOTH, FORCED])(
    'is recorded with Stall and a tag, whatever R says, and has no answer yet (%o)',
    (settings) => {
      const { rig, client } = stalling(settings, { R: 0 });
      expect(send(rig, 1, 5, client, WRITE)).toBe(STALLED);
      expect(rig.events()).toEqual([
        expect.objectContaining({
          name: 'F_TRANSLATION',
          stream: 1,
          Stall: 1,
          STAG: 0,
          RnW: 0,
          S2: 0,
          InputAddr: 0x5123n,
        }),
      ]);
      expect(client.told).toEqual([]);
    },
  );

  it('is one of the four that concern translation: others end at once', () => {
    const { rig, context, client } = stalling();
    rig.cd(context, { V: 0 });
    expect(send(rig, 1, 5, client)).toBe(ABORTED);
    expect(rig.events()).toMatchObject([{ name: 'C_BAD_CD' }]);
  });

  it('of stage 2 stalls by S2S alone, also under a stage 1 that does not', () => {
    const rig = new Rig(BOTH);
    const { root, second } = rig.nestedStream(1, {}, { S2S: 1, S2R: 0 });
    rig.map(root, 5, S1_LEAF | at(0x50000));
    rig.map(second, 0x50000, 0n);
    expect(send(rig, 1, 5, new Client())).toBe(STALLED);
    expect(send(rig, 1, 6, new Client())).toBe(ABORTED);
    expect(rig.events()).toMatchObject([
      { name: 'F_ACCESS', Stall: 1, S2: 1, CLASS: 0b10 },
      { name: 'F_TRANSLATION', Stall: 0, S2: 0 },
    ]);
  });

  it('of stage 2 on the way to a CD stalls, too', () => {
    const rig = new Rig(BOTH);
    const { second, cd } = rig.nestedStream(1, {}, { S2S: 1 });
    rig.map(second, cd, 0n, 1);
    const client = new Client();
    expect(send(rig, 1, 5, client)).toBe(STALLED);
    expect(rig.events()).toMatchObject([{ name: 'F_ACCESS', Stall: 1, S2: 1, CLASS: 0b00 }]);
  });

  it('ends, and says so, when the device was not offered for stalls', () => {
    const { rig } = stalling(BOTH, { R: 0 });
    expect(send(rig, 1, 5, null)).toBe(ABORTED);
    expect(rig.events()).toMatchObject([{ name: 'F_TRANSLATION', Stall: 0 }]);
  });

  it('does not stall a translation request, which gets no access', () => {
    const rig = new Rig(BOTH);
    rig.stage1Stream(1, { S: 1 }, { EATS: 1 });
    expect([rig.smmu.atsRequest(1, NO_SUBSTREAM, 5, READ), rig.smmu.outPermissions]).toEqual([ATS_SUCCESS, 0]);
    expect(rig.events()).toEqual([]);
  });

  it('does not stall an address beyond what bypassed stage 1 may have', () => {
    const rig = new Rig(BOTH);
    rig.stage1Stream(1, { S: 1 }, { S1CDMax: 1, S1DSS: 1 });
    expect(send(rig, 1, 2 ** 40, new Client())).toBe(ABORTED);
  });
});

describe('CMD_RESUME', () => {
  it('has the transaction sent again, with what is configured then', () => {
    const { rig, root, client } = stalling();
    send(rig, 1, 5, client);
    rig.map(root, 5, S1_LEAF | at(0x77));
    resume(rig, 1, 0, 1);
    expect(client.told).toEqual([true]);
    expect([send(rig, 1, 5, client), rig.smmu.outFrame]).toEqual([TRANSLATED, 0x77]);
  });

  it('ends it with an abort', () => {
    const { rig, client } = stalling();
    send(rig, 1, 5, client);
    resume(rig, 1, 0, 0);
    expect(client.told).toEqual([false]);
  });

  it.each([
    ['another stream', 2, 0],
    ['a tag that is free', 1, 1],
    ['a tag that does not exist', 1, 0xffff],
  ])('does nothing for %s', (_what, stream, tag) => {
    const { rig, client } = stalling();
    send(rig, 1, 5, client);
    resume(rig, stream, tag, 0);
    expect([client.told, rig.get('GERROR')]).toEqual([[], 0]);
    resume(rig, 1, 0, 0);
    resume(rig, 1, 0, 1);
    expect(client.told).toEqual([false]);
  });

  it('frees the tag, which is not given again at once', () => {
    const { rig } = stalling();
    const tags = (count: number) => {
      for (let n = 0; n < count; n++) send(rig, 1, 5, new Client());
      return rig.events().map(({ STAG }) => STAG);
    };
    expect(tags(2)).toEqual([0, 1]);
    resume(rig, 1, 0, 0);
    expect(tags(1)).toEqual([2]);
  });

  it('tells nobody when the device has withdrawn; the tag is taken until then', () => {
    const { rig, client } = stalling({ ...BOTH, stallMax: 1 });
    send(rig, 1, 5, client);
    rig.smmu.withdraw(client);
    const next = new Client();
    send(rig, 1, 5, next);
    expect(rig.events()).toHaveLength(1);
    resume(rig, 1, 0, 1);
    expect([client.told, next.told]).toEqual([[], [true]]);
  });
});

describe('termination RAZ/WI (CD.A = 0, CMD_RESUME.Ab = 0)', () => {
  const EITHER = { termModel: 0 } as const;

  it('is illegal where the SMMU only aborts', () => {
    const rig = new Rig();
    rig.stage1Stream(1, { A: 0 });
    expect(send(rig, 1, 5, null)).toBe(ABORTED);
    expect(rig.events()).toMatchObject([{ name: 'C_BAD_CD' }]);
  });

  it.each([
    [1, 1, ABORTED, 1],
    [1, 0, ABORTED, 0],
    [0, 1, DISCARDED, 1],
    [0, 0, DISCARDED, 0],
  ])('ends a fault of stage 1 by A = %i, R = %i', (A, R, outcome, records) => {
    const rig = new Rig(EITHER);
    rig.stage1Stream(1, { A, R });
    expect([send(rig, 1, 5, new Client()), rig.events().length]).toEqual([outcome, records]);
  });

  it('is no answer to faults of stage 2 or of the configuration, nor for what should have stalled and could not', () => {
    const rig = new Rig({ ...EITHER, ...BOTH });
    const { root } = rig.nestedStream(1, { A: 0 });
    rig.map(root, 5, S1_LEAF | at(2 ** 30));
    rig.stage1Stream(2, { A: 0, S: 1 });
    rig.stage1Stream(3, { A: 0, V: 0 });
    expect([1, 2, 3].map((stream) => send(rig, stream, 5, null))).toEqual([ABORTED, ABORTED, ABORTED]);
  });

  it.each([
    [1, 1, 0],
    [0, 0, 1],
    [0, 1, 0],
  ])('with TERM_MODEL = %i and Ab = %i is%s what CMD_RESUME means', (termModel, Abort, discarded) => {
    const { rig, client } = stalling({ ...BOTH, termModel: termModel as 0 | 1 });
    send(rig, 1, 5, client);
    rig.command(CMD_RESUME, { StreamID: 1, STAG: 0, Action: 0, Abort });
    expect([client.told, client.discarded]).toEqual([[false], [discarded === 1]]);
  });
});

describe('CMD_STALL_TERM', () => {
  it('ends all that is stalled of one stream', () => {
    const { rig } = stalling();
    rig.stage1Stream(2, { S: 1, ASID: 2 });
    const clients = [1, 1, 2].map((stream) => {
      const client = new Client();
      send(rig, stream, 5, client);
      return client;
    });
    rig.command(CMD_STALL_TERM, { StreamID: 1 });
    expect(clients.map(({ told }) => told)).toEqual([[false], [false], []]);
    resume(rig, 2, 2, 1);
    expect(clients[2]!.told).toEqual([true]);
  });

  it('ends what is held back without a record, which then never comes', () => {
    const { rig } = stalling({ ...BOTH, stallMax: 1 });
    const clients = [new Client(), new Client()];
    for (const client of clients) send(rig, 1, 5, client);
    rig.command(CMD_STALL_TERM, { StreamID: 1 });
    expect(clients.map(({ told }) => told)).toEqual([[false], [false]]);
    expect(rig.events()).toHaveLength(1);
  });
});

describe('stalled transactions', () => {
  it('are ended by SMMUEN = 0, and their tags are free', () => {
    const { rig, client } = stalling({ ...BOTH, stallMax: 1 });
    send(rig, 1, 5, client);
    rig.set('CR0', 0b11110);
    expect(client.told).toEqual([false]);
    rig.set('CR0', 0b11111);
    rig.events();
    send(rig, 1, 5, client);
    expect(rig.events()).toMatchObject([{ Stall: 1, STAG: 0 }]);
  });

  it('do not care for invalidations (4.3)', () => {
    const { rig, client } = stalling();
    send(rig, 1, 5, client);
    rig.command(CMD_CFGI_CD, { StreamID: 1 });
    rig.command(CMD_TLBI_NH_ALL);
    expect(client.told).toEqual([]);
  });

  it('are never lost: without room for the record they are sent again when there is some (7.2.1)', () => {
    const { rig } = stalling();
    for (let n = 0; n < SIZE; n++) send(rig, 0xff, 1, null);
    const client = new Client();
    expect(send(rig, 1, 5, client)).toBe(STALLED);
    // A stall is no event that is lost: no overflow (7.4).
    expect(rig.get('EVENTQ_PROD') >>> 31).toBe(0);
    expect(client.told).toEqual([]);
    expect(rig.events()).toHaveLength(SIZE);
    expect(client.told[0]).toBe(true);
    expect(send(rig, 1, 5, client)).toBe(STALLED);
    expect(rig.events()).toMatchObject([{ Stall: 1, STAG: 0 }]);
  });

  it('wait for the event queue to be enabled', () => {
    const { rig, client } = stalling();
    rig.set('CR0', 0b11011);
    expect(send(rig, 1, 5, client)).toBe(STALLED);
    rig.set('CR0', 0b11111);
    expect(client.told).toEqual([true]);
  });

  it('are no more than STALL_MAX: others are sent again when a tag is free', () => {
    const { rig } = stalling({ ...BOTH, stallMax: 2 });
    const clients = Array.from({ length: 4 }, () => new Client());
    for (const client of clients.slice(0, 2)) expect(send(rig, 1, 5, client)).toBe(STALLED);
    expect(rig.events().map(({ STAG }) => STAG)).toEqual([0, 1]);
    for (const client of clients.slice(2)) expect(send(rig, 1, 5, client)).toBe(STALLED);
    expect(clients.map(({ told }) => told.length)).toEqual([0, 0, 0, 0]);
    resume(rig, 1, 1, 0);
    expect(clients.map(({ told }) => told.length)).toEqual([0, 1, 1, 1]);
  });
});
