/**
 * Which functions vfio-pci drives, and the files by which programs change that: as in Linux, but for a function that is
 * open. A kernel has its unbind wait until it is closed; here that is EBUSY, after the same request to the owner to let go.
 * There is no other driver: a function that vfio-pci has left is without one.
 */
import { fail } from '../abi/errno.ts';
import type { FunctionIdentity } from '../hardware/pci/function-model.ts';
import type { VfioDevice } from '../vfio/device.ts';
import { resetPowered } from '../vfio/reset.ts';
import type { TextAttribute } from './attribute-file.ts';

const NAME = 'vfio-pci';
export const PCI_BUS = '/sys/bus/pci';
export const VFIO_PCI = `${PCI_BUS}/drivers/${NAME}`;
const ANY = 0xffff_ffff;

export interface DrivenFunction {
  readonly device: VfioDevice;
  /** Its folder in sysfs. */
  readonly path: string;
  /** The text of its file `uevent`, which names its driver. */
  readonly uevent: (driver: string | null) => string;
  /** Paths that are there only while vfio-pci drives it, and while it drives any of its group. */
  readonly whileDriven: readonly string[];
  readonly whileGroupDriven: readonly string[];
}

interface State extends DrivenFunction {
  driven: boolean;
  override: string | null;
}

/** What `new_id` takes: IDs, of the subsystem too, class and the bits of it that count. */
type Id = readonly [vendor: number, device: number, subvendor: number, subdevice: number, code: number, mask: number];

export class VfioPciDriver {
  readonly attributes: readonly TextAttribute[];
  /** Told which paths appear and vanish. */
  onVisible: ((path: string, visible: boolean) => void) | null;
  /** Told what a file holds from now on. */
  onContent: ((path: string, content: string) => void) | null;
  private readonly functions: readonly State[];
  private readonly ids: Id[];

  constructor(functions: readonly DrivenFunction[]) {
    this.functions = functions.map((fn) => ({ ...fn, driven: true, override: NAME }));
    this.ids = [];
    this.onVisible = null;
    this.onContent = null;
    this.attributes = [
      { path: `${VFIO_PCI}/bind`, store: (text) => this.bind(this.find(text)) },
      { path: `${VFIO_PCI}/unbind`, store: (text) => this.unbind(this.find(text)) },
      { path: `${VFIO_PCI}/new_id`, store: (text) => this.newId(parseId(text)) },
      { path: `${VFIO_PCI}/remove_id`, store: (text) => this.removeId(parseId(text)) },
      { path: `${PCI_BUS}/drivers_probe`, store: (text) => this.probe(this.find(text)) },
      ...this.functions.flatMap((fn) => attributesOf(fn)),
    ];
  }

  private find(text: string): State {
    const name = text.replace(/\n$/, '');
    const found = this.functions.find(({ device }) => device.fn.name === name);
    if (!found) throw fail('ENODEV', `"${name}" is no function that ${NAME} may drive`);
    return found;
  }

  private bind(fn: State): void {
    const { name } = fn.device.fn;
    if (!this.matches(fn))
      throw fail('ENODEV', `${name} is not for ${NAME}: neither driver_override nor new_id says so`);
    if (fn.driven) throw fail('EBUSY', `${NAME} drives ${name} already`);
    this.setDriven(fn, true);
  }

  private unbind(fn: State): void {
    const { device } = fn;
    if (!fn.driven) throw fail('ENODEV', `${NAME} does not drive ${device.fn.name}`);
    if (device.isOpen) {
      device.requestRelease();
      throw fail('EBUSY', `${device.fn.name} is open`);
    }
    this.setDriven(fn, false);
  }

  /** What no driver is for stays without one: that is no mistake. */
  private probe(fn: State): void {
    if (!fn.driven && this.matches(fn)) this.setDriven(fn, true);
  }

  private newId(id: Id): void {
    if (this.indexOf(id) >= 0) throw fail('EEXIST', `${NAME} has these IDs already`);
    this.ids.push(id);
    for (const fn of this.functions) this.probe(fn);
  }

  private removeId(id: Id): void {
    const index = this.indexOf(id);
    if (index < 0) throw fail('ENODEV', `${NAME} was not given these IDs`);
    this.ids.splice(index, 1);
  }

  private indexOf(id: Id): number {
    return this.ids.findIndex((other) => other.every((value, i) => value === id[i]));
  }

  private matches({ override, device }: State): boolean {
    if (override !== null) return override === NAME;
    return this.ids.some((id) => describes(id, device.fn.kind.identity));
  }

  private setDriven(fn: State, driven: boolean): void {
    const sharing = this.functions.filter((other) => other !== fn && other.device.group === fn.device.group);
    fn.driven = driven;
    const group = sharing.some((other) => other.driven) ? [] : fn.whileGroupDriven;
    for (const path of [...fn.whileDriven, ...group]) this.onVisible?.(path, driven);
    this.onContent?.(`${fn.path}/uevent`, fn.uevent(driven ? NAME : null));
  }
}

function attributesOf(fn: State): TextAttribute[] {
  return [
    {
      path: `${fn.path}/driver_override`,
      show: () => `${fn.override ?? '(null)'}\n`,
      store(text) {
        const [name] = text.split('\n');
        fn.override = name ? name : null;
      },
    },
    {
      path: `${fn.path}/reset`,
      store(text) {
        if (!/^(0x0*|0*)1\n?$/i.test(text)) throw fail('EINVAL', `${JSON.stringify(text)} is not 1`);
        resetPowered(fn.device.fn);
      },
    },
  ];
}

/** EINVAL unless there are two hexadecimal numbers at least. */
function parseId(text: string): Id {
  const words = text.trim().split(/\s+/);
  const numbers = words.map((word) => (/^(0x)?[0-9a-f]{1,8}$/i.test(word) ? Number.parseInt(word, 16) : Number.NaN));
  const [vendor, device, subvendor = ANY, subdevice = ANY, code = 0, mask = 0] = numbers;
  if (vendor === undefined || device === undefined || numbers.some(Number.isNaN)) {
    throw fail('EINVAL', `${JSON.stringify(text)} does not begin with the IDs of a vendor and a device`);
  }
  return [vendor, device, subvendor, subdevice, code, mask];
}

function describes(id: Id, identity: FunctionIdentity): boolean {
  const { vendorId, deviceId, subsystemVendorId, subsystemId, classCode } = identity;
  const same = [vendorId, deviceId, subsystemVendorId, subsystemId].every((own, i) => id[i] === ANY || id[i] === own);
  return same && ((classCode ^ id[4]) & id[5]) === 0;
}
