/** A host that writes down what it is asked for, for tests without a machine. */

import { Refused } from '../client.ts';
import { GuestRam } from '../guest/ram.ts';
import type { HostSpace } from './host-space.ts';
import { ShadowSpace } from './shadow-space.ts';

const USER_VA = 0x7000_0000_0000n;

const hex = (value: bigint): string => value.toString(16);

export class RecordedHost implements HostSpace {
  readonly alignment = 4096n;
  readonly usable = [{ start: 0n, last: 2n ** 48n - 1n }];
  /** Calls since the last look, addresses as offsets into guest RAM. */
  readonly calls: string[] = [];
  refuses = false;

  map(iova: bigint, userVa: bigint, length: bigint, prot: number): void {
    this.calls.push(`map ${hex(iova)} -> RAM + ${hex(userVa - USER_VA)}, ${hex(length)} bytes, ${prot}`);
    if (this.refuses) throw new Refused('EINVAL', 'iommu_ioas_map', 'a host that refuses');
  }

  unmap(iova: bigint, length: bigint): void {
    this.calls.push(`unmap ${hex(iova)}, ${hex(length)} bytes`);
  }

  unmapAll(): void {
    this.calls.push('unmap all');
  }

  take(): string[] {
    return this.calls.splice(0);
  }
}

/** Guest RAM with a device that has nothing mapped. */
export function recordedSpace(ramBytes = 0x10_0000) {
  const host = new RecordedHost();
  const ram = new GuestRam(new Uint8Array(ramBytes));
  const space = new ShadowSpace(host, { userVa: USER_VA, bytes: ramBytes });
  return { host, ram, space };
}
