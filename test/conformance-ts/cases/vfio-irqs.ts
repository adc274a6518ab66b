/** GET_IRQ_INFO and SET_IRQS, as vfio_pci_intrs.c of Linux 7.1 has them, and the interrupts themselves. */
import assert from 'node:assert/strict';
import { IrqInfo } from '../../../src/abi/vfio.ts';
import type { VfioDevice } from '../../../src/client/index.ts';
import type { EventFd } from '../event-fd.ts';
import type { Setting } from '../setting.ts';
import { bound } from '../smmu.ts';
import { casesOf, errnoOf } from '../suite.ts';
import { type AttachedDevice, attached, CLOSED, GROUPS, SMMU } from '../vfio.ts';

const [INTX, MSI, MSIX, ERR, REQ, IRQS] = [0, 1, 2, 3, 4, 5];
const [NONE, BOOL, EVENTFD, MASK, UNMASK, TRIGGER] = [1, 2, 4, 8, 16, 32];
const INDEX_NAMES = { [INTX]: 'INTx', [MSI]: 'MSI', [MSIX]: 'MSI-X', [ERR]: 'ERR', [REQ]: 'REQ' };
const NAMES = Object.entries(INDEX_NAMES).map(([index, name]) => [Number(index), name] as const);

const device = async (t: Setting): Promise<VfioDevice> => (await bound(t)).vfio;
const fds = (...numbers: number[]): Uint8Array => new Uint8Array(Int32Array.from(numbers).buffer);

interface Request {
  readonly index: number;
  readonly flags: number;
  readonly start?: number;
  readonly count?: number;
  readonly data?: Uint8Array;
}

const set = (vfio: VfioDevice, { data = new Uint8Array(), count = 1, ...values }: Request) =>
  vfio.setIrqs({ count, ...values }, { tail: data });
const setFds = (vfio: VfioDevice, index: number, start: number, ...numbers: number[]) =>
  set(vfio, { index, flags: EVENTFD | TRIGGER, start, count: numbers.length, data: fds(...numbers) });

/** An attached device with an eventfd at each of the first `count` interrupts of `index`. */
async function switchedOn(t: Setting, index: number, count = 1): Promise<AttachedDevice & { events: EventFd[] }> {
  const made = await attached(t);
  const events = Array.from({ length: count }, () => t.eventfd());
  await setFds(made.vfio, index, 0, ...events.map(({ fd }) => fd));
  return { ...made, events };
}

casesOf('VFIO_DEVICE_GET_IRQ_INFO', SMMU, ({ refuses, does }) => {
  refuses('EINVAL', 'an index beyond the last one', async (t) => {
    const vfio = await device(t);
    return () => vfio.getIrqInfo({ index: IRQS });
  });
  refuses('EFAULT', 'memory where it cannot write the answer', async (t) => {
    const vfio = await device(t);
    return () => vfio.getIrqInfo({}, t.unanswerable(IrqInfo, {}));
  });
  does('tells that all interrupts go to eventfds, and that INTx can be masked', async (t) => {
    const vfio = await device(t);
    assert.equal((await vfio.getIrqInfo({ index: INTX })).flags & 7, 7);
    assert.equal((await vfio.getIrqInfo({ index: MSIX })).flags & 7, 1);
    for (const index of [ERR, REQ]) assert.equal((await vfio.getIrqInfo({ index })).count, 1);
  });
  does('tells that messages and errors cannot be added one by one', async (t) => {
    const vfio = await device(t);
    for (const index of [MSI, ERR, REQ]) assert.equal((await vfio.getIrqInfo({ index })).flags, 1 | 8);
  });
});

casesOf('VFIO_DEVICE_GET_IRQ_INFO', GROUPS, ({ does }) => {
  does(
    'tells how many interrupts there are: four of MSI, none for a device that has neither a pin nor MSI',
    async (t) => {
      const counts = async (vfio: VfioDevice) =>
        Promise.all([INTX, MSI, ERR].map(async (index) => (await vfio.getIrqInfo({ index })).count));
      assert.deepEqual(await counts(await device(t)), [1, 4, 1]);
      assert.deepEqual(await counts((await bound(t, 2)).vfio), [0, 0, 1]);
    },
  );
});

casesOf('VFIO_DEVICE_SET_IRQS', SMMU, ({ refuses }) => {
  const refused = (what: string, values: Partial<Request>) =>
    refuses('EINVAL', what, async (t) => {
      const vfio = await device(t);
      return () => set(vfio, { index: MSIX, flags: EVENTFD | TRIGGER, ...values });
    });
  refused('an index beyond the last one', { index: IRQS });
  refused('a flag that is not known', { flags: EVENTFD | TRIGGER | (1 << 6) });
  refused('a start beyond the last interrupt', { start: 0x1000 });
  refused('more interrupts than there are', { count: 0x1000 });
  refused('a number of interrupts that overflows', { start: 1, count: 0xffff_ffff });
  refused('no type of data', { flags: TRIGGER });
  refused('two types of data', { flags: EVENTFD | BOOL | TRIGGER });
  refused('fewer data than interrupts', {});
  refused('no byte for a BOOL', { flags: BOOL | TRIGGER });
  refuses('EFAULT', 'data where there is no memory', async (t) => {
    const vfio = await device(t);
    const { address, bytes } = t.program.edge(20);
    bytes.set(new Uint8Array(Uint32Array.of(24, EVENTFD | TRIGGER, MSIX, 0, 1).buffer));
    return () => vfio.setIrqs({}, { address });
  });
  for (const [index, name] of NAMES) {
    refuses('EINVAL', `to raise ${name} when nothing is set`, async (t) => {
      const vfio = await device(t);
      return () => set(vfio, { index, flags: NONE | TRIGGER });
    });
    refuses('EINVAL', `to switch off ${name} that is not on`, async (t) => {
      const vfio = await device(t);
      return () => set(vfio, { index, flags: NONE | TRIGGER, count: 0 });
    });
    refuses('ENOTTY', `no action for ${name}`, async (t) => {
      const vfio = await device(t);
      return () => set(vfio, { index, flags: NONE });
    });
    refuses('ENOTTY', `two actions for ${name}`, async (t) => {
      const vfio = await device(t);
      return () => set(vfio, { index, flags: NONE | MASK | TRIGGER });
    });
    refuses('EBADF', `a descriptor that is not open for ${name}`, async (t) => {
      const { vfio } = await attached(t);
      return () => setFds(vfio, index, 0, CLOSED);
    });
    refuses('EINVAL', `a descriptor that is no eventfd for ${name}`, async (t) => {
      const { vfio } = await attached(t);
      return () => setFds(vfio, index, 0, vfio.fd);
    });
    refuses('EINVAL', `a descriptor of memory for ${name}`, async (t) => {
      const { vfio } = await attached(t);
      const { fd } = t.memfd();
      return () => setFds(vfio, index, 0, fd);
    });
    if (index === INTX) continue;
    for (const [action, what] of [
      [MASK, 'to mask'],
      [UNMASK, 'to unmask'],
    ] as const) {
      refuses('ENOTTY', `${what} ${name}`, async (t) => {
        const vfio = await device(t);
        return () => set(vfio, { index, flags: NONE | action });
      });
    }
  }
});

casesOf('VFIO_DEVICE_SET_IRQS', GROUPS, ({ refuses }) => {
  refuses('EINVAL', 'INTx of a device that has no pin', async (t) => {
    const { vfio } = await bound(t, 2);
    const { fd } = t.eventfd();
    return () => setFds(vfio, INTX, 0, fd);
  });
});

casesOf('VFIO_DEVICE_SET_IRQS of INTx', SMMU, ({ refuses, does }) => {
  for (const [action, what] of [
    [MASK, 'to mask'],
    [UNMASK, 'to unmask'],
  ] as const) {
    refuses('EINVAL', `${what} it when it is off`, async (t) => {
      const vfio = await device(t);
      return () => set(vfio, { index: INTX, flags: NONE | action });
    });
    refuses('EINVAL', `${what} none`, async (t) => {
      const { vfio } = await switchedOn(t, INTX);
      return () => set(vfio, { index: INTX, flags: NONE | action, count: 0 });
    });
  }
  refuses('EINVAL', 'eventfds for none', async (t) => {
    const vfio = await device(t);
    return () => setFds(vfio, INTX, 0);
  });
  refuses('EINVAL', 'to raise none', async (t) => {
    const { vfio } = await switchedOn(t, INTX);
    return () => set(vfio, { index: INTX, flags: BOOL | TRIGGER, count: 0 });
  });
  refuses('ENOTTY', 'an eventfd that masks', async (t) => {
    const { vfio } = await switchedOn(t, INTX);
    const { fd } = t.eventfd();
    return () => set(vfio, { index: INTX, flags: EVENTFD | MASK, data: fds(fd) });
  });
  refuses('EBUSY', 'a second eventfd that unmasks', async (t) => {
    const { vfio } = await switchedOn(t, INTX);
    const [first, second] = [t.eventfd(), t.eventfd()];
    await set(vfio, { index: INTX, flags: EVENTFD | UNMASK, data: fds(first.fd) });
    return () => set(vfio, { index: INTX, flags: EVENTFD | UNMASK, data: fds(second.fd) });
  });
  refuses('EBADF', 'an eventfd that unmasks and is not open', async (t) => {
    const { vfio } = await switchedOn(t, INTX);
    return () => set(vfio, { index: INTX, flags: EVENTFD | UNMASK, data: fds(CLOSED) });
  });
  for (const [index, name] of NAMES.slice(1, 3)) {
    refuses('EINVAL', `while ${name} is on`, async (t) => {
      const { vfio, events } = await switchedOn(t, index);
      return () => setFds(vfio, INTX, 0, events[0]!.fd);
    });
  }
  does('raises it by hand: with no data, and with a BOOL of 1', async (t) => {
    const { vfio, events } = await switchedOn(t, INTX);
    await set(vfio, { index: INTX, flags: BOOL | TRIGGER, data: Uint8Array.of(0) });
    await set(vfio, { index: INTX, flags: NONE | TRIGGER });
    await set(vfio, { index: INTX, flags: BOOL | TRIGGER, data: Uint8Array.of(1) });
    await events[0]!.expect(2);
  });
  does('has the device signal the eventfd once, until it is unmasked', async (t) => {
    const { vfio, engine, events } = await switchedOn(t, INTX);
    const [event] = events as [EventFd];
    await engine.enableInterrupt();
    await engine.copyAndInterrupt();
    await event.expect(1);
    await engine.acknowledge();
    await engine.copyAndInterrupt();
    await set(vfio, { index: INTX, flags: BOOL | UNMASK, data: Uint8Array.of(0) });
    await set(vfio, { index: INTX, flags: NONE | TRIGGER });
    await event.expect(1);
    await set(vfio, { index: INTX, flags: NONE | UNMASK });
    await event.expect(1);
  });
  for (const [what, request] of [
    ['no data', { flags: NONE | MASK }],
    ['a BOOL', { flags: BOOL | MASK, data: Uint8Array.of(1) }],
  ] as const) {
    does(`masks it with ${what}, and unmasked tells what came meanwhile`, async (t) => {
      const { vfio, engine, events } = await switchedOn(t, INTX);
      await engine.enableInterrupt();
      await set(vfio, { index: INTX, ...request });
      await engine.copyAndInterrupt();
      assert.equal(await events[0]!.counted(), 0);
      await set(vfio, { index: INTX, flags: BOOL | UNMASK, data: Uint8Array.of(1) });
      await events[0]!.expect(1);
    });
  }
  does('does not mask with a BOOL of 0', async (t) => {
    const { vfio, engine, events } = await switchedOn(t, INTX);
    await engine.enableInterrupt();
    await set(vfio, { index: INTX, flags: BOOL | MASK, data: Uint8Array.of(0) });
    await engine.copyAndInterrupt();
    await events[0]!.expect(1);
  });
  does('unmasks it by an eventfd, until that is taken off', async (t) => {
    const { vfio, engine, events } = await switchedOn(t, INTX);
    const unmask = t.eventfd();
    await engine.enableInterrupt();
    await set(vfio, { index: INTX, flags: EVENTFD | UNMASK, data: fds(unmask.fd) });
    await engine.copyAndInterrupt();
    await events[0]!.expect(1);
    await unmask.signal();
    await events[0]!.expect(1);
    await set(vfio, { index: INTX, flags: EVENTFD | UNMASK, data: fds(-1) });
    await unmask.signal();
    await unmask.expect(1);
  });
  does('takes another eventfd, or none, and stays on', async (t) => {
    const { vfio, events } = await switchedOn(t, INTX);
    const second = t.eventfd();
    await setFds(vfio, INTX, 0, second.fd);
    await set(vfio, { index: INTX, flags: NONE | TRIGGER });
    await second.expect(1);
    await setFds(vfio, INTX, 0, -1);
    await set(vfio, { index: INTX, flags: NONE | TRIGGER });
    assert.deepEqual([await events[0]!.counted(), await second.counted()], [0, 0]);
  });
  does('is quiet while COMMAND disables it', async (t) => {
    const { vfio, events } = await switchedOn(t, INTX);
    const command = (7n << 40n) + 4n;
    await vfio.write(Uint8Array.of(6, 4), command);
    await set(vfio, { index: INTX, flags: NONE | TRIGGER });
    await vfio.write(Uint8Array.of(6, 0), command);
    await set(vfio, { index: INTX, flags: NONE | TRIGGER });
    await events[0]!.expect(1);
  });
});

casesOf('VFIO_DEVICE_SET_IRQS of messages', SMMU, ({ refuses, does }) => {
  for (const [index, name] of NAMES.slice(1, 3)) {
    refuses('ENOSPC', `${name} of a device that is not attached: nothing maps the page of its messages`, async (t) => {
      const vfio = await device(t);
      return () => setFds(vfio, index, 0, -1);
    });
    refuses('ERANGE', `to switch on ${name} without a vector`, async (t) => {
      const { vfio } = await attached(t);
      return () => setFds(vfio, index, 0);
    });
    refuses('EINVAL', `${name} while INTx is on`, async (t) => {
      const { vfio, events } = await switchedOn(t, INTX);
      return () => setFds(vfio, index, 0, events[0]!.fd);
    });
    refuses('EINVAL', `to switch off the other messages than ${name}, which are on`, async (t) => {
      const { vfio } = await switchedOn(t, index);
      return () => set(vfio, { index: index === MSI ? MSIX : MSI, flags: NONE | TRIGGER, count: 0 });
    });
    does(`has the device signal the eventfd of ${name}`, async (t) => {
      const { engine, events } = await switchedOn(t, index);
      await engine.enableInterrupt();
      for (let n = 0; n < 2; n++) {
        await engine.copyAndInterrupt();
        await events[0]!.expect(1);
        await engine.acknowledge();
      }
    });
    does(`raises ${name} by hand: with no data, and with a BOOL of 1`, async (t) => {
      const { vfio, events } = await switchedOn(t, index);
      await set(vfio, { index, flags: NONE | TRIGGER });
      await set(vfio, { index, flags: BOOL | TRIGGER, data: Uint8Array.of(0) });
      await set(vfio, { index, flags: BOOL | TRIGGER, data: Uint8Array.of(1) });
      await events[0]!.expect(2);
    });
    does(`takes the eventfd of ${name} off, which can be raised nevertheless, and sets another one`, async (t) => {
      const { vfio, events } = await switchedOn(t, index);
      const second = t.eventfd();
      await setFds(vfio, index, 0, -1);
      await set(vfio, { index, flags: NONE | TRIGGER });
      await setFds(vfio, index, 0, second.fd);
      await set(vfio, { index, flags: NONE | TRIGGER });
      await second.expect(1);
      assert.equal(await events[0]!.counted(), 0);
    });
    does(`switches ${name} off, after which INTx can be had`, async (t) => {
      const { vfio, events } = await switchedOn(t, index);
      await set(vfio, { index, flags: NONE | TRIGGER, count: 0 });
      await setFds(vfio, INTX, 0, events[0]!.fd);
    });
    does(`loses all vectors of ${name} when one cannot be set, and is off if it was off`, async (t) => {
      const { vfio } = await attached(t);
      const { fd } = t.eventfd();
      assert.equal(await errnoOf(() => setFds(vfio, index, 0, CLOSED)), 'EBADF');
      await setFds(vfio, INTX, 0, fd);
    });
  }
});

casesOf('VFIO_DEVICE_SET_IRQS of messages', GROUPS, ({ refuses, does }) => {
  refuses('EINVAL', 'a vector of MSI beyond those that it was switched on with', async (t) => {
    const { vfio, events } = await switchedOn(t, MSI, 2);
    return () => setFds(vfio, MSI, 2, events[0]!.fd);
  });
  does('raises those vectors that BOOLs name', async (t) => {
    const { vfio, events } = await switchedOn(t, MSI, 3);
    await set(vfio, { index: MSI, flags: BOOL | TRIGGER, start: 1, count: 2, data: Uint8Array.of(0, 1) });
    await events[2]!.expect(1);
    assert.deepEqual([await events[0]!.counted(), await events[1]!.counted()], [0, 0]);
  });
  does('keeps the vectors before those of which one cannot be set', async (t) => {
    const { vfio, events } = await switchedOn(t, MSI, 4);
    const { fd } = t.eventfd();
    assert.equal(await errnoOf(() => setFds(vfio, MSI, 1, fd, CLOSED, fd)), 'EBADF');
    await set(vfio, { index: MSI, flags: NONE | TRIGGER, count: 4 });
    await events[3]!.expect(1);
    await events[0]!.expect(1);
    assert.deepEqual([await events[1]!.counted(), await events[2]!.counted()], [0, 0]);
  });
});

casesOf('VFIO_DEVICE_SET_IRQS of ERR and REQ', SMMU, ({ refuses, does }) => {
  for (const [index, name] of NAMES.slice(3)) {
    refuses('EINVAL', `no eventfd for ${name}`, async (t) => {
      const vfio = await device(t);
      return () => setFds(vfio, index, 0);
    });
    refuses('EINVAL', `no BOOL for ${name}`, async (t) => {
      const vfio = await device(t);
      return () => set(vfio, { index, flags: BOOL | TRIGGER, count: 0 });
    });
    refuses('EINVAL', `descriptor -2 for ${name}`, async (t) => {
      const vfio = await device(t);
      return () => setFds(vfio, index, 0, -2);
    });
    does(`raises ${name} by hand, whatever other interrupts are on, until its eventfd is taken off`, async (t) => {
      const { vfio } = await switchedOn(t, INTX);
      const event = t.eventfd();
      await setFds(vfio, index, 0, event.fd);
      await set(vfio, { index, flags: NONE | TRIGGER });
      await set(vfio, { index, flags: BOOL | TRIGGER, data: Uint8Array.of(1) });
      await set(vfio, { index, flags: BOOL | TRIGGER, data: Uint8Array.of(0) });
      await event.expect(2);
      await set(vfio, { index, flags: NONE | TRIGGER, count: 0 });
      await set(vfio, { index, flags: BOOL | TRIGGER, data: Uint8Array.of(1) });
      await setFds(vfio, index, 0, event.fd);
      await setFds(vfio, index, 0, -1);
      assert.equal(await errnoOf(() => set(vfio, { index, flags: NONE | TRIGGER })), 'EINVAL');
    });
  }
});
