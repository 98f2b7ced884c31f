/**
 * A machine that is not there: a CPU package and GPUs that follow a load, an ambient temperature and fans that fail, with sensors that
 * are noisy, drop samples, hang or fall silent. What happens when is drawn from a seed.
 *
 * All changes of an input are events on the grid of the sampling period; between two of them temperatures are a formula
 * (policy/thermal-model.ts) and noise is a hash of the number of the sample. So a sample does not depend on whether the ones before
 * it were looked at, and a simulation may pass over those that cannot matter.
 */
import type { Channel, Quality } from '../core/channel.js';
import { hashed, Seeded } from '../policy/seeded.js';
import { type Body, type Caps, type Course, celsiusAt, msAbove, watts } from '../policy/thermal-model.js';

const SECOND_MS = 1000;
const MINUTE_MS = 60 * SECOND_MS;
export const HOUR_MS = 60 * MINUTE_MS;
const DAY_MS = 24 * HOUR_MS;
/** Ambient temperature and the wear of the cooling change slowly: followed in steps. */
const SLOW_MS = 10 * MINUTE_MS;
/** °C between the coolest and the warmest hour of a day. */
const AMBIENT_SWING = 8;
/** So much of the cooling is lost at last. */
const MAX_WEAR = 0.4;
const LOADS = [0.02, 0.3, 0.6, 0.9, 1] as const;
/** Jobs begin and end about so often. */
const LOAD_MEAN_MS = 25 * MINUTE_MS;
/** Real fans fail once in years; here so often that each simulated day has some. */
const FAN_MEAN_MS = 20 * HOUR_MS;
const FAN_OUT_MS = { least: 2 * MINUTE_MS, most: 30 * MINUTE_MS };
const TROUBLE_MEAN_MS = 2 * HOUR_MS;
const TROUBLE_MS = { least: 0.2 * SECOND_MS, most: 90 * SECOND_MS };
/** °C of a reading that is an outlier. */
const SPIKE = 40;
/** Share of the samples that a flickering sensor loses, and of those at which an outlier may come, in 2^32. */
const FLICKER = 0.5 * 2 ** 32;
const SPIKES = 0.3 * 2 ** 32;

/** What may be wrong with a sensor. `silent`: no sample comes at all; outliers come one at a time. */
const TROUBLES = ['no_data', 'fault', 'hung', 'silent', 'flicker', 'spikes_up', 'spikes_down'] as const;
type Trouble = (typeof TROUBLES)[number];

export interface MachineOptions {
  readonly seed: number;
  readonly gpus: number;
  readonly periodMs: number;
  /** config.sampling.deadline_ms: how long a read hangs before it is said to. */
  readonly deadlineMs: number;
  /** How often things fail, as a multiple of the ordinary; 0: never. */
  readonly faults: number;
}

export interface DeviceReport {
  readonly channel: string;
  readonly label: string;
  /** True temperature, not what the sensor said. */
  readonly hottestCelsius: number;
  /** For each bound that was asked for. */
  readonly msAbove: readonly number[];
}

interface Device {
  readonly channel: Channel;
  readonly body: Body;
  /** Greatest deviation of a reading, °C, noise and rounding together. */
  readonly noiseCelsius: number;
  load: number;
  /** Of the thermal resistance: 1 is healthy. */
  fan: number;
  caps: Caps;
  course: Course;
  trouble: Trouble | undefined;
  troubledSinceMs: number;
  hottestCelsius: number;
  readonly bounds: readonly number[];
  readonly aboveMs: number[];
}

interface Happening {
  atMs: number;
  /** Returns when it happens next. */
  readonly happen: (nowMs: number) => number;
}

export interface SimulatedReading {
  readonly value: number;
  readonly quality: Quality;
}

export class SimulatedMachine {
  readonly channels: readonly Channel[];
  /** When anything happens next. */
  nextMs = 0;
  readonly #options: MachineOptions;
  readonly #devices: readonly Device[];
  readonly #random: Seeded;
  readonly #happenings: Happening[] = [];
  readonly #ambientCelsius: number;
  readonly #wearPerHour: number;
  #nowMs = 0;
  #ambient: number;

  /** `bounds` of a channel, °C: time above each is counted. */
  constructor(options: MachineOptions, bounds: (channel: Channel) => readonly number[]) {
    this.#options = options;
    this.#random = new Seeded(options.seed);
    this.#ambientCelsius = this.#random.between(18, 32);
    this.#ambient = this.#ambientCelsius;
    // Some tenths in days of simulation: dust and a drying thermal paste, in a hurry.
    this.#wearPerHour = this.#random.between(0, 0.004);
    const specs = [this.#cpu(), ...Array.from({ length: options.gpus }, (_, i) => this.#gpu(i))];
    this.#devices = specs.map(({ channel, body }) => this.#device(channel, body, bounds(channel)));
    this.channels = this.#devices.map(({ channel }) => channel);
    this.#plan();
  }

  /** How far a reading may lie from the truth while the sensor is well, canonical unit. */
  noise(channel: number): number {
    return (this.#devices[channel]?.noiseCelsius ?? 0) * 1000;
  }

  isTroubled(channel: number): boolean {
    return this.#devices[channel]?.trouble !== undefined;
  }

  /** As it goes on unless something happens; canonical units are 1,000 to a °C. */
  course(channel: number): Course | undefined {
    return this.#devices[channel]?.course;
  }

  /** What happens up to and with this moment. */
  advance(nowMs: number): void {
    this.#nowMs = nowMs;
    if (nowMs < this.nextMs) return;
    for (const happening of this.#happenings) {
      while (happening.atMs <= nowMs) happening.atMs = this.#onGrid(happening.happen(nowMs), nowMs);
    }
    this.nextMs = Math.min(...this.#happenings.map(({ atMs }) => atMs));
  }

  /** The n-th sample of a channel as reader `reader` sees it; undefined: there is none. */
  reading(channel: number, index: number, reader: number): SimulatedReading | undefined {
    const device = this.#devices[channel];
    if (device === undefined) return undefined;
    const { periodMs, seed, deadlineMs } = this.#options;
    const nowMs = index * periodMs;
    const random = hashed(seed + reader, channel, index);
    const lost: SimulatedReading = { value: 0, quality: 'no_data' };
    let celsius = celsiusAt(device.course, nowMs);
    switch (device.trouble) {
      case undefined:
        break;
      case 'no_data':
        return lost;
      case 'fault':
        return { value: 0, quality: 'fault' };
      case 'silent':
        return undefined;
      case 'hung': {
        // Told once, when the deadline of the read is over, as native/sampler does.
        const forMs = nowMs - device.troubledSinceMs;
        return forMs >= deadlineMs && forMs < deadlineMs + periodMs ? { value: 0, quality: 'hung' } : undefined;
      }
      case 'flicker':
        if (random < FLICKER) return lost;
        break;
      case 'spikes_up':
        if (index % 2 === 0 && random < SPIKES) celsius += SPIKE;
        break;
      case 'spikes_down':
        if (index % 2 === 0 && random < SPIKES) celsius -= SPIKE;
        break;
    }
    // The sum of two uniform numbers, in [−1, 1): bounded, and mostly small.
    const noise = ((random & 0xffff) + (random >>> 16)) / 0xffff - 1;
    return { value: Math.round((celsius + noise * (device.noiseCelsius - 0.001)) * 1000), quality: 'ok' };
  }

  /** Caps that stand from now on. */
  cap(channel: number, caps: Caps): void {
    const device = this.#devices[channel];
    if (device === undefined || (device.caps.frequency === caps.frequency && device.caps.power === caps.power)) return;
    device.caps = caps;
    this.#bend(device, this.#nowMs);
  }

  report(nowMs: number): DeviceReport[] {
    return this.#devices.map((device) => {
      this.#bend(device, nowMs);
      const { channel, hottestCelsius, aboveMs } = device;
      return { channel: channel.id, label: channel.label, hottestCelsius, msAbove: aboveMs };
    });
  }

  // ---- What there is -----------------------------------------------------------------------------------------------

  #cpu(): { channel: Channel; body: Body } {
    const random = this.#random;
    const [idleWatts, dynamicWatts] = [random.between(20, 60), random.between(120, 300)];
    return {
      channel: {
        id: 'hwmon/coretemp-isa-0000/temp1',
        source: 'hwmon',
        device: 'coretemp-isa-0000',
        name: 'temp1',
        label: 'Package id 0',
        quantity: 'temperatureMilliCelsius',
        class: 'cpu',
        limits: { critical: 100_000 },
        probe: { kind: 'integer', path: '/sys/devices/platform/coretemp.0/hwmon/hwmon0/temp1_input' },
        rateHz: 1000 / this.#options.periodMs,
        domain: 'coretemp',
        path: 'devices/platform/coretemp.0/hwmon/hwmon0/temp1_input',
        thermalDefault: true,
      },
      // Full load and healthy fans take it so far above the ambient.
      body: {
        idleWatts,
        dynamicWatts,
        kelvinPerWatt: random.between(38, 54) / (idleWatts + dynamicWatts),
        timeConstantMs: random.between(8, 40) * SECOND_MS,
      },
    };
  }

  #gpu(i: number): { channel: Channel; body: Body } {
    const random = this.#random;
    const address = gpuAddress(i);
    const [idleWatts, dynamicWatts] = [random.between(40, 90), random.between(250, 610)];
    return {
      channel: {
        id: `nvml/gpu-${i}/temperature`,
        source: 'nvml',
        device: `gpu-${i}`,
        name: 'temperature',
        label: `GPU ${i}`,
        quantity: 'temperatureMilliCelsius',
        class: 'gpu',
        limits: { critical: 92_000 },
        probe: { kind: 'gpu', address, index: 0 },
        rateHz: 1000 / this.#options.periodMs,
        domain: address,
        path: address,
        thermalDefault: true,
      },
      body: {
        idleWatts,
        dynamicWatts,
        kelvinPerWatt: random.between(32, 46) / (idleWatts + dynamicWatts),
        timeConstantMs: random.between(20, 90) * SECOND_MS,
      },
    };
  }

  #device(channel: Channel, body: Body, bounds: readonly number[]): Device {
    const celsius = this.#ambient + body.idleWatts * body.kelvinPerWatt;
    return {
      channel,
      body,
      noiseCelsius: this.#random.between(0.1, 1.2),
      load: LOADS[0],
      fan: 1,
      caps: { frequency: 1, power: 1 },
      course: { atMs: 0, celsius, steadyCelsius: celsius, timeConstantMs: body.timeConstantMs },
      trouble: undefined,
      troubledSinceMs: 0,
      hottestCelsius: celsius,
      bounds,
      aboveMs: bounds.map(() => 0),
    };
  }

  // ---- What happens ------------------------------------------------------------------------------------------------

  #plan(): void {
    const { faults } = this.#options;
    const random = this.#random;
    this.#happenings.push({ atMs: 0, happen: (nowMs) => this.#slowChange(nowMs) });
    for (const device of this.#devices) {
      this.#happenings.push({
        atMs: random.waiting(MINUTE_MS),
        happen: (nowMs) => {
          device.load = random.one(LOADS);
          this.#bend(device, nowMs);
          return nowMs + random.waiting(LOAD_MEAN_MS);
        },
      });
      if (faults <= 0) continue;
      this.#happenings.push({
        atMs: random.waiting(FAN_MEAN_MS / faults),
        happen: (nowMs) => {
          const fails = device.fan === 1;
          device.fan = fails ? random.between(1.5, 2.6) : 1;
          this.#bend(device, nowMs);
          return (
            nowMs + (fails ? random.between(FAN_OUT_MS.least, FAN_OUT_MS.most) : random.waiting(FAN_MEAN_MS / faults))
          );
        },
      });
      this.#happenings.push({
        atMs: random.waiting(TROUBLE_MEAN_MS / faults),
        happen: (nowMs) => {
          const isWell = device.trouble === undefined;
          device.trouble = isWell ? random.one(TROUBLES) : undefined;
          device.troubledSinceMs = nowMs;
          // Mostly short, now and then long.
          const lastsMs = TROUBLE_MS.least + (TROUBLE_MS.most - TROUBLE_MS.least) * random.next() ** 3;
          return nowMs + (isWell ? lastsMs : random.waiting(TROUBLE_MEAN_MS / faults));
        },
      });
    }
    for (const happening of this.#happenings) happening.atMs = this.#onGrid(happening.atMs, -1);
    this.advance(0);
  }

  #slowChange(nowMs: number): number {
    const hour = Math.sin((2 * Math.PI * nowMs) / DAY_MS);
    this.#ambient = this.#ambientCelsius + (hour * AMBIENT_SWING) / 2 + this.#random.between(-0.5, 0.5);
    for (const device of this.#devices) this.#bend(device, nowMs);
    return nowMs + SLOW_MS;
  }

  /** Something about a device changed: from here on another course. */
  #bend(device: Device, nowMs: number): void {
    const { body, course, load, fan, caps, bounds, aboveMs } = device;
    const celsius = celsiusAt(course, nowMs);
    const span = { fromMs: course.atMs, toMs: nowMs };
    device.hottestCelsius = Math.max(device.hottestCelsius, celsius);
    for (const [i, bound] of bounds.entries()) aboveMs[i] = (aboveMs[i] ?? 0) + msAbove(course, bound, span);
    const wear = Math.min(MAX_WEAR, (this.#wearPerHour * nowMs) / HOUR_MS);
    const resistance = body.kelvinPerWatt * fan * (1 + wear);
    const steadyCelsius = this.#ambient + watts(body, load, caps) * resistance;
    device.course = { atMs: nowMs, celsius, steadyCelsius, timeConstantMs: body.timeConstantMs * fan };
  }

  /** The first moment of the grid that is not before it, and behind `afterMs`. */
  #onGrid(atMs: number, afterMs: number): number {
    const { periodMs } = this.#options;
    return Math.max(Math.ceil(atMs / periodMs), Math.floor(afterMs / periodMs) + 1) * periodMs;
  }
}

/** PCI, of the i-th simulated GPU. */
export function gpuAddress(i: number): string {
  return `0000:${(0x10 + i).toString(16)}:00.0`;
}
