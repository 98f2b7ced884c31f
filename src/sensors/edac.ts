/**
 * Errors of memory that ECC corrected or could not: per memory controller and per DIMM, as the EDAC drivers count them.
 *
 * Errors whose place is not known are counted by the controller alone ("noinfo"). Where a driver knows no DIMMs, its rows
 * (csrow) are taken instead. The label is the mainboard's own name of the slot, where `edac-utils` or the driver gave one.
 * Sources: Documentation/admin-guide/RAS/main.rst, Documentation/ABI/testing/sysfs-devices-edac.
 */
import type { Channel } from '../core/channel.js';
import type { Source, SourceContext, Tree } from '../core/ports.js';
import { isVirtualMachine } from './absence.js';
import { makeChannel } from './make-channel.js';

const SOURCE = 'edac';
const CONTROLLERS = 'devices/system/edac/mc';
const RATE_HZ = 0.1;
/** Two sockets have at most 32; each has four counters. */
const MAX_CONTROLLERS = 64;
/** Two sockets with two DIMMs on each of twelve channels have 48; two counters each. */
const MAX_DIMMS = 128;

interface Counter {
  readonly file: string;
  readonly name: string;
  readonly label: string;
}

const OF_CONTROLLER: readonly Counter[] = [
  { file: 'ce_count', name: 'corrected', label: 'corrected errors' },
  { file: 'ue_count', name: 'uncorrected', label: 'uncorrected errors' },
  { file: 'ce_noinfo_count', name: 'corrected_unlocated', label: 'corrected errors of unknown place' },
  { file: 'ue_noinfo_count', name: 'uncorrected_unlocated', label: 'uncorrected errors of unknown place' },
];
const OF_DIMM: readonly Counter[] = [
  { file: 'dimm_ce_count', name: 'corrected', label: 'corrected errors' },
  { file: 'dimm_ue_count', name: 'uncorrected', label: 'uncorrected errors' },
];
const OF_ROW: readonly Counter[] = OF_CONTROLLER.slice(0, 2);

interface Part {
  readonly device: string;
  readonly label: string;
  readonly directory: string;
  readonly counters: readonly Counter[];
}

export const edac: Source = {
  name: SOURCE,

  async discover({ sysfs, proc, report }: SourceContext): Promise<Channel[]> {
    const controllers = await sysfs.list(CONTROLLERS, /^mc\d+$/);
    if (controllers.length === 0 && !(await isVirtualMachine({ sysfs, proc })))
      report.skipped('memory errors', 'no EDAC driver counts them: there is no ECC, or its module is not loaded');
    if (controllers.length > MAX_CONTROLLERS)
      report.skipped(`${controllers.length - MAX_CONTROLLERS} memory controllers`, `more than ${MAX_CONTROLLERS}`);
    const some = controllers.slice(0, MAX_CONTROLLERS);
    const dimms = (await Promise.all(some.map((controller) => dimmsOf(sysfs, controller)))).flat();
    if (dimms.length > MAX_DIMMS) report.skipped(`${dimms.length - MAX_DIMMS} DIMMs`, `more than ${MAX_DIMMS}`);
    const parts = [...some.map(controllerPart), ...dimms.slice(0, MAX_DIMMS)];
    return (await Promise.all(parts.map((part) => partChannels(sysfs, part)))).flat();
  },
};

function controllerPart(name: string): Part {
  return {
    device: name,
    label: `memory controller ${name}`,
    directory: `${CONTROLLERS}/${name}`,
    counters: OF_CONTROLLER,
  };
}

/** DIMMs (or, on older kernels, ranks) with counters of their own; else rows. */
async function dimmsOf(sysfs: Tree, controller: string): Promise<Part[]> {
  const directory = `${CONTROLLERS}/${controller}`;
  const dimms = await sysfs.list(directory, /^(dimm|rank)\d+$/);
  const counting = await Promise.all(dimms.map((dimm) => sysfs.exists(`${directory}/${dimm}/dimm_ce_count`)));
  const parts = dimms
    .filter((_, i) => counting[i])
    .map((dimm) => partOf(sysfs, { controller, name: dimm, isRow: false }));
  if (parts.length > 0) return Promise.all(parts);
  const rows = await sysfs.list(directory, /^csrow\d+$/);
  return Promise.all(rows.map((row) => partOf(sysfs, { controller, name: row, isRow: true })));
}

async function partOf(
  sysfs: Tree,
  { controller, name, isRow }: { controller: string; name: string; isRow: boolean },
): Promise<Part> {
  const directory = `${CONTROLLERS}/${controller}/${name}`;
  const given = await sysfs.text(`${directory}/${isRow ? 'ch0_dimm_label' : 'dimm_label'}`);
  // What drivers write where nobody told them.
  const isKnown = given !== undefined && given !== '' && !/^unknown memory/i.test(given);
  return {
    device: `${controller}-${name}`,
    label: isKnown ? given : `${controller} ${name}`,
    directory,
    counters: isRow ? OF_ROW : OF_DIMM,
  };
}

async function partChannels(sysfs: Tree, { device, label, directory, counters }: Part): Promise<Channel[]> {
  const channels: Channel[] = [];
  for (const counter of counters) {
    const path = `${directory}/${counter.file}`;
    if (!(await sysfs.exists(path))) continue;
    channels.push(
      makeChannel({
        source: SOURCE,
        device,
        name: counter.name,
        label: `${label} ${counter.label}`,
        quantity: 'countTotal',
        class: 'memory',
        probe: { kind: 'integer', path: sysfs.absolute(path) },
        rateHz: RATE_HZ,
        domain: SOURCE,
        path,
      }),
    );
  }
  return channels;
}
