/** vIOMMU: a slice of one pIOMMU for one VM, holding a nesting parent. The driver has its half of it. */
import { fail } from '../abi/errno.ts';
import { ViommuAlloc } from '../abi/iommufd.ts';
import type { DriverViommu, IommuDriver } from '../drivers/iommu-driver.ts';
import type { Command } from './command.ts';
import { IommufdDevice } from './device.ts';
import type { EventQueue } from './event-queue.ts';
import { hex } from './format.ts';
import { HwptPaging } from './hwpt-paging.ts';
import type { MmapRegions } from './mmap-regions.ts';
import { IommufdObject, unuse, use } from './objects.ts';
import { CallerData } from './user-memory.ts';
import type { VirtualId } from './vdevice.ts';

/** Type 0 is not a type, but in the dialect viommu-v2 it is: managed by the core, on any driver. */
const TYPE_DEFAULT = 0;

export class Viommu extends IommufdObject {
  readonly type: number;
  readonly driver: DriverViommu;
  readonly parent: HwptPaging;
  readonly iommu: IommuDriver;
  /** By the ID that the VM knows a device by. */
  readonly virtualIds: Map<bigint, VirtualId>;
  /** vEVENTQs or VIRQs by type. */
  readonly eventQueues: Map<number, EventQueue>;
  /** Where the driver's region was placed. */
  private regions: MmapRegions | null;

  constructor(type: number, driver: DriverViommu, parent: HwptPaging, iommu: IommuDriver) {
    super();
    this.type = type;
    this.driver = driver;
    this.parent = use(parent);
    this.iommu = iommu;
    this.virtualIds = new Map();
    this.eventQueues = new Map();
    this.regions = null;
    driver.onEvent = (eventType, record) => this.eventQueues.get(eventType)?.push(record);
  }

  get kind(): 'viommu' {
    return 'viommu';
  }

  /** Gives the driver's region, if there is one, an offset for mmap. */
  placeRegion(regions: MmapRegions): void {
    const { region } = this.driver;
    if (!region) return;
    this.regions = regions;
    this.driver.regionPlaced?.(regions.place(region, this));
  }

  /** EINVAL when `device` is behind another pIOMMU. */
  checkDevice(device: IommufdDevice): void {
    const { driver } = device.physical;
    if (driver === this.iommu) return;
    throw fail(
      'EINVAL',
      `dev_id ${device.id} is behind ${driver.name}, vIOMMU ${this.id} is a slice of ${this.iommu.name}`,
    );
  }

  destroy(): void {
    for (const id of this.virtualIds.values()) id.unset();
    this.driver.onEvent = null;
    if (this.driver.region) this.regions?.remove(this.driver.region);
    this.driver.free();
    unuse(this.parent);
  }
}

/** IOMMU_VIOMMU_ALLOC */
export function viommuAlloc(command: Command): void {
  const { objects, dialect, host } = command.context;
  const c = new ViommuAlloc(command.bytes);
  if (c.flags) throw fail('EOPNOTSUPP', `flags ${hex(c.flags)} must be 0`);
  if (c.type === TYPE_DEFAULT && !dialect.behaviour.viommuTypeDefaultAllowed) {
    throw fail('EOPNOTSUPP', 'type 0 (IOMMU_VIOMMU_TYPE_DEFAULT) is no type of vIOMMU');
  }
  const device = objects.get(c.devId, IommufdDevice, 'dev_id').physical;
  if (device.viommuTypes && !device.viommuTypes.includes(c.type)) {
    throw fail('EOPNOTSUPP', `type ${hex(c.type)} is none of ${device.driver.name}: ${device.viommuTypes.join(', ')}`);
  }
  const parent = objects.get(c.hwptId, HwptPaging, 'hwpt_id');
  if (!parent.nestParent) {
    throw fail('EINVAL', `hwpt_id ${c.hwptId} was not allocated with IOMMU_HWPT_ALLOC_NEST_PARENT`);
  }
  if (host.oneViommuPerPiommu) {
    const other = objects.all().find((object) => object instanceof Viommu && object.iommu === device.driver);
    if (other) throw fail('EEXIST', `vIOMMU ${other.id} is a slice of ${device.driver.name}: this machine allows one`);
  }
  const data = c.dataLen ? new CallerData(command.caller.memory, c.type, c.dataLen, c.dataUptr) : null;
  const driver = device.allocViommu(c.type, parent.domain, data);
  const viommu = command.create(new Viommu(c.type, driver, parent, device.driver));
  viommu.placeRegion(command.context.mmapRegions);
  c.outViommuId = viommu.id;
  command.respond();
}
