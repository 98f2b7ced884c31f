/** `skos doctor`: GPUs, from the bus over driver and library to what skos-gpu serves. */
import { stat } from 'node:fs/promises';
import type { GpuLibrary, GpuView, Tree } from '../core/ports.js';
import type { Finding } from '../sensors/finding.js';
import { type PciGpu, pciGpus } from '../sensors/pci-gpus.js';
import type { Io } from './command.js';
import type { Seen, Trees } from './doctor-machine.js';
import { clean, plural } from './format.js';
import { stateNext } from './gpu-text.js';

/** Where distributions and NVIDIA's installer put libraries, beside what ld.so's cache names. */
const LIBRARY_DIRECTORIES = [
  'usr/lib/x86_64-linux-gnu',
  'usr/lib/aarch64-linux-gnu',
  'usr/lib64',
  'usr/lib',
  'lib64',
  'lib',
  'usr/local/nvidia/lib64',
];
/** The cache names a few thousand libraries; its strings stand at the end. */
const MAX_CACHE_BYTES = 4 * 1024 * 1024;
/** Of the other users: reading and writing. */
const ANYONE_MAY = 0o006;
/** Drivers that skos-gpu reads. */
const READ_DRIVERS = /^(nvidia|nouveau|amdgpu|i915|xe)$/;

export async function gpuFindings(seen: Seen, env: Io['env']): Promise<Finding[]> {
  const onBus = await pciGpus(seen.trees.sysfs);
  const views = seen.agent?.gpu.gpus ?? [];
  return [
    present(onBus, views),
    ...onBus.flatMap(driverFinding),
    ...(onBus.some(({ vendor, driver }) => vendor === 'nvidia' && driver === 'nvidia')
      ? await nvidiaFindings(seen, env)
      : []),
    ...served(seen, onBus),
    ...views.flatMap(stateFinding),
  ];
}

function present(onBus: readonly PciGpu[], views: readonly GpuView[]): Finding {
  const check = 'gpu.present';
  if (onBus.length === 0) {
    // Containers and test libraries have GPUs that this machine's bus does not list.
    const what =
      views.length === 0
        ? 'no GPU is on the PCI bus'
        : `no GPU is on the PCI bus, but ${plural(views.length, 'GPU')} known to skos-gpu`;
    return { check, state: 'note', what };
  }
  const shown = onBus.map(
    ({ address, vendor, driver }) => `${vendor} ${address} (${driver === '' ? 'no driver' : driver})`,
  );
  return { check, state: 'ok', what: `${plural(onBus.length, 'GPU')} on the PCI bus: ${shown.join(', ')}` };
}

/** What the kernel should have bound. */
const DRIVERS: Readonly<Record<PciGpu['vendor'], string>> = { nvidia: 'nvidia', amd: 'amdgpu', intel: 'i915 or xe' };

function driverFinding({ address, vendor, driver }: PciGpu): Finding[] {
  const check = 'gpu.driver';
  if (driver === '') {
    // A board's own graphics may well have no driver on a server; a card without one is of no use to anybody.
    const state = vendor === 'intel' ? 'note' : 'problem';
    const wanted = DRIVERS[vendor];
    const next =
      vendor === 'intel'
        ? `modprobe ${wanted.split(' ')[0]}, if it is to be read`
        : `modprobe ${wanted}; journalctl -k --grep ${address}`;
    return [{ check, state, what: `${address}: no driver is bound (${wanted} would be)`, next }];
  }
  if (driver === 'nouveau') {
    const next = "for NVML's sensors install NVIDIA's driver, which keeps nouveau from loading";
    return [
      { check, state: 'note', what: `${address}: nouveau drives it, which shows little more than a temperature`, next },
    ];
  }
  if (driver === 'vfio-pci') {
    return [
      { check, state: 'note', what: `${address}: is lent to a virtual machine (vfio-pci): only the guest can read it` },
    ];
  }
  if (READ_DRIVERS.test(driver)) return [];
  return [{ check, state: 'note', what: `${address}: its driver ${driver} is none that skos-gpu reads` }];
}

// ---- NVIDIA ----------------------------------------------------------------------------------------------------------

async function nvidiaFindings({ trees, config, agent }: Seen, env: Io['env']): Promise<Finding[]> {
  const library = await findLibrary(trees.root, config.gpu.nvml, env);
  const told = agent?.gpu.libraries.find(({ source }) => source === 'nvml');
  const driver = await driverVersion(trees);
  return [
    ...(told === undefined ? libraryFile(library, config.gpu.nvml) : libraryTold(told)),
    ...versions(driver, library),
    ...(await deviceFiles(trees.dev)),
  ];
}

const INSTALL_NVML =
  "install the driver's user-space part (Debian: libnvidia-ml1, Ubuntu: libnvidia-compute-…), or name it with gpu.nvml";

/** As skos-gpu says: it has tried. */
function libraryTold({ state, why, path, version }: GpuLibrary): Finding[] {
  const check = 'gpu.nvml';
  const said = why === '' ? '' : `: ${why}`;
  switch (state) {
    case 'ok':
      return [{ check, state: 'ok', what: `NVML ${version} (${path})` }];
    case 'unused':
      return [];
    case 'absent':
      return [{ check, state: 'problem', what: `NVML is not there (${path} was tried)${said}`, next: INSTALL_NVML }];
    case 'failed':
      return [
        {
          check,
          state: 'problem',
          what: `NVML (${path}) cannot be used${said}`,
          next: 'nvidia-smi says the same? Then reload the driver or reboot',
        },
      ];
    case 'hung':
      return [
        {
          check,
          state: 'problem',
          what: `NVML (${path}) hangs${said}`,
          next: 'journalctl -k --grep NVRM shows where; a reboot may be the only way',
        },
      ];
  }
}

/** No agent: nobody has loaded it, so that only its file can be looked for. */
function libraryFile(library: string | undefined, name: string): Finding[] {
  const check = 'gpu.nvml';
  if (library !== undefined) return [{ check, state: 'ok', what: `NVML is installed (/${library})` }];
  const what = `NVML (${name}) is in no directory of libraries: NVIDIA GPUs cannot be read`;
  return [{ check, state: 'problem', what, next: INSTALL_NVML }];
}

/** Path of the library relative to the root, links followed; undefined: not found. */
async function findLibrary(root: Tree, name: string, env: Io['env']): Promise<string | undefined> {
  if (name.startsWith('/')) return root.resolve(name.slice(1));
  const cache = (await root.text('etc/ld.so.cache', { maxBytes: MAX_CACHE_BYTES })) ?? '';
  const cached = cache.split('\0').filter((text) => text.endsWith(`/${name}`));
  const listed = (env.LD_LIBRARY_PATH ?? '').split(':').filter((directory) => directory.startsWith('/'));
  const directories = [...listed, ...LIBRARY_DIRECTORIES];
  for (const path of [...cached, ...directories.map((directory) => `${directory}/${name}`)]) {
    const real = await root.resolve(path.replace(/^\//, ''));
    if (real !== undefined) return real;
  }
  return undefined;
}

async function driverVersion({ proc, sysfs }: Trees): Promise<string | undefined> {
  const loaded = await sysfs.text('module/nvidia/version');
  if (loaded !== undefined) return loaded;
  // "NVRM version: NVIDIA UNIX x86_64 Kernel Module  570.86.15  Thu …"
  const said = await proc.text('driver/nvidia/version');
  return /^NVRM version:.*?\s(\d{3,4}\.\d+(?:\.\d+)?)\s/m.exec(`${said}\n`)?.[1];
}

/** After an upgrade without a reboot the library is newer than the module, and NVML refuses (error 18). */
function versions(driver: string | undefined, library: string | undefined): Finding[] {
  const check = 'gpu.driver_version';
  const own = /\.so\.(\d{3,4}\.\d+(?:\.\d+)?)$/.exec(library ?? '')?.[1];
  if (driver === undefined) return [];
  if (own === undefined || own === driver) return [{ check, state: 'ok', what: `NVIDIA driver ${driver}` }];
  const what = `the loaded driver is ${driver}, the library on disk ${own}: NVML refuses that`;
  return [
    {
      check,
      state: 'problem',
      what,
      next: 'reboot, or unload and load the nvidia modules while no process uses a GPU',
    },
  ];
}

async function deviceFiles(dev: Tree): Promise<Finding[]> {
  const check = 'gpu.device_files';
  const names = ['nvidiactl', ...(await dev.list('', /^nvidia\d+$/))];
  const modes = await Promise.all(names.map((name) => modeOf(dev.absolute(name))));
  if (modes[0] === undefined || names.length === 1) {
    const what = `/dev/${modes[0] === undefined ? 'nvidiactl' : 'nvidia0'} is missing: only root can make it on first use`;
    return [{ check, state: 'problem', what, next: 'nvidia-modprobe -c 0 -u, or start nvidia-persistenced at boot' }];
  }
  const closed = names.filter((_, i) => ((modes[i] ?? 0) & ANYONE_MAY) !== ANYONE_MAY);
  if (closed.length === 0) return [];
  const what = `only owner and group may open ${closed.map((name) => `/dev/${name}`).join(', ')}: skos-gpu needs to, if it is not started by the actuator`;
  return [
    {
      check,
      state: 'note',
      what,
      next: 'put its user into that group (NVreg_DeviceFileGID of the nvidia module says which)',
    },
  ];
}

async function modeOf(path: string): Promise<number | undefined> {
  try {
    return (await stat(path)).mode;
  } catch {
    return undefined; // Absent, or a link to nothing.
  }
}

// ---- What skos-gpu serves --------------------------------------------------------------------------------------------

function served({ agent, config }: Seen, onBus: readonly PciGpu[]): Finding[] {
  const check = 'gpu.served';
  const readable = onBus.filter(({ driver }) => READ_DRIVERS.test(driver));
  if (agent === undefined) return [];
  const { connected, why, gpus } = agent.gpu;
  if (!connected) {
    if (readable.length === 0) return [];
    if (config.gpu.mode === 'off') {
      return [{ check, state: 'note', what: 'no GPU is watched: gpu.mode is off', next: 'set gpu.mode: auto' }];
    }
    const what = `skos-gpu is not connected, so no GPU is watched: ${why}`;
    return [{ check, state: 'problem', what, next: 'systemctl start skos-gpu; journalctl -u skos-gpu' }];
  }
  const known = new Set(gpus.map(({ address }) => address));
  const serving = gpus.filter(({ state }) => state === 'serving').length;
  const unknown = readable.filter(({ address }) => !known.has(address));
  return [
    ...(gpus.length === 0
      ? []
      : [{ check, state: 'ok' as const, what: `skos-gpu serves ${serving} of ${plural(gpus.length, 'GPU')}` }]),
    ...unknown.map(({ address }) => ({
      check,
      state: 'problem' as const,
      what: `${address} is on the bus, but skos-gpu does not know it`,
      next: 'journalctl -u skos-gpu says what it made of it',
    })),
  ];
}

function stateFinding(gpu: GpuView): Finding[] {
  if (gpu.state === 'serving') return [];
  const next = stateNext(gpu);
  const name = gpu.info.name === undefined ? gpu.address : `${gpu.info.name} (${gpu.address})`;
  return [
    {
      check: 'gpu.state',
      state: gpu.state === 'opening' || gpu.state === 'detached' ? 'note' : 'problem',
      what: clean(`${name} is ${gpu.state.replace('_', ' ')}${gpu.why === '' ? '' : `: ${gpu.why}`}`),
      ...(next === undefined ? {} : { next }),
    },
  ];
}
