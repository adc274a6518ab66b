/** The end of objects. A refusal is written down, and the rest is ended all the same. */
import { Destroy, IOMMU_DESTROY } from '../abi/iommufd.ts';
import { type Client, Refused } from './client.ts';

export class Teardown {
  /** What was refused so far. */
  readonly refusals: Refused[];
  private readonly client: Client;
  private readonly iommufd: number;
  private readonly panics: boolean;

  /** @param panics the first refusal is thrown instead */
  constructor(client: Client, iommufd: number, panics: boolean) {
    this.refusals = [];
    this.client = client;
    this.iommufd = iommufd;
    this.panics = panics;
  }

  destroy(id: number): void {
    this.attempt(() => this.client.ioctl(this.iommufd, IOMMU_DESTROY, Destroy, { id }));
  }

  attempt(step: () => void): void {
    try {
      step();
    } catch (error) {
      if (!(error instanceof Refused) || this.panics) throw error;
      this.refusals.push(error);
    }
  }
}
