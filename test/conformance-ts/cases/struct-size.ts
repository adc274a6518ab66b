/** What holds for every command before it is looked at: ioctl numbers, and the size rules of copy_struct_from_user(). */
import { type CommandLayout, dialect } from '../../../src/abi/dialects.ts';
import { Errno } from '../../../src/abi/errno.ts';
import { IOMMUFD_TYPE, io } from '../../../src/abi/ioctl.ts';
import { withTestCommand } from '../../../src/abi/mock-dialect.ts';
import type { Need } from '../program.ts';
import type { Setting } from '../setting.ts';
import { casesOf } from '../suite.ts';

const layouts = [...withTestCommand(dialect('linux-7.1')).commands.values()];

for (const layout of layouts) {
  const needs: Need[] = layout.name === 'IOMMU_TEST_CMD' ? ['mock'] : [];
  casesOf(layout.name, needs, ({ refuses, does }) => {
    const struct = layout.struct!;
    const call = ({ iommufd }: Setting, values: object, raw = {}) => iommufd.call(layout.command, struct, values, raw);

    refuses('EINVAL', 'a size of 0', (t) => () => call(t, { size: 0 }));
    refuses('EINVAL', 'a size below that of its first release', (t) => () => {
      return call(t, { size: layout.minimumSize - 1 });
    });
    refuses('E2BIG', 'a longer struct with a byte in its tail that is not 0', (t) => () => {
      return call(t, {}, { tail: Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 1) });
    });
    refuses('EFAULT', 'a null pointer', (t) => () => call(t, {}, { address: 0n }));
    refuses('EFAULT', 'a struct that ends where there is no memory', (t) => () => {
      const { address, bytes } = t.program.edge(4);
      new DataView(bytes.buffer, bytes.byteOffset).setUint32(0, struct.size, true);
      return call(t, {}, { address });
    });
    refuses('EFAULT', 'a tail where there is no memory', (t) => () => {
      const { address, bytes } = t.program.edge(struct.size);
      bytes.fill(0);
      new DataView(bytes.buffer, bytes.byteOffset).setUint32(0, struct.size + 8, true);
      return call(t, {}, { address });
    });
    refuses('ENOTTY', 'its number with a direction in it', (t) => () => {
      return t.iommufd.call(layout.command + 2 ** 30, struct);
    });
    does('takes a longer struct whose tail is 0, and one of its first release, as it takes its own', async (t) => {
      const own = await outcome(t, layout, {});
      const longer = await outcome(t, layout, { size: struct.size + 64 }, new Uint8Array(64));
      const first = await outcome(t, layout, { size: layout.minimumSize });
      if (own !== longer || own !== first)
        throw new Error(`${own} becomes ${longer} when longer, ${first} when shorter`);
    });
  });
}

/** Of a struct of zeros: 'success', or an errno. What it made is closed. */
async function outcome(t: Setting, layout: CommandLayout, values: object, tail = new Uint8Array()): Promise<string> {
  try {
    const answer = await t.iommufd.call(layout.command, layout.struct!, values, { tail });
    if ('outFaultFd' in answer) t.descriptor(answer.outFaultFd as number);
    return 'success';
  } catch (error) {
    if (error instanceof Errno) return error.code;
    throw error;
  }
}

casesOf('ioctl', [], ({ refuses }) => {
  refuses('ENOTTY', 'a number below those of iommufd that is none of VFIO', (t) => () => {
    return t.iommufd.callNumber(io(IOMMUFD_TYPE, 0x7f));
  });
  refuses('ENOTTY', 'a number of another driver', (t) => () => t.iommufd.callNumber(0x5401));
  refuses('ENOTTY', 'a number above those of iommufd', (t) => () => t.iommufd.callNumber(io(IOMMUFD_TYPE, 0xff)));
});

casesOf('ioctl', ['mock'], ({ refuses }) => {
  const unused = io(IOMMUFD_TYPE, 0x95);
  refuses(
    'ENOTTY',
    'a number between those of iommufd',
    (t) => () => t.iommufd.callNumber(unused, t.put(new Uint8Array(8))),
  );
  refuses('EFAULT', 'a bad pointer before it looks at the number', (t) => () => t.iommufd.callNumber(unused, 0));
});

casesOf('read', [], ({ refuses }) => {
  refuses('EINVAL', 'to read /dev/iommu', (t) => () => t.iommufd.read(8));
  refuses('EINVAL', 'to write /dev/iommu', (t) => () => t.iommufd.write(new Uint8Array(8)));
});
