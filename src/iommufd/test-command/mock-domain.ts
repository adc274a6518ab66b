/** A mock device as an object of the iommufd, which makes, binds and attaches it; destroying the object ends all that. */
import { TestMockDomain, TestMockDomainReplace } from '../../abi/iommufd-test.ts';
import type { MockDevice } from '../../drivers/mock/device.ts';
import type { MockIommu } from '../../drivers/mock/mock-iommu.ts';
import type { Command } from '../command.ts';
import { IommufdDevice } from '../device.ts';
import { IommufdObject } from '../objects.ts';
import type { Operation } from './test-command.ts';

export class MockDeviceObject extends IommufdObject {
  readonly mock: MockIommu;
  /** Set as far as start() came. */
  private physical: MockDevice | null;
  private bound: IommufdDevice | null;

  constructor(mock: MockIommu) {
    super();
    this.mock = mock;
    this.physical = null;
    this.bound = null;
  }

  get kind(): 'mock-device' {
    return 'mock-device';
  }

  get device(): IommufdDevice {
    return this.bound!;
  }

  /** @returns the ID of the HWPT that it is attached to */
  start({ context }: Command, flags: number, ptId: number): number {
    this.physical = this.mock.createDevice(flags);
    this.bound = IommufdDevice.bind(context, this.physical, this.physical.name, undefined, false);
    return this.bound.attach(ptId);
  }

  destroy(): void {
    if (this.bound) {
      // A program may be killed with PASIDs attached.
      for (const pasid of [...this.bound.group.attachments.keys()]) this.bound.detach(pasid);
      this.bound.unbind();
    }
    if (this.physical) this.mock.destroyDevice(this.physical);
  }
}

/** MOCK_DOMAIN and, when `withFlags`, MOCK_DOMAIN_FLAGS. */
export const mockDomain =
  (mock: MockIommu, withFlags: boolean): Operation =>
  (command, { id }, payload) => {
    const c = new TestMockDomain(payload);
    const object = command.create(new MockDeviceObject(mock));
    c.outHwptId = object.start(command, withFlags ? c.devFlags : 0, id);
    c.outStdevId = object.id;
    c.outIdevId = object.device.id;
    command.respond();
  };

export const mockDomainReplace: Operation = (command, { id }, payload) => {
  const c = new TestMockDomainReplace(payload);
  c.ptId = command.context.objects.get(id, MockDeviceObject, 'id').device.replace(c.ptId);
  command.respond();
};
