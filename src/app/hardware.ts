/** What the hardware says of itself: the GPUs over skos-gpu, the kernel's log, and the alerts of both. */
import { HardwareEvents } from '../control/hardware-events.js';
import { GpuLink } from '../sensors/gpu-link.js';
import { KernelLog } from '../sensors/kernel-log.js';
import type { Acting } from './acting.js';
import { gpuChild, placeOfGpu } from './gpu.js';
import type { Ground } from './ground.js';
import { packetConnector } from './packet-connector.js';

export type Hardware = ReturnType<typeof composeHardware>;

export function composeHardware(
  { addon, initial, withChildren, runDirectory, bootId, machine, config, store, record, clock, every, log }: Ground,
  {
    alerts,
    onGpus,
    onCrossing,
  }: {
    alerts: Acting['alerts'];
    /** They, or what is known of them, are others. */
    onGpus: () => void;
    onCrossing: () => void;
  },
) {
  const hardware = new HardwareEvents({
    config,
    alerts,
    record,
    store,
    bootId,
    recoveryAction: (address) => gpus.reading(address, 'recovery_action'),
    clock,
    every,
    log,
  });
  const kernelLog = new KernelLog({
    createKmsgReader: addon.createKmsgReader,
    devRoot: machine.roots.dev,
    env: process.env,
    bootId,
    store,
    log,
    onEvent: hardware.event,
  });
  const { own, ...place } = placeOfGpu(initial, { runDirectory, withChildren });
  const ownGpu = own ? gpuChild(initial, { socket: place.socket, sysfs: machine.roots.sysfs, log }) : undefined;
  const gpus: GpuLink = new GpuLink({
    ...place,
    connect: packetConnector(addon, 'SKOS_GPU_ABSENT'),
    openRegion: addon.openRegion,
    rates: () => ({ rateHz: config.get().sampling.rate_hz, deadlineMs: config.get().sampling.deadline_ms }),
    onChange: onGpus,
    onCrossing,
    onState: (address, state, why) => hardware.gpuState(address, state, why),
    onEvent: hardware.event,
    onSilent: () => ownGpu?.replace('it does not answer'),
    log,
    clock,
    every,
  });
  return { hardware, kernelLog, gpus, ownGpu, gpuSocket: place.socket };
}
