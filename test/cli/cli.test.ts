import { spawnSync } from 'node:child_process';
import {
  closeSync,
  existsSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { DIALECTS } from '../../src/abi/dialects.ts';
import { Cli, ending } from './cli.ts';

let cli: Cli;
let scratch: string;
beforeAll(async () => {
  cli = await Cli.build();
}, 120_000);
afterAll(() => cli?.remove());
beforeEach(() => {
  scratch = mkdtempSync(path.join(tmpdir(), 'cli-scratch-'));
});
afterEach(() => {
  rmSync(scratch, { recursive: true, force: true });
  expect(cli.left).toEqual([]);
});

const shell = (script: string): string[] => ['run', '--', 'sh', '-c', script];
/** One line, from us, without the stack of an error. */
const ONE_SENTENCE = /^uiommufd: [^\n]+\n$/;

describe('help', () => {
  it('names every command and shows how to begin', async () => {
    const { status, stdout } = await cli.run(['--help']);
    expect(status).toBe(0);
    for (const word of ['run', 'demo', 'machines', 'abi', 'Examples:', '--version']) expect(stdout).toContain(word);
  });

  it.each([
    [
      'run',
      [
        '--machine',
        '--abi',
        '--vmid-policy',
        '--fail-nth',
        '--trace',
        '--trace-all',
        '--trace-file',
        '--trace-json',
        '125',
        '127',
      ],
    ],
    ['demo', ['--machine', '--vmid-policy', '--quiet', 'dialects']],
    ['machines', ['--schema', 'machine']],
    ['abi', ['dialect']],
  ])('of %s names its arguments and options, with examples', async (command, words) => {
    const { status, stdout } = await cli.run([command, '--help']);
    expect(status).toBe(0);
    for (const word of [...words, 'Usage:', 'Examples:']) expect(stdout).toContain(word);
  });

  it('has the version of the package', async () => {
    const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8'));
    expect((await cli.run(['--version'])).stdout).toBe(`${version}\n`);
  });
});

describe('a mistake on the command line', () => {
  it.each([
    ['an unknown option', ['run', '--colour', '--', 'true']],
    ['no program', ['run']],
    ['an unknown dialect', ['run', '--abi', 'linux-9.9', '--', 'true']],
    ['an unknown machine', ['run', '--machine', 'one-smmu-too-many', '--', 'true']],
    ['an unknown policy', ['run', '--vmid-policy', 'random', '--', 'true']],
    ['a trace that cannot be written', ['run', '--trace-file', '/nowhere/trace', '--', 'true']],
  ])('%s is told in one sentence, status 125', async (_what, args) => {
    const { status, stdout, stderr } = await cli.run(args);
    expect(stderr).toMatch(ONE_SENTENCE);
    expect({ status, stdout }).toEqual({ status: 125, stdout: '' });
  });

  it('in a dialect name shows the names there are', async () => {
    const { stderr } = await cli.run(['run', '--abi', 'linux-9.9', '--', 'true']);
    for (const { name } of DIALECTS) expect(stderr).toContain(name);
  });

  it('in a machine file names the key', async () => {
    const file = path.join(scratch, 'machine.json');
    const { stdout } = await cli.run(['machines', 'two-smmus']);
    const machine = JSON.parse(stdout);
    machine.iommus[1].colour = 'blue';
    writeFileSync(file, JSON.stringify(machine));
    const { status, stderr } = await cli.run(['run', '--machine', file, '--', 'true']);
    expect(stderr).toMatch(ONE_SENTENCE);
    expect(stderr).toMatch(/iommus\[1\].*colour/);
    expect(status).toBe(125);
  });

  it('in the JSON of a machine file says where', async () => {
    const file = path.join(scratch, 'machine.json');
    writeFileSync(file, '{ "iommus": [ }');
    const { status, stderr } = await cli.run(['run', '--machine', file, '--', 'true']);
    expect(stderr).toMatch(ONE_SENTENCE);
    expect(stderr).toContain(file);
    expect(status).toBe(125);
  });
});

describe('run', () => {
  it('passes the exit status on', async () => {
    expect((await cli.run(shell('exit 0'))).status).toBe(0);
    expect((await cli.run(shell('exit 7'))).status).toBe(7);
  });

  it.each(['SIGTERM', 'SIGKILL', 'SIGINT', 'SIGABRT'] as const)('dies of %s when the program does', async (signal) => {
    const { status, signal: died } = await cli.run(shell(`kill -${signal.slice(3)} $$`));
    expect({ status, died }).toEqual({ status: null, died: signal });
  });

  it('says 127 for a program that is not there, 126 for one that cannot be executed', async () => {
    const missing = await cli.run(['run', '--', path.join(scratch, 'nothing')]);
    expect(missing.status).toBe(127);
    expect(missing.stderr).toMatch(ONE_SENTENCE);
    const file = path.join(scratch, 'data');
    writeFileSync(file, 'no program', { mode: 0o644 });
    const data = await cli.run(['run', '--', file]);
    expect(data.status).toBe(126);
    expect(data.stderr).toMatch(ONE_SENTENCE);
  });

  it('says that it cannot reach a static program, and runs it', async () => {
    const source = path.join(scratch, 'static.c');
    writeFileSync(source, 'int main(void) { return 7; }');
    const program = path.join(scratch, 'static');
    if (spawnSync('cc', ['-static', '-o', program, source]).status !== 0) return;
    const { status, stdout, stderr } = await cli.run(['run', '--', program]);
    expect([status, stdout]).toEqual([7, '']);
    expect(stderr).toMatch(ONE_SENTENCE);
    expect(stderr).toContain('is statically linked');
  });

  it('leaves stdin, stdout and stderr to the program', async () => {
    const script = 'cat; echo to stderr >&2';
    expect(await cli.run(shell(script), 'from stdin\n')).toMatchObject({
      stdout: 'from stdin\n',
      stderr: 'to stderr\n',
    });
  });

  it('leaves inherited descriptors to the program', async () => {
    const file = openSync(new URL(import.meta.url).pathname, 'r');
    try {
      const { status, stdout } = await ending(cli.start(['run', '--', 'sh', '-c', 'head -c 2 <&3'], [file]));
      expect([status, stdout]).toEqual([0, 'im']);
    } finally {
      closeSync(file);
    }
  });

  it("leaves the real machine's devices where they are", async () => {
    const list = 'for link in /sys/class/net/* /sys/block/*; do realpath "$link"; done';
    const outside = spawnSync('sh', ['-c', list], { encoding: 'utf8' }).stdout;
    expect((await cli.run(['run', '--', 'sh', '-c', list])).stdout).toBe(outside);
  });

  it('passes options behind the program to the program', async () => {
    expect((await cli.run(['run', 'echo', '--trace', '-m', 'x'])).stdout).toBe('--trace -m x\n');
    expect((await cli.run(['run', '--', 'printf', '%s\\n', '--help'])).stdout).toBe('--help\n');
  });

  it('shows the program the machine', async () => {
    const { stdout } = await cli.run(shell('ls /dev/vfio/devices; test -c /dev/iommu && echo iommu'));
    expect(stdout).toBe('vfio0\nvfio1\niommu\n');
  });

  it('writes the trace to stderr, never to stdout', async () => {
    const { stdout, stderr } = await cli.run(['run', '--trace', '--', 'sh', '-c', 'exec 3</dev/iommu; echo opened']);
    expect(stdout).toBe('opened\n');
    expect(stderr).toMatch(/^iommu +open = /m);
  });

  it('writes traces to files', async () => {
    const [text, json] = ['text', 'json'].map((name) => path.join(scratch, name)) as [string, string];
    const traced = ['run', '--trace-file', text, '--trace-json', json, '--', 'sh', '-c', 'exec 3</dev/iommu'];
    expect(await cli.run(traced)).toMatchObject({ status: 0, stdout: '', stderr: '' });
    expect(readFileSync(text, 'utf8')).toMatch(/^iommu +open = /m);
    const events = readFileSync(json, 'utf8')
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line));
    expect(events).toContainEqual(expect.objectContaining({ type: 'file', call: 'open' }));
  });

  it('takes the JSON that "machines" prints', async () => {
    const file = path.join(scratch, 'machine.json');
    writeFileSync(file, (await cli.run(['machines', 'two-smmus'])).stdout);
    expect((await cli.run(['run', '-m', file, '--', 'ls', '/dev/vfio/devices'])).stdout).toBe('vfio0\nvfio1\n');
  });

  it('passes SIGTERM on, and lets the program decide', async () => {
    const child = cli.start(shell('trap "exit 9" TERM; echo ready; while :; do sleep 0.05; done'));
    child.stdout?.once('data', () => child.kill('SIGTERM'));
    expect((await ending(child)).status).toBe(9);
  });

  it('passes on a signal that comes before it has seen the program start', async () => {
    const { signal } = await cli.run(shell('kill -TERM $PPID; exec sleep 1000'));
    expect(signal).toBe('SIGTERM');
  });

  it.each(['SIGINT', 'SIGTERM', 'SIGHUP'] as const)('leaves nothing behind after %s', async (signal) => {
    const child = cli.start(shell('echo $$; exec sleep 1000'));
    const pid = await new Promise<number>((resolve) => child.stdout?.once('data', (line) => resolve(Number(line))));
    child.kill(signal);
    expect((await ending(child)).signal).toBe(signal);
    expect(existsSync(`/proc/${pid}`)).toBe(false);
  });

  it('leaves no file behind when it is killed outright', async () => {
    const child = cli.start(shell('echo $$; exec sleep 1000'));
    const pid = await new Promise<number>((resolve) => child.stdout?.once('data', (line) => resolve(Number(line))));
    expect(cli.left).not.toEqual([]);
    child.kill('SIGKILL');
    process.kill(pid, 'SIGKILL');
    await ending(child);
    await expect.poll(() => cli.left, { timeout: 10_000 }).toEqual([]);
  });

  it('leaves no process behind', async () => {
    const { stdout } = await cli.run(shell('echo $LD_PRELOAD'));
    const folder = path.dirname(stdout.trim());
    const commands = readdirSync('/proc')
      .filter((name) => /^\d+$/.test(name))
      .map(commandLine);
    expect(folder).toMatch(/^\//);
    expect(commands.filter((line) => line.includes(folder))).toEqual([]);
  });
});

function commandLine(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8');
  } catch {
    return '';
  }
}

describe('machines', () => {
  it('lists the presets', async () => {
    expect((await cli.run(['machines'])).stdout).toMatch(/^two-smmus/m);
  });

  it('prints the schema of a description', async () => {
    const schema = JSON.parse((await cli.run(['machines', '--schema'])).stdout);
    expect(schema).toMatchObject({ type: 'object', properties: { iommus: {} } });
  });
});

describe('abi', () => {
  it('lists every dialect with what it added', async () => {
    const { stdout } = await cli.run(['abi']);
    for (const { name } of DIALECTS) expect(stdout).toContain(name);
    expect(stdout).toMatch(/^linux-6\.13 +.*VIOMMU_ALLOC, VDEVICE_ALLOC/m);
    expect(stdout).toMatch(/^viommu-v2 +.*VIOMMU_SET_VDEV_ID/m);
  });

  it('lists the commands of one, with numbers and sizes', async () => {
    const { stdout } = await cli.run(['abi', 'viommu-v2']);
    expect(stdout).toMatch(/0x3b90 +IOMMU_VIOMMU_SET_VDEV_ID +24 bytes/);
    expect((await cli.run(['abi', 'linux-7.1'])).stdout).toMatch(/0x3b90 +IOMMU_VIOMMU_ALLOC +24-40 bytes/);
  });
});

describe('the demo', () => {
  it.each(['linux-7.1', 'viommu-v2'])(
    'shows in %s what it promises',
    async (dialect) => {
      const { status, stdout, stderr } = await cli.run(['demo', dialect]);
      expect(stdout).not.toMatch(/^ *(not ok|NO |Bail out)/m);
      expect(stdout).toMatch(/IOMMU_VIOMMU_ALLOC .* = 0/);
      expect(stdout).toMatch(/= -1 ENOSPC/);
      expect(stdout).toMatch(/CMD_TLBI_NH_VA VMID=\d+ ASID=7/);
      expect(stdout).toMatch(/yes left behind when the program had ended: nothing/);
      expect({ status, stderr: stderr.replace(/^uiommufd: compiling .*\n/m, '') }).toEqual({ status: 0, stderr: '' });
    },
    60_000,
  );

  it('fails when two slices of an SMMU share a VMID, as they do in Linux now', async () => {
    const { status, stdout } = await cli.run(['demo', '--quiet', '--vmid-policy', 'per-domain', 'linux-7.1']);
    expect(stdout).toMatch(/^not ok \d+ - A: TLBI of another VMID on the same SMMU changes nothing/m);
    expect(status).toBe(1);
  }, 60_000);
});

describe('run --fail-nth', () => {
  const opens = ['--', 'sh', '-c', 'exec 3<>/dev/iommu && echo opened'];

  it('makes that allocation fail, and says which it was', async () => {
    const { status, stdout, stderr } = await cli.run(['run', '--machine', 'mock', '--fail-nth', '1', ...opens]);
    expect([status === 0, stdout]).toEqual([false, '']);
    expect(stderr).toMatch(
      /Cannot allocate memory[\s\S]*uiommufd: the allocation of the iommufd, number 1, was made to fail/,
    );
  });

  it('says so when the program did not come to it', async () => {
    const { status, stdout, stderr } = await cli.run(['run', '--machine', 'mock', '--fail-nth', '99', ...opens]);
    expect([status, stdout]).toEqual([0, 'opened\n']);
    expect(stderr).toBe("uiommufd: the program's calls made 1 allocations, so that number 99 did not fail\n");
  });

  it('is a number from 1 on', async () => {
    expect((await cli.run(['run', '--fail-nth', '0', ...opens])).status).toBe(125);
  });
});

describe('/proc/.../fail-nth on machine mock', () => {
  it('is there under every name of the thread itself, and under no other', async () => {
    const own = 'test -f /proc/$$/task/$$/fail-nth && test -f /proc/$$/fail-nth && test -f /proc/thread-self/fail-nth';
    const { status } = await cli.run([
      'run',
      '--machine',
      'mock',
      '--',
      'sh',
      '-c',
      `${own} && ! ls /proc/$$/fail-nth`,
    ]);
    expect(status).toBe(0);
  });

  it('counts the calls of that thread, and not those of its children', async () => {
    const script = [
      'exec 4<>/proc/$$/task/$$/fail-nth && echo 1 >&4 && (exec 3<>/dev/iommu) && echo child',
      'exec 3<>/dev/iommu && echo parent',
    ].join('\n');
    const { status, stdout, stderr } = await cli.run(['run', '--machine', 'mock', '--', 'sh', '-c', script]);
    expect([status === 0, stdout]).toEqual([false, 'child\n']);
    expect(stderr).toContain('Cannot allocate memory');
  });
});
