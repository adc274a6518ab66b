/** Processes and their descriptors: another iommufd, close, exit, a new process; and what all of them map. */
import type { Command } from './command.ts';
import { IOMMUFD_PATHS } from './world.ts';

export const openIommufd: Command = (world, pick) => {
  const process = pick.of(world.processes);
  if (!process || world.descriptorsOf('iommufd').length >= 2) return null;
  const path = world.isMock ? IOMMUFD_PATHS[0] : pick.from(IOMMUFD_PATHS);
  return {
    text: `open ${path} in ${process.pid}`,
    expected: '',
    call: async () => '',
    apply: () => void world.openIommufd(process, path),
  };
};

export const close: Command = (world, pick) => {
  // An iommufd takes much along: seldom.
  const others = world.descriptors.filter(({ what }) => what.kind !== 'iommufd');
  const descriptor = pick.oneIn(6) ? pick.of(world.descriptors) : pick.of(others);
  if (!descriptor) return null;
  return {
    text: `close ${descriptor.what.kind} ${descriptor.fd} of ${descriptor.process.pid}`,
    expected: '',
    call: async () => '',
    apply: () => world.close(descriptor),
  };
};

export const exit: Command = (world, pick) => {
  const process = pick.of(world.processes);
  if (!process || !pick.oneIn(8)) return null;
  const [a, b] = [pick.below(7) + 1, pick.below(11)];
  return {
    text: `exit of ${process.pid}`,
    expected: '',
    call: async () => '',
    apply: () =>
      world.exit(process, (descriptors) =>
        descriptors
          .map((each, n) => ({ each, key: (n * a + b) % 13 }))
          .sort((x, y) => x.key - y.key)
          .map(({ each }) => each),
      ),
  };
};

/** From the start: no memory of processes is mapped, so that all of it may change hands. */
export const filesOnly: Command = (world) => {
  if (world.log.length > 0) return null;
  return {
    text: 'only files are mapped',
    expected: '',
    call: async () => '',
    apply: () => {
      world.filesOnly = true;
    },
  };
};

export const spawn: Command = (world) =>
  world.canSpawn() ? { text: 'a new process', expected: '', call: async () => '', apply: () => world.spawn() } : null;
