/** Every command of the state machine by its name, and how often it is drawn. */
import * as access from './access-commands.ts';
import type { Command } from './command.ts';
import * as fault from './fault-commands.ts';
import * as hwpt from './hwpt-commands.ts';
import * as ioas from './ioas-commands.ts';
import * as mock from './mock-commands.ts';
import * as process from './process-commands.ts';
import * as type1 from './type1-commands.ts';
import * as vfio from './vfio-commands.ts';
import * as viommu from './viommu-commands.ts';

const { tableOf: _tableOf, ...mockCommands } = mock;
const { IOVAS: _iovas, mapPlan: _mapPlan, payerOf: _payerOf, userPiece: _userPiece, ...ioasCommands } = ioas;
const { firstRefusal: _firstRefusal, ...viommuCommands } = viommu;

export const COMMANDS: Readonly<Record<string, Command>> = {
  ...ioasCommands,
  ...hwpt,
  ...mockCommands,
  ...vfio,
  ...viommuCommands,
  ...access,
  ...fault,
  ...type1,
  ...process,
};

/** Those that are drawn more often than once: what makes deep states. */
const OFTEN: Readonly<Record<string, number>> = {
  ioasAlloc: 4,
  ioasMap: 8,
  ioasMapFile: 3,
  ioasCopy: 3,
  ioasUnmap: 4,
  hwptAllocPaging: 4,
  hwptAllocNested: 4,
  mockDomain: 4,
  mockReplace: 4,
  vfioOpen: 2,
  vfioBind: 3,
  vfioAttach: 6,
  viommuAlloc: 3,
  eventQueueAlloc: 3,
  vdeviceAlloc: 3,
  hwQueueAlloc: 3,
  accessPages: 4,
  createAccess: 2,
  pasidAttach: 3,
  destroy: 3,
  type1Map: 4,
  type1Unmap: 5,
  setIommu: 2,
  faultQueueAlloc: 2,
  triggerIopf: 4,
  faultRead: 4,
  faultRespond: 4,
  triggerVevent: 4,
  pasidReplace: 2,
};

/** Names, each as often as it is to be drawn. */
export const DRAW: readonly string[] = Object.keys(COMMANDS).flatMap((name) => new Array(OFTEN[name] ?? 1).fill(name));
