// The import arrows of the house: a folder may import itself and what stands to its right, nothing else.
//   cli -> server -> host -> vfio -> iommufd -> drivers -> hardware -> memory
// abi is for iommufd, vfio, drivers, server, client, cli and the printers of trace; trace/events.ts is imported as types by everyone.
const chain = ['cli', 'server', 'host', 'vfio', 'iommufd', 'drivers', 'hardware', 'memory'];
const mayUseAbi = new Set(['cli', 'server', 'host', 'vfio', 'iommufd', 'drivers']);

const inHouse = chain.map((folder, i) => {
  const allowed = [...chain.slice(i), ...(mayUseAbi.has(folder) ? ['abi'] : [])];
  const trace = i <= 2 ? '^src/trace/' : '^src/trace/events\\.ts$';
  return {
    name: `${folder}-imports-only-rightwards`,
    severity: 'error',
    from: { path: `^src/${folder}/`, pathNot: '\\.(test|bench)\\.ts$' },
    to: { path: '^src/', pathNot: [`^src/(${allowed.join('|')})/`, trace] },
  };
});

module.exports = {
  forbidden: [
    ...inHouse,
    {
      name: 'vmm-knows-no-processes',
      comment: 'the in-process VMM stands beside server: it sees the host and what is beneath',
      severity: 'error',
      from: { path: '^src/vmm/', pathNot: '\\.(test|bench)\\.ts$' },
      to: { path: '^src/(cli|server|client)/' },
    },
    {
      name: 'only-faces-show-the-vmm',
      severity: 'error',
      from: { path: '^src/', pathNot: '^src/(vmm|cli|explorer|index\\.ts)|\\.(test|bench)\\.ts$' },
      to: { path: '^src/vmm/' },
    },
    {
      name: 'abi-imports-nothing',
      severity: 'error',
      from: { path: '^src/abi/', pathNot: '\\.(test|bench)\\.ts$' },
      to: { path: '^src/', pathNot: '^src/abi/' },
    },
    {
      name: 'client-knows-only-abi',
      severity: 'error',
      from: { path: '^src/client/', pathNot: '\\.(test|bench)\\.ts$' },
      to: { path: '^src/', pathNot: '^src/(abi|client)/' },
    },
    {
      name: 'trace-reads-layouts-only',
      comment: 'printers decode with the layouts of abi and hardware/*/spec; they never see behaviour',
      severity: 'error',
      from: { path: '^src/trace/', pathNot: '\\.(test|bench)\\.ts$' },
      to: { path: '^src/', pathNot: '^src/(abi|trace)/|^src/hardware/[^/]+/spec/' },
    },
    {
      name: 'spec-holds-facts',
      comment: 'a spec file imports other spec files only',
      severity: 'error',
      from: { path: '^src/hardware/[^/]+/spec/', pathNot: '\\.test\\.ts$' },
      to: { path: '^src/', pathNot: '/spec/' },
    },
    {
      name: 'runs-in-a-browser',
      severity: 'error',
      from: {
        path: '^src/(abi|memory|hardware|drivers|iommufd|vfio|host|vmm|trace)/',
        pathNot: '\\.(test|bench)\\.ts$',
      },
      to: { dependencyTypes: ['core'] },
    },
    {
      name: 'no-cycles',
      severity: 'error',
      from: {},
      to: { circular: true, viaOnly: { dependencyTypesNot: ['type-only'] } },
    },
    {
      name: 'no-tests-in-the-product',
      severity: 'error',
      from: { path: '^src/', pathNot: '\\.(test|bench)\\.ts$|/testing\\.ts$' },
      to: { path: '\\.(test|bench)\\.ts$|/testing\\.ts$' },
    },
  ],
  options: {
    doNotFollow: { path: 'node_modules' },
    tsPreCompilationDeps: true,
    tsConfig: { fileName: 'tsconfig.json' },
    enhancedResolveOptions: { extensions: ['.ts', '.js'] },
  },
};
