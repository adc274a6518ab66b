/** Groups: /dev/vfio/N, and the devices that it gives out, as group.c of Linux 7.1 has them with an iommufd as the container. */
import assert from 'node:assert/strict';
import {
  GroupStatus,
  VFIO_GROUP_GET_DEVICE_FD,
  VFIO_GROUP_GET_STATUS,
  VFIO_GROUP_SET_CONTAINER,
} from '../../../src/abi/vfio-group.ts';
import { Iommufd, VfioDevice } from '../../../src/client/index.ts';
import type { Setting } from '../setting.ts';
import { bound } from '../smmu.ts';
import { casesOf, errnoOf } from '../suite.ts';
import { CLOSED, contained, GROUPS, inGroup, nameOf } from '../vfio.ts';

const [VIABLE, CONTAINER_SET] = [1, 2];
const BDF = nameOf(0);

const deviceInGroup = async (t: Setting, number = 0): Promise<VfioDevice> =>
  inGroup(t, (await contained(t, number)).group, number);

casesOf('VFIO group', GROUPS, ({ refuses, does }) => {
  refuses('EBUSY', 'to be opened twice', async (t) => {
    t.group();
    return async () => t.group();
  });
  refuses('EBUSY', 'to be opened while a device of it is bound by its own node', async (t) => {
    await bound(t, 3);
    return async () => t.group(2);
  });
  refuses('ENOTTY', 'a command that is not known', async (t) => {
    const group = t.group();
    return () => group.callNumber(0x3b64 + 99);
  });
  refuses('EINVAL', 'to be read', async (t) => {
    const group = t.group();
    return () => group.read(4);
  });
  refuses('EINVAL', 'to be written', async (t) => {
    const group = t.group();
    return () => group.write(new Uint8Array(4));
  });
  does('cannot be mapped (errno 19)', async (t) => {
    assert.equal(t.program.mmap(t.group().fd, 4096, 3, 1, 0n).result, -19);
  });
  does('can be opened again when it is closed, and when the device is', async (t) => {
    t.end(t.group());
    const { vfio } = await bound(t);
    t.end(vfio);
    t.group();
  });
});

casesOf('VFIO_GROUP_GET_STATUS', GROUPS, ({ refuses, does }) => {
  refuses('EINVAL', 'an argsz that is too small', async (t) => {
    const group = t.group();
    return () => group.getStatus({ argsz: 7 });
  });
  refuses('EFAULT', 'a null pointer', async (t) => {
    const group = t.group();
    return () => group.callNumber(VFIO_GROUP_GET_STATUS, 0n);
  });
  refuses('EFAULT', 'memory where it cannot write the answer', async (t) => {
    const group = t.group();
    return () => group.getStatus({}, t.unanswerable(GroupStatus, {}));
  });
  does('tells whether there is a container', async (t) => {
    const { group } = await contained(t);
    assert.equal((await group.getStatus()).flags, VIABLE | CONTAINER_SET);
    await group.unsetContainer();
    assert.equal((await group.getStatus()).flags, VIABLE);
  });
  does('tells that it is not viable while an iommufd has a device of it', async (t) => {
    const { group } = await contained(t);
    await inGroup(t, group);
    t.end(group);
    const again = t.group();
    assert.equal((await again.getStatus()).flags, 0);
  });
});

casesOf('VFIO_GROUP_SET_CONTAINER', GROUPS, ({ refuses, does }) => {
  const refused = (errno: 'EBADF' | 'EBADFD', what: string, fdOf: (t: Setting) => number) =>
    refuses(errno, what, async (t) => {
      const [group, fd] = [t.group(), fdOf(t)];
      return () => group.setContainer(fd);
    });
  refuses('EFAULT', 'a null pointer', async (t) => {
    const group = t.group();
    return () => group.callNumber(VFIO_GROUP_SET_CONTAINER, 0n);
  });
  refused('EBADF', 'a descriptor that is not open', () => CLOSED);
  refused('EBADF', 'a negative descriptor', () => -1);
  refused('EBADFD', 'a descriptor that is another group', (t) => t.group(1).fd);
  refused('EBADFD', 'a descriptor that is a file of memory', (t) => t.memfd().fd);
  refuses('EINVAL', 'a second container', async (t) => {
    const { group, container } = await contained(t);
    return () => group.setContainer(container.fd);
  });
  refuses('EINVAL', 'what is no container, too, when there is one', async (t) => {
    const { group } = await contained(t);
    return () => group.setContainer(group.fd);
  });
  does('gives an iommufd an IOAS, unless it has one', async (t) => {
    const { container, group } = await contained(t, 0, t.iommufd);
    const { ioasId } = await container.vfioIoas();
    assert.ok(ioasId > 0);
    await group.unsetContainer();
    await group.setContainer(container.fd);
    assert.equal((await container.vfioIoas()).ioasId, ioasId);
  });
  does('takes the same container for several groups', async (t) => {
    const { container } = await contained(t);
    const { group } = await contained(t, 1, container);
    assert.equal((await group.getStatus()).flags, VIABLE | CONTAINER_SET);
  });
  does('keeps the container when its descriptor is closed', async (t) => {
    const { container, group } = await contained(t);
    t.end(container);
    assert.equal((await (await inGroup(t, group)).getInfo()).numIrqs, 5);
  });
});

casesOf('VFIO_GROUP_UNSET_CONTAINER', GROUPS, ({ refuses, does }) => {
  refuses('EINVAL', 'a group without a container', async (t) => {
    const group = t.group();
    return () => group.unsetContainer();
  });
  refuses('EINVAL', 'a group that has lost its container by being closed', async (t) => {
    t.end((await contained(t)).group);
    const group = t.group();
    return () => group.unsetContainer();
  });
  does('leaves open devices what they have', async (t) => {
    const { container, group } = await contained(t);
    const vfio = await inGroup(t, group);
    await group.unsetContainer();
    assert.equal((await vfio.getInfo()).numRegions, 9);
    assert.equal(await errnoOf(async () => container.destroy({ id: (await container.vfioIoas()).ioasId })), 'EBUSY');
  });
});

casesOf('VFIO_GROUP_GET_DEVICE_FD', GROUPS, ({ refuses, does }) => {
  const refused = (errno: 'EINVAL' | 'ENODEV', what: string, name: string) =>
    refuses(errno, what, async (t) => {
      const { group } = await contained(t);
      return () => inGroupByName(t, group.device(name));
    });
  refuses('EINVAL', 'a device when there is no container', async (t) => {
    const group = t.group();
    return () => inGroup(t, group);
  });
  refuses('ENODEV', 'a device that is not there, before it looks for the container', async (t) => {
    const group = t.group();
    return () => inGroup(t, group, 1);
  });
  refused('ENODEV', 'a device of another group', nameOf(1));
  refused('ENODEV', 'the beginning of a name', BDF.slice(0, -1));
  refused('ENODEV', 'a name with something behind', `${BDF}x`);
  refused('EINVAL', 'an option that is not known', `${BDF} x`);
  refused('EINVAL', 'the token of a virtual function, which it is not', `${BDF} vf_token=${'0'.repeat(8)}`);
  refuses('EINVAL', 'a name of more than a page', async (t) => {
    const { group } = await contained(t);
    return () => group.callBytes(VFIO_GROUP_GET_DEVICE_FD, new Uint8Array(4096).fill(0x30));
  });
  refuses('EFAULT', 'a name that goes on where there is no memory', async (t) => {
    const { group } = await contained(t);
    const { address, bytes } = t.program.edge(8);
    bytes.fill(0x30);
    return () => group.callNumber(VFIO_GROUP_GET_DEVICE_FD, address);
  });
  refuses('EMFILE', 'a program without a descriptor left, and binds nothing', async (t) => {
    const { group } = await contained(t);
    return async () => {
      const get = (): Promise<unknown> => t.program.withoutDescriptors(() => group.device(BDF));
      assert.equal(await errnoOf(get), 'EMFILE');
      t.end(group);
      const { vfio } = await bound(t);
      t.end(vfio);
      const again = (await contained(t)).group;
      await t.program.withoutDescriptors(() => again.device(BDF));
    };
  });
  refuses('ENODEV', 'a device when the IOAS of the container is gone', async (t) => {
    const { container, group } = await contained(t, 0, t.iommufd);
    await container.destroy({ id: (await container.vfioIoas()).ioasId });
    return () => inGroup(t, group);
  });
  refuses('EPERM', 'a second device of the group for another container', async (t) => {
    const { group } = await contained(t, 2);
    await inGroup(t, group, 2);
    await group.unsetContainer();
    await group.setContainer(t.container().fd);
    return () => inGroup(t, group, 3);
  });
  does('takes blanks behind the name', async (t) => {
    const { group } = await contained(t);
    await inGroupByName(t, group.device(`${BDF}  `));
  });
  does('gives a device as often as it is asked, with one configuration space', async (t) => {
    const { group } = await contained(t);
    const [first, second] = [await inGroup(t, group), await inGroup(t, group)];
    await first.write(Uint8Array.of(6, 0), (7n << 40n) + 4n);
    t.end(first);
    assert.deepEqual([...(await second.read(2, (7n << 40n) + 4n))], [6, 0]);
  });
  does('gives every device of a group', async (t) => {
    const { group } = await contained(t, 2);
    for (const index of [2, 3]) await inGroup(t, group, index);
  });
});

async function inGroupByName(t: Setting, opening: Promise<VfioDevice>): Promise<void> {
  t.file(await opening);
}

casesOf('VFIO device of a group', GROUPS, ({ refuses, does }) => {
  refuses('EINVAL', 'BIND_IOMMUFD', async (t) => {
    const vfio = await deviceInGroup(t);
    return () => vfio.bindIommufd({ iommufd: t.iommufd.fd });
  });
  refuses('ENOTTY', 'ATTACH_IOMMUFD_PT', async (t) => {
    const vfio = await deviceInGroup(t);
    return () => vfio.attachIommufdPt({ ptId: 1 });
  });
  refuses('ENOTTY', 'DETACH_IOMMUFD_PT', async (t) => {
    const vfio = await deviceInGroup(t);
    return () => vfio.detachIommufdPt();
  });
  does('keeps the iommufd of its container when the group is closed', async (t) => {
    const { container, group } = await contained(t);
    const vfio = await inGroup(t, group);
    t.end(group);
    t.end(container);
    assert.equal((await vfio.getInfo()).numRegions, 9);
  });
});

casesOf('VFIO_DEVICE_BIND_IOMMUFD', GROUPS, ({ refuses }) => {
  refuses('EBUSY', 'a device whose group is open', async (t) => {
    t.group();
    return () => bound(t);
  });
  refuses('EINVAL', 'a device that is open through its group, when that is closed', async (t) => {
    const { group } = await contained(t);
    await inGroup(t, group);
    t.end(group);
    return () => bound(t);
  });
  refuses('EPERM', 'a device whose group another iommufd has', async (t) => {
    await bound(t, 2);
    const other = t.file(Iommufd.open(t.program));
    const vfio = t.file(VfioDevice.open(t.program, '/dev/vfio/devices/vfio3'));
    return () => vfio.bindIommufd({ iommufd: other.fd });
  });
});
