/** CREATE_ACCESS and what is done with an access: it is named by its descriptor, not by its ID. */
import { Errno, fail } from '../../abi/errno.ts';
import * as abi from '../../abi/iommufd-test.ts';
import { mayFail } from '../../drivers/failure-points.ts';
import { Access } from '../access.ts';
import type { Command } from '../command.ts';
import { openDescriptor } from '../descriptor.ts';
import { hex } from '../format.ts';
import { Ioas } from '../ioas.ts';
import { nthArea } from '../nth-area.ts';
import { PAGE_BYTES } from '../pages.ts';
import { readUser, writeUser } from '../user-memory.ts';
import { AccessFile } from './access-file.ts';
import type { Operation } from './test-command.ts';
import { UserPages } from './user-pages.ts';

const MOST_BYTES = 16n * 1024n * 1024n;

/** EBADFD when `fd` is no access. */
function accessFile({ caller }: Command, fd: number): AccessFile {
  const file = caller.fileOf(fd);
  if (file instanceof AccessFile) return file;
  throw fail('EBADFD', `descriptor ${fd} is no access`);
}

function checkLength(length: bigint): void {
  if (length > MOST_BYTES) throw fail('ENOMEM', `length ${hex(length)} is more than ${hex(MOST_BYTES)}`);
}

function checkFlags(flags: number, known: number): void {
  if (flags & ~known) throw fail('EOPNOTSUPP', `flags ${hex(flags)} has bits beyond ${hex(known)}`);
}

export const createAccess: Operation = async (command, { id }, payload) => {
  const c = new abi.TestCreateAccess(payload);
  checkFlags(c.flags, abi.MOCK_FLAGS_ACCESS_CREATE_NEEDS_PIN_PAGES);
  const { context, caller } = command;
  const pins = c.flags !== 0;
  const file: AccessFile = new AccessFile(pins, (unmapped) => Access.create(context, { pins, unmapped }));
  try {
    file.access.attach(context.objects.get(id, Ioas, 'id'));
  } catch (error) {
    file.release();
    throw error;
  }
  try {
    await openDescriptor(caller, file, (fd) => {
      c.outAccessFd = fd;
      command.respond();
    });
  } catch (error) {
    // Unlike for its other descriptors, a kernel does not say here which resource has run out.
    throw error instanceof Errno && error.code === 'EMFILE' ? fail('ENOMEM', error.reason) : error;
  }
};

export const accessReplaceIoas: Operation = (command, { id }, payload) => {
  accessFile(command, id).access.replace(new abi.TestAccessReplaceIoas(payload).ioasId);
};

/** Pins pages until DESTROY_ACCESS_PAGES, or until they are unmapped. EBADE when they are not those at `uptr`. */
export const accessPages: Operation = (command, { id }, payload) => {
  const c = new abi.TestAccessPages(payload);
  checkLength(c.length);
  checkFlags(c.flags, abi.MOCK_FLAGS_ACCESS_WRITE | abi.MOCK_FLAGS_ACCESS_SYZ);
  const file = accessFile(command, id);
  if (!file.pins) throw fail('EOPNOTSUPP', `access ${id} was created without NEEDS_PIN_PAGES`);
  const iova = c.flags & abi.MOCK_FLAGS_ACCESS_SYZ ? nthArea(file.access.areas, c.iova) : c.iova;
  file.access.pin(iova, c.length, (c.flags & abi.MOCK_FLAGS_ACCESS_WRITE) !== 0);
  try {
    mayFail('an item of an access');
    if (c.uptr) checkPages(command, file, iova, c.length, c.uptr);
    c.outAccessPagesId = file.nextId;
    command.respond();
  } catch (error) {
    file.access.unpin(iova, c.length);
    throw error;
  }
  file.add(iova, c.length);
};

function checkPages(command: Command, { access }: AccessFile, iova: bigint, length: bigint, uptr: bigint): void {
  let at = uptr - (iova % PAGE_BYTES);
  const pages = new UserPages(command, at, length);
  try {
    access.forEachFrame(iova, length, (frame) => {
      if (pages.physical(at) !== frame * Number(PAGE_BYTES)) throw fail('EBADE', `another page is at ${hex(at)}`);
      at += PAGE_BYTES;
    });
  } finally {
    pages.release();
  }
}

export const destroyAccessPages: Operation = (command, { id }, payload) => {
  accessFile(command, id).remove(new abi.TestDestroyAccessPages(payload).accessPagesId);
};

export const accessRw: Operation = (command, { id }, payload) => {
  const c = new abi.TestAccessRw(payload);
  checkLength(c.length);
  checkFlags(c.flags, abi.MOCK_ACCESS_RW_WRITE | abi.MOCK_ACCESS_RW_SLOW_PATH | abi.MOCK_FLAGS_ACCESS_SYZ);
  const file = accessFile(command, id);
  const write = (c.flags & abi.MOCK_ACCESS_RW_WRITE) !== 0;
  const { memory } = command.caller;
  mayFail('a buffer');
  const bytes = new Uint8Array(Number(c.length));
  if (write) readUser(memory, c.uptr, bytes);
  file.access.copy(c.flags & abi.MOCK_FLAGS_ACCESS_SYZ ? nthArea(file.access.areas, c.iova) : c.iova, bytes, write);
  if (!write) writeUser(memory, c.uptr, bytes);
};
