/**
 * The machine `mock`: a kernel built with CONFIG_IOMMUFD_TEST and nothing else. Programs make its devices themselves,
 * by IOMMU_TEST_CMD.
 */
import { DEFAULT_DIALECT, type Dialect, dialect } from '../abi/dialects.ts';
import { fail } from '../abi/errno.ts';
import { mockRelease, withTestCommand } from '../abi/mock-dialect.ts';
import { FailurePoints } from '../drivers/failure-points.ts';
import { MockIommu } from '../drivers/mock/mock-iommu.ts';
import type { Handler } from '../iommufd/command.ts';
import { IommufdContext } from '../iommufd/context.ts';
import type { ClientProcess, OpenFile } from '../iommufd/file.ts';
import { testCommand } from '../iommufd/test-command/test-command.ts';
import { PhysicalMemory } from '../memory/physical-memory.ts';
import { PinnedMemory } from '../memory/pinned-memory.ts';
import { SILENT, type Tracer } from '../trace/events.ts';
import { FailNthFile } from './fail-nth-file.ts';
import { DEBUGFS, FAIL_NTH_NODE, FAULT_INJECTION_FILES } from './fault-injection.ts';
import { OpenContexts } from './open-contexts.ts';

/** Its name among the presets: there is nothing to describe about it. */
export const MOCK_MACHINE = { name: 'mock', summary: "the kernel's mock IOMMU, for its iommufd selftests" } as const;

export interface MockMachineOptions {
  /** The newest release's when absent. */
  readonly dialect?: Dialect;
  readonly tracer?: Tracer;
}

const IOMMU_NODE = { path: '/dev/iommu', major: 10, minor: 127 } as const;

/** Programs' pages: the whole physical address space but its first slot. */
const WINDOW = { firstSlot: 1, slots: 2 ** 20 } as const;

export class MockMachine {
  readonly dialect: Dialect;
  readonly iommu: MockIommu;
  readonly pinned: PinnedMemory;
  readonly deviceNodes = [IOMMU_NODE, FAIL_NTH_NODE];
  readonly sysfs = FAULT_INJECTION_FILES;
  readonly ownedRoots = [IOMMU_NODE.path, FAIL_NTH_NODE.path, DEBUGFS];
  private readonly tracer: Tracer;
  private readonly testCommand: Handler;
  private readonly contexts: OpenContexts;

  constructor(options: MockMachineOptions = {}) {
    this.dialect = withTestCommand(options.dialect ?? dialect(DEFAULT_DIALECT));
    this.tracer = options.tracer ?? SILENT;
    this.iommu = new MockIommu(mockRelease(this.dialect));
    this.pinned = new PinnedMemory(new PhysicalMemory(), WINDOW);
    this.testCommand = testCommand(this.iommu);
    this.contexts = new OpenContexts();
  }

  /** Opens a device node. ENOENT when there is none of that name. */
  open(path: string, _flags = 0, caller?: ClientProcess): OpenFile {
    if (path === FAIL_NTH_NODE.path) return new FailNthFile(caller?.failures ?? new FailurePoints());
    if (path !== IOMMU_NODE.path) throw fail('ENOENT', `${path} is not a device of this machine`);
    const { pinned, tracer, testCommand: handler } = this;
    const host = { pinned, tracer, testCommand: handler };
    const context = new IommufdContext({ dialect: this.dialect, host, device: IOMMU_NODE });
    return this.contexts.add(context);
  }

  /** Nothing happens by itself on this machine. */
  settle(): boolean {
    return true;
  }

  /** What the machine holds for programs. All zero when none is left. */
  leftovers(): Record<string, number> {
    const { pinnedFrames, windowsInUse: windows } = this.pinned;
    return { objects: this.contexts.objects, pinnedFrames, windows, ...this.iommu.resources };
  }
}
