/**
 * A virtio-iommu as the guest sees it (virtio 1.2, 5.13): the guest says what it maps, and the host's mappings follow. What
 * the device is told of pages and of address ranges is the host's, and the guest reads it before anything else. Requests are
 * handed over as the two buffers that they are; the queue in which a guest finds them is not here.
 */
import { Interval, IntervalTree } from '../../../iommufd/interval.ts';
import type { ShadowFaults } from '../faults.ts';
import { READ, type Span, WRITE } from '../host-space.ts';
import type { Leaf, ShadowSpace } from '../shadow-space.ts';
import type { Status } from './spec.ts';
import * as spec from './spec.ts';

export interface Endpoint {
  readonly id: number;
  readonly space: ShadowSpace;
}

class Mapping extends Interval {
  readonly leaf: Leaf;

  constructor(leaf: Leaf) {
    super(leaf.iova, leaf.iova + leaf.length - 1n);
    this.leaf = leaf;
  }
}

interface Domain {
  readonly mappings: IntervalTree<Mapping>;
  readonly endpoints: Set<Endpoint>;
}

const U64_MAX = 2n ** 64n - 1n;
const EVERYTHING: Span = { start: 0n, last: U64_MAX };
const PROBE_BYTES = 512;
const KNOWN_FLAGS = spec.MAP_READ | spec.MAP_WRITE;

export class VirtualVirtioIommu {
  readonly config: InstanceType<typeof spec.Config>;
  private readonly endpoints: readonly Endpoint[];
  private readonly faults: ShadowFaults;
  private readonly domains: Map<number, Domain>;

  constructor(endpoints: readonly Endpoint[], faults: ShadowFaults) {
    this.endpoints = endpoints;
    this.faults = faults;
    this.domains = new Map();
    this.config = this.makeConfig();
  }

  /**
   * @param readable the request, without its tail
   * @param writable where its tail goes, behind the properties of a PROBE
   */
  request(readable: Uint8Array, writable: Uint8Array): void {
    const tail = writable.length - spec.TAIL_BYTES;
    if (tail >= 0) writable[tail] = spec.STATUS[this.execute(readable, writable.subarray(0, tail))];
  }

  private execute(request: Uint8Array, properties: Uint8Array): Status {
    const layout = LAYOUTS[request[0] ?? 0];
    if (!layout) return 'UNSUPP';
    if (request.length < layout.size) return 'INVAL';
    switch (request[0]) {
      case spec.T_ATTACH:
        return this.attach(new spec.AttachRequest(request));
      case spec.T_DETACH:
        return this.detach(new spec.DetachRequest(request));
      case spec.T_MAP:
        return this.map(new spec.MapRequest(request));
      case spec.T_UNMAP:
        return this.unmap(new spec.UnmapRequest(request));
      default:
        return this.probe(new spec.ProbeRequest(request), properties);
    }
  }

  /** A domain begins with its first endpoint. What is mapped in it is mapped for the new one. */
  private attach({ domain: id, endpoint: endpointId, flags }: InstanceType<typeof spec.AttachRequest>): Status {
    const endpoint = this.endpoints.find((candidate) => candidate.id === endpointId);
    if (!endpoint) return 'NOENT';
    if (flags) return 'INVAL';
    if (id > this.config.domainEnd) return 'RANGE';
    this.leave(endpoint);
    const domain = this.domains.get(id) ?? { mappings: new IntervalTree(), endpoints: new Set() };
    for (const { leaf } of domain.mappings) {
      if (endpoint.space.set(leaf) || this.faults.hideRefusals) continue;
      endpoint.space.clear(EVERYTHING);
      return 'UNSUPP';
    }
    this.domains.set(id, domain);
    domain.endpoints.add(endpoint);
    return 'OK';
  }

  private detach({ domain: id, endpoint: endpointId }: InstanceType<typeof spec.DetachRequest>): Status {
    const endpoint = this.endpoints.find((candidate) => candidate.id === endpointId);
    const domain = this.domains.get(id);
    if (!endpoint || !domain) return 'NOENT';
    if (!domain.endpoints.has(endpoint)) return 'INVAL';
    this.leave(endpoint);
    return 'OK';
  }

  /** A domain ends with its last endpoint, and its mappings with it. */
  private leave(endpoint: Endpoint): void {
    for (const [id, { endpoints }] of this.domains) {
      if (endpoints.delete(endpoint) && endpoints.size === 0) this.domains.delete(id);
    }
    endpoint.space.clear(EVERYTHING);
  }

  private map({ domain: id, virtStart, virtEnd, physStart, flags }: InstanceType<typeof spec.MapRequest>): Status {
    const domain = this.domains.get(id);
    if (!domain) return 'NOENT';
    if (flags & ~KNOWN_FLAGS || !(flags & KNOWN_FLAGS) || virtStart > virtEnd) return 'INVAL';
    if (!this.fits(virtStart, virtEnd) || this.isMisaligned(physStart)) return 'RANGE';
    if (domain.mappings.first(virtStart, virtEnd)) return 'INVAL';
    const prot = (flags & spec.MAP_READ ? READ : 0) | (flags & spec.MAP_WRITE ? WRITE : 0);
    const leaf = { iova: virtStart, gpa: physStart, length: virtEnd - virtStart + 1n, prot };
    const done = [...domain.endpoints].every(({ space }) => space.set(leaf));
    if (!done && !this.faults.hideRefusals) {
      for (const { space } of domain.endpoints) space.clear({ start: virtStart, last: virtEnd });
      return 'INVAL';
    }
    domain.mappings.insert(new Mapping(leaf));
    return 'OK';
  }

  /** Mappings go as a whole: where one is cut, none goes. */
  private unmap({ domain: id, virtStart, virtEnd }: InstanceType<typeof spec.UnmapRequest>): Status {
    const domain = this.domains.get(id);
    if (!domain) return 'NOENT';
    if (virtStart > virtEnd) return 'INVAL';
    const gone: Mapping[] = [];
    for (let at = domain.mappings.first(virtStart, virtEnd); at; at = domain.mappings.first(at.last + 1n, virtEnd)) {
      if (at.start < virtStart || at.last > virtEnd) return 'RANGE';
      gone.push(at);
      if (at.last === U64_MAX) break;
    }
    const span = { start: virtStart, last: virtEnd };
    for (const { space } of domain.endpoints) space.clear(this.faults.roundUnmaps ? rounded(span) : span);
    for (const mapping of gone) domain.mappings.remove(mapping);
    return 'OK';
  }

  private probe({ endpoint: id }: InstanceType<typeof spec.ProbeRequest>, properties: Uint8Array): Status {
    const endpoint = this.endpoints.find((candidate) => candidate.id === id);
    if (!endpoint) return 'NOENT';
    if (properties.length < PROBE_BYTES) return 'INVAL';
    properties.fill(0);
    if (this.faults.hideReservedRegions) return 'OK';
    const item = new spec.ReservedMemory();
    for (const [index, { start, last }] of gaps(endpoint.space.host.usable).entries()) {
      const length = spec.ReservedMemory.size - 4;
      Object.assign(item, { type: spec.PROBE_T_RESV_MEM, length, subtype: spec.RESV_MEM_T_RESERVED, start, end: last });
      properties.set(item.bytes, index * spec.ReservedMemory.size);
    }
    return 'OK';
  }

  private fits(start: bigint, last: bigint): boolean {
    const { inputStart, inputEnd } = this.config;
    return start >= inputStart && last <= inputEnd && !this.isMisaligned(start) && !this.isMisaligned(last + 1n);
  }

  private isMisaligned(address: bigint): boolean {
    const granule = this.config.pageSizeMask & -this.config.pageSizeMask;
    return address % granule !== 0n;
  }

  /** Of all hosts' ranges and alignments what suits every endpoint. */
  private makeConfig(): InstanceType<typeof spec.Config> {
    const hosts = this.endpoints.map(({ space }) => space.host);
    const alignments = this.faults.freezeGranule ? [4096n] : hosts.map(({ alignment }) => alignment);
    const starts = hosts.map(({ usable }) => usable[0]!.start);
    const ends = hosts.map(({ usable }) => usable.at(-1)!.last);
    return Object.assign(new spec.Config(), {
      pageSizeMask: BigInt.asUintN(64, -alignments.reduce((most, next) => (next > most ? next : most))),
      inputStart: starts.reduce((most, next) => (next > most ? next : most)),
      inputEnd: ends.reduce((least, next) => (next < least ? next : least)),
      domainStart: 0,
      domainEnd: 0xffff_ffff,
      probeSize: PROBE_BYTES,
    });
  }
}

const LAYOUTS: readonly ({ readonly size: number } | undefined)[] = [
  undefined,
  spec.AttachRequest,
  spec.DetachRequest,
  spec.MapRequest,
  spec.UnmapRequest,
  spec.ProbeRequest,
];

/** What is between ranges that are in order. */
const gaps = (ranges: readonly Span[]): Span[] =>
  ranges.slice(1).map(({ start }, index) => ({ start: ranges[index]!.last + 1n, last: start - 1n }));

/** A range as one aligned power of two, at or below its start. */
function rounded({ start, last }: Span): Span {
  const bytes = 2n ** BigInt((last - start + 1n).toString(2).length - 1);
  const from = start & -bytes;
  return { start: from, last: from + bytes - 1n };
}
