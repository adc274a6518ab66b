import { describe, expect, it } from 'vitest';
import { testMachine } from '../../test/host/program.ts';
import { Vm } from '../../test/host/vm.ts';

describe('a function that is given back', () => {
  it('keeps ATS while its IOMMU group is attached: the driver of the IOMMU switches that, not who had the function', async () => {
    const { machine } = testMachine({
      preset: 'page-faults',
      change: (text) => {
        const alike = { ...text.functions[1]!, acs: false };
        text.functions = [0, 1].map((n) => ({ ...alike, bdf: `0000:03:00.${n}` }));
      },
    });
    const ats = () => machine.devices.map(({ fn }) => fn.config.get('ATS_CONTROL') >>> 15);
    const vm = await Vm.start(machine);
    const [first, second] = [await vm.device(0), await vm.device(1)];
    await first.attach(vm.ioasId);
    expect(ats()).toEqual([1, 1]);
    vm.program.close(second.fd);
    expect(ats()).toEqual([1, 1]);
    const again = await vm.device(1);
    await first.detach();
    vm.program.close(again.fd);
    expect(ats()).toEqual([0, 0]);
  });
});
