/** An open /dev/iommu. */
import { withCommands } from './command-file.ts';
import { IOMMUFD_COMMANDS, TYPE1_COMMANDS, VIOMMU_V2_COMMANDS } from './commands.ts';
import { checked } from './refusal.ts';
import type { System } from './system.ts';
import { type TestOperations, testOperations } from './test-command.ts';

export const IOMMU_PATH = '/dev/iommu';
/** O_RDWR | O_CLOEXEC */
export const OPEN_FLAGS = 0o2000002;

const openPath = (system: System, path: string): number => checked(system.open(path, OPEN_FLAGS), `open of ${path}`);

/**
 * A method for each command: `iommufd.ioasMap({ ioasId, flags, userVa, length })` gives the struct back, with the
 * kernel's answer in it, or throws the errno. The type 1 commands of VFIO are here, too, as kernels have them.
 */
export class Iommufd extends withCommands({ ...IOMMUFD_COMMANDS, ...TYPE1_COMMANDS }) {
  readonly test: TestOperations;

  constructor(system: System, fd: number) {
    super(system, fd);
    this.test = testOperations(this);
  }

  static open(system: System, path = IOMMU_PATH): Iommufd {
    return new Iommufd(system, openPath(system, path));
  }
}

/** In the dialect of the design thread. */
export class IommufdV2 extends withCommands({ ...IOMMUFD_COMMANDS, ...TYPE1_COMMANDS, ...VIOMMU_V2_COMMANDS }) {
  static open(system: System, path = IOMMU_PATH): IommufdV2 {
    return new IommufdV2(system, openPath(system, path));
  }
}
