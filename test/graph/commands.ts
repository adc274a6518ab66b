/** Every command of the state machine by its name, and how often it is drawn. */
import * as access from './access-commands.ts';
import type { Command } from './command.ts';
import * as dirty from './dirty-commands.ts';
import * as dma from './dma-commands.ts';
import * as exports from './export-commands.ts';
import * as fault from './fault-commands.ts';
import * as group from './group-commands.ts';
import * as guest from './guest-commands.ts';
import * as hwpt from './hwpt-commands.ts';
import * as ioas from './ioas-commands.ts';
import * as mock from './mock-commands.ts';
import * as process from './process-commands.ts';
import * as type1 from './type1-commands.ts';
import * as vfio from './vfio-commands.ts';
import * as viommu from './viommu-commands.ts';

const { tableOf: _tableOf, ...mockCommands } = mock;
const { IOVAS: _iovas, mapPlan: _mapPlan, payerOf: _payerOf, userPiece: _userPiece, ...ioasCommands } = ioas;
const { checkReported: _checkReported, isWhole: _isWhole, ...dirtyCommands } = dirty;
const { checkMoved: _checkMoved, ...dmaCommands } = dma;
const { deviceOf: _deviceOf, enable: _enable, SOFTWARE_MSI: _softwareMsi, ...vfioCommands } = vfio;
const { firstRefusal: _firstRefusal, ...viommuCommands } = viommu;

export const COMMANDS: Readonly<Record<string, Command>> = {
  ...ioasCommands,
  ...hwpt,
  ...dirtyCommands,
  ...mockCommands,
  ...vfioCommands,
  ...group,
  ...guest,
  ...dmaCommands,
  ...exports,
  ...viommuCommands,
  ...access,
  ...fault,
  ...type1,
  ...process,
};

/** Those that are drawn more often than once: what makes deep states. And what is for the start only. */
const OFTEN: Readonly<Record<string, number>> = {
  filesOnly: 0,
  ioasAlloc: 4,
  ioasMap: 8,
  ioasMapFile: 5,
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
  hwQueueAlloc: 4,
  accessPages: 4,
  createAccess: 2,
  pasidAttach: 3,
  destroy: 3,
  type1Map: 4,
  type1Unmap: 5,
  setIommu: 2,
  faultQueueAlloc: 2,
  triggerIopf: 4,
  faultRead: 6,
  faultRespond: 10,
  bringPage: 3,
  triggerVevent: 4,
  pasidReplace: 2,
  setDirtyTracking: 2,
  getDirtyBitmap: 4,
  mockDirty: 4,
  dma: 14,
  vfioPasidAttach: 5,
  vfioPasidDetach: 2,
  exportBar: 2,
  setPower: 2,
  lowPower: 2,
  guestMap: 2,
  guestChange: 4,
  groupOpen: 2,
  groupSetContainer: 2,
  groupGetDevice: 3,
};

/** Names, each as often as it is to be drawn. */
export const DRAW: readonly string[] = Object.keys(COMMANDS).flatMap((name) => new Array(OFTEN[name] ?? 1).fill(name));
