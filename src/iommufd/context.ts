/**
 * One open of /dev/iommu. Its objects end when the last descriptor is gone and so is everything that was made with it and
 * can live longer: bound devices, descriptors of event queues.
 */
import type { Dialect } from '../abi/dialects.ts';
import { fail } from '../abi/errno.ts';
import { mayFail } from '../drivers/failure-points.ts';
import type { PinnedMemory } from '../memory/pinned-memory.ts';
import type { Tracer } from '../trace/events.ts';
import type { Handler } from './command.ts';
import { dispatch } from './dispatch.ts';
import { type ClientProcess, type Mapping, type OpenFile, POLLIN, POLLOUT } from './file.ts';
import { hex } from './format.ts';
import type { DeviceGroup, IommuGroup } from './group.ts';
import type { IoPageTable } from './io-pagetable.ts';
import type { Ioas } from './ioas.ts';
import { MessagePages } from './message-pages.ts';
import { MmapRegions } from './mmap-regions.ts';
import { ObjectTable } from './objects.ts';
import { PAGE_BYTES } from './pages.ts';
import { accountMode, Charge } from './process-account.ts';
import { Viommu } from './viommu.ts';

/** What an iommufd needs of its machine. */
export interface IommufdHost {
  readonly pinned: PinnedMemory;
  readonly tracer: Tracer;
  /** Policy: an iommufd (a VM) may have one vIOMMU on each pIOMMU only. By default any number. */
  readonly oneViommuPerPiommu?: boolean;
  /** RLIMIT_MEMLOCK limits pinned pages, as in a kernel (the default), or they are only counted. */
  readonly enforceMemlock?: boolean;
  /** IOMMU_TEST_CMD, on a machine with the mock driver and in a dialect that has the command. */
  readonly testCommand?: Handler;
}

export interface IommufdOptions {
  readonly dialect: Dialect;
  readonly host: IommufdHost;
  /** The device node that was opened: '/dev/iommu' by default. */
  readonly path?: string;
  readonly device?: { readonly major: number; readonly minor: number };
  /** Whom pinned memory is accounted to at first: 0 the user (the default), 1 the process, as VFIO does. */
  readonly rlimitMode?: 0 | 1;
  /** Type 1 is as in VFIO's own container where iommufd's differs: MAP_DMA takes mapped registers, GET_INFO knows groups. */
  readonly isContainer?: boolean;
}

const MAP_SHARED = 1;
const PROT_EXEC = 4;

export class IommufdContext implements OpenFile {
  readonly path: string;
  readonly device: { readonly major: number; readonly minor: number };
  readonly dialect: Dialect;
  readonly host: IommufdHost;
  readonly objects: ObjectTable;
  /** Groups with a bound device, by their key. */
  readonly groups: Map<object, DeviceGroup>;
  readonly messagePages: MessagePages;
  /** What objects let the program map. */
  readonly mmapRegions: MmapRegions;
  /** The highest nr of the dialect's commands. */
  readonly lastCommand: number;
  /** What the VFIO type 1 ioctls work on. */
  vfioIoas: Ioas | null;
  /** Whom pinned memory is accounted to: 0 the user, 1 the process. */
  rlimitMode: 0 | 1;
  readonly isContainer: boolean;
  /** Those that have it as their container, and where what they cannot use is reserved. */
  readonly containedGroups: Map<IommuGroup, IoPageTable>;
  onPollChange: (() => void) | null;
  private holders: number;

  constructor(options: IommufdOptions) {
    const {
      dialect,
      host,
      path = '/dev/iommu',
      device = { major: 10, minor: 127 },
      rlimitMode = 0,
      isContainer = false,
    } = options;
    mayFail('the iommufd');
    this.path = path;
    this.device = device;
    this.dialect = dialect;
    this.host = host;
    this.objects = new ObjectTable();
    this.groups = new Map();
    this.messagePages = new MessagePages();
    this.mmapRegions = new MmapRegions(this, dialect.behaviour.mmap !== 'viommu-id');
    this.lastCommand = Math.max(...dialect.commands.keys());
    this.vfioIoas = null;
    this.rlimitMode = rlimitMode;
    this.isContainer = isContainer;
    this.containedGroups = new Map();
    this.onPollChange = null;
    this.holders = 1;
  }

  get kind(): 'iommufd' {
    return 'iommufd';
  }

  /** Always both, as for every character device without a poll of its own. */
  get pollMask(): number {
    return POLLIN | POLLOUT;
  }

  ioctl(caller: ClientProcess, command: number, arg: bigint): number | Promise<number> {
    return dispatch(this, caller, command, arg);
  }

  read(): never {
    throw fail('EINVAL', '/dev/iommu cannot be read');
  }

  write(): never {
    throw fail('EINVAL', '/dev/iommu cannot be written');
  }

  /** Maps the region of an object. */
  mmap(_caller: ClientProcess, length: bigint, protection: number, flags: number, offset: bigint): Mapping {
    const { mmap } = this.dialect.behaviour;
    if (mmap === 'none') throw fail('ENODEV', '/dev/iommu cannot be mapped');
    if (!(flags & MAP_SHARED))
      throw fail('EINVAL', `flags ${hex(flags)}: only a shared mapping of /dev/iommu is possible`);
    if (protection & PROT_EXEC) throw fail('EPERM', 'a mapping of /dev/iommu cannot be executable');
    const bytes = (length + PAGE_BYTES - 1n) & -PAGE_BYTES;
    if (mmap === 'reported-offset') return this.mmapRegions.map(offset, bytes);
    const id = Number(BigInt.asUintN(32, offset / PAGE_BYTES));
    return this.mmapRegions.mapOf(this.objects.get(id, Viommu, 'offset / 4096:'), bytes);
  }

  /** How what `caller` maps is accounted for. */
  charge({ account }: ClientProcess): Charge {
    return new Charge(account, accountMode(account, this.rlimitMode), this.host.enforceMemlock ?? true);
  }

  /** The iommufd stays for a device or descriptor. */
  hold(): void {
    this.holders++;
  }

  /** Ends one hold(). */
  drop(): void {
    if (--this.holders === 0) this.objects.clear();
  }

  release(): void {
    this.drop();
  }

  /** Nothing holds it any more: its objects have been destroyed. */
  get ended(): boolean {
    return this.holders === 0;
  }
}
