/** The uAPI as data: what `uiommufd/abi` exports. */
export * from './dialects.ts';
export * from './errno.ts';
export * from './ioctl.ts';
export * from './iommufd.ts';
export * from './iommufd-test.ts';
export * from './iommufd-viommu-v2.ts';
export * from './struct.ts';
export * from './structs.ts';
export * from './vfio.ts';
export * from './vfio-group.ts';
export * from './vfio-type1.ts';
