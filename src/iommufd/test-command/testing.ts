/** A program on a machine with the mock driver. */
import { DEFAULT_DIALECT, dialect } from '../../abi/dialects.ts';
import type { ErrnoName } from '../../abi/errno.ts';
import * as abi from '../../abi/iommufd-test.ts';
import { mockRelease } from '../../abi/mock-dialect.ts';
import type { AnyStruct } from '../../abi/struct.ts';
import { MockIommu } from '../../drivers/mock/mock-iommu.ts';
import { errnoName, Program } from '../testing.ts';

type Values = Record<string, number | bigint>;

export class MockProgram extends Program {
  readonly mock: MockIommu;

  constructor(release = DEFAULT_DIALECT) {
    const mock = new MockIommu(mockRelease(dialect(release)));
    super({ abi: release, mock });
    this.mock = mock;
  }

  /** Makes an operation of IOMMU_TEST_CMD, which must succeed, and gives its payload as it is afterwards. */
  test<S extends AnyStruct>(op: number, id: number, layout: S, values: Values): InstanceType<S> {
    const cmd = this.ok(abi.IOMMU_TEST_CMD, abi.TestCmd, testValues(op, id, layout, values));
    return new layout(cmd.payload) as InstanceType<S>;
  }

  /** The name of the errno with which the operation is refused; '' when it is not. */
  testErr<S extends AnyStruct>(op: number, id: number, layout: S, values: Values): ErrnoName | '' {
    return this.err(abi.IOMMU_TEST_CMD, abi.TestCmd, testValues(op, id, layout, values));
  }

  /** For operations that open a descriptor. */
  async testAsync<S extends AnyStruct>(op: number, id: number, layout: S, values: Values): Promise<InstanceType<S>> {
    const cmd = await this.okAsync(abi.IOMMU_TEST_CMD, abi.TestCmd, testValues(op, id, layout, values));
    return new layout(cmd.payload) as InstanceType<S>;
  }

  /** A mock device that is attached to `ptId`. */
  device(ptId: number, devFlags = 0): { stdevId: number; hwptId: number; idevId: number } {
    const op = abi.IOMMU_TEST_OP_MOCK_DOMAIN_FLAGS;
    const { outStdevId, outHwptId, outIdevId } = this.test(op, ptId, abi.TestMockDomain, { devFlags });
    return { stdevId: outStdevId, hwptId: outHwptId, idevId: outIdevId };
  }

  /** A descriptor of an access to an IOAS. */
  async access(ioasId: number, flags: number): Promise<number> {
    const op = abi.IOMMU_TEST_OP_CREATE_ACCESS;
    return (await this.testAsync(op, ioasId, abi.TestCreateAccess, { flags })).outAccessFd;
  }

  /** read(2) from a descriptor: the bytes, or the errno's name. */
  read(fd: number, count: number): Uint8Array | ErrnoName | '' {
    const { process } = this;
    const address = this.scratch + 0x400;
    const result = this.call(() => process.fileOf(fd)!.read(process, BigInt(address), count, null));
    if (result < 0) return errnoName(result);
    const bytes = new Uint8Array(result);
    process.memory.read(address, bytes);
    return bytes;
  }

  /** write(2) to a descriptor: how many bytes, or the errno's name. */
  write(fd: number, bytes: Uint8Array): number | ErrnoName | '' {
    const { process } = this;
    const address = this.put(bytes, 0x400);
    const result = this.call(() => process.fileOf(fd)!.write(process, address, bytes.length, null));
    return result < 0 ? errnoName(result) : result;
  }

  private call(run: () => number): number {
    try {
      return run();
    } catch (error) {
      return -(error as { errno: number }).errno;
    }
  }
}

function testValues(op: number, id: number, layout: AnyStruct, values: Values): Values {
  const payload = Object.assign(new layout(new Uint8Array(abi.TEST_PAYLOAD_BYTES)), values);
  return { op, id, payload: payload.bytes } as unknown as Values;
}
