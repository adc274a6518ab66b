/** The typed client of the uAPI: what `uiommufd/client` exports. Layouts and constants are in `uiommufd/abi`. */
export * from './command-file.ts';
export * from './commands.ts';
export * from './event-files.ts';
export * from './iommufd.ts';
export * from './koffi.ts';
export * from './refusal.ts';
export * from './system.ts';
export { TEST_OPERATIONS, type TestOperations } from './test-command.ts';
export * from './vfio.ts';
export * from './vfio-group.ts';
