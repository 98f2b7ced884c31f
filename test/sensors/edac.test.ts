/** ECC errors of memory controllers, DIMMs and rows. */
import t from 'tap';
import { edac } from '../../src/sensors/edac.js';
import { channelOf, discover, ids } from '../fixtures/discovery.js';
import { type FakeMachine, fakeMachine } from '../fixtures/fake-sysfs.js';

const MC = 'devices/system/edac/mc';

function addController(machine: FakeMachine, number: number): string {
  const directory = `${MC}/mc${number}`;
  for (const file of ['ce_count', 'ue_count', 'ce_noinfo_count', 'ue_noinfo_count'])
    machine.set(`${directory}/${file}`, 0);
  return directory;
}

function addDimm(machine: FakeMachine, controller: string, number: number, label: string): void {
  machine.set(`${controller}/dimm${number}/dimm_label`, label);
  machine.set(`${controller}/dimm${number}/dimm_ce_count`, 0);
  machine.set(`${controller}/dimm${number}/dimm_ue_count`, 0);
}

t.test('counts per controller and per DIMM, by the name of its slot', async (t) => {
  const machine = fakeMachine(t);
  const controller = addController(machine, 0);
  addDimm(machine, controller, 0, 'CPU_SrcID#0_MC#0_Chan#0_DIMM#0');
  addDimm(machine, controller, 10, '');
  addDimm(machine, controller, 2, 'unknown memory (node 0)');
  const found = await discover(machine, [edac]);
  t.same(ids(found), [
    'edac/mc0/corrected',
    'edac/mc0/uncorrected',
    'edac/mc0/corrected_unlocated',
    'edac/mc0/uncorrected_unlocated',
    'edac/mc0-dimm0/corrected',
    'edac/mc0-dimm0/uncorrected',
    'edac/mc0-dimm2/corrected',
    'edac/mc0-dimm2/uncorrected',
    'edac/mc0-dimm10/corrected',
    'edac/mc0-dimm10/uncorrected',
  ]);
  t.match(channelOf(found, 'edac/mc0-dimm0/uncorrected'), {
    label: 'CPU_SrcID#0_MC#0_Chan#0_DIMM#0 uncorrected errors',
    quantity: 'countTotal',
    class: 'memory',
    rateHz: 0.1,
    probe: { kind: 'integer' },
  });
  t.match(channelOf(found, 'edac/mc0-dimm2/corrected').label, 'mc0 dimm2 corrected errors');
});

t.test('takes rows where no DIMM is counted', async (t) => {
  const machine = fakeMachine(t);
  const controller = addController(machine, 1);
  machine.set(`${controller}/dimm0/dimm_label`, 'A1');
  machine.set(`${controller}/csrow0/ce_count`, 0);
  machine.set(`${controller}/csrow0/ue_count`, 0);
  machine.set(`${controller}/csrow0/ch0_dimm_label`, 'A1');
  const found = await discover(machine, [edac]);
  t.same(ids(found).slice(4), ['edac/mc1-csrow0/corrected', 'edac/mc1-csrow0/uncorrected']);
  t.equal(found.channels[4]?.label, 'A1 corrected errors');
});

t.test('lists what is there of a controller that lacks files, and bounds the DIMMs aloud', async (t) => {
  const machine = fakeMachine(t);
  machine.set(`${MC}/mc0/ce_count`, 0);
  for (let i = 0; i < 130; i++) addDimm(machine, `${MC}/mc0`, i, `slot ${i}`);
  const found = await discover(machine, [edac]);
  t.equal(found.channels.length, 1 + 2 * 128);
  t.match(found.skipped, [{ what: '2 DIMMs' }]);
});

t.test('says that nobody counts where there is no driver', async (t) => {
  const machine = fakeMachine(t);
  const found = await discover(machine, [edac]);
  t.same(found.channels, []);
  t.match(found.skipped, [{ what: 'memory errors', why: /EDAC/ }]);
  machine.setProc('cpuinfo', 'flags : fpu hypervisor');
  t.same((await discover(machine, [edac])).skipped, [], 'a guest has no ECC of its own, and needs no telling');
});
