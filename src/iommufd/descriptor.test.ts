import { describe, expect, it } from 'vitest';
import { fail } from '../abi/errno.ts';
import { openDescriptor } from './descriptor.ts';
import type { OpenFile } from './file.ts';
import { TestProcess } from './testing.ts';

function setup() {
  const process = new TestProcess();
  let released = 0;
  const file = { kind: 'test', release: () => released++ } as unknown as OpenFile;
  return { process, file, released: () => released };
}

describe('a descriptor that an ioctl opens', () => {
  it('is told to the program', async () => {
    const { process, file, released } = setup();
    let told = -1;
    await openDescriptor(process, file, (fd) => (told = fd));
    expect([process.fileOf(told), released()]).toEqual([file, 0]);
  });

  it('is closed again when it cannot be told', async () => {
    const { process, file, released } = setup();
    const refused = openDescriptor(process, file, () => {
      throw fail('EFAULT', 'the struct has gone');
    });
    await expect(refused).rejects.toMatchObject({ code: 'EFAULT' });
    expect(process.files.size).toBe(0);
    expect(released()).toBeGreaterThan(0);
  });

  it('is not there, and its file released, when the process has none left', async () => {
    const { process, file, released } = setup();
    process.onOpen = () => Promise.reject(fail('EMFILE', 'no descriptor is left'));
    await expect(openDescriptor(process, file, () => {})).rejects.toMatchObject({ code: 'EMFILE' });
    expect(released()).toBe(1);
  });
});
