/** The library: a machine, a server that shows it to programs, a VMM inside this process, and what tells what happened. */
export { DIALECTS, type Dialect, dialect } from './abi/dialects.ts';
export { FailurePoints } from './drivers/failure-points.ts';
export { Machine, type MachineOptions } from './host/machine.ts';
export {
  type MachineDescription,
  type MachineInput,
  machineSchema,
  parseMachine,
} from './host/machine-description.ts';
export { MachineError } from './host/machine-error.ts';
export { PRESETS, preset } from './host/presets.ts';
export { type RunOptions, type RunResult, runProgram } from './server/run.ts';
export { type ClientCounts, Server, type ServerOptions } from './server/server.ts';
export type { TraceEvent, Tracer } from './trace/events.ts';
export { jsonLines } from './trace/json-lines.ts';
export { type CommandLookup, commandsOf } from './trace/print-ioctl.ts';
export { Printer, type PrinterOptions, type Style } from './trace/printer.ts';
export { Recorder, type Sink, Trace } from './trace/trace.ts';
export { FAULTS, type FaultName, type Faults } from './vmm/faults.ts';
export { Guest } from './vmm/guest/guest.ts';
export { NvmeDriver } from './vmm/guest/nvme-driver.ts';
export { ProbeDriver } from './vmm/guest/probe-driver.ts';
export { type FunctionChoice, Vm, type VmOptions, type VmSmmu } from './vmm/vm.ts';
