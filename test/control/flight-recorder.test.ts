import t from 'tap';
import { AFTER_MS, BEFORE_MS, FlightRecorder, LONGEST_MS, MAX_OPEN } from '../../src/control/flight-recorder.js';
import type { Quality } from '../../src/core/channel.js';
import type { RecordingInfo, RecordingLog, RecordingSeries } from '../../src/core/ports.js';
import { MemoryShelf } from '../../src/store/recording-shelf.js';
import { Recordings } from '../../src/store/recordings.js';
import { FakeClock, turns } from '../fixtures/control.js';
import { recordingLog } from '../fixtures/logs.js';
import { channelNamed } from '../fixtures/store-records.js';

const HEAT = 'hwmon/chip/temp1';

class Flight {
  readonly clock = new FakeClock();
  readonly log = recordingLog();
  recordings: RecordingLog = new Recordings({ shelf: new MemoryShelf(), limits: { recordings: 50, bytes: 2 ** 25 } });
  readonly recorder: FlightRecorder;
  channels = [channelNamed(HEAT), channelNamed('hwmon/chip/temp2', 1)];

  constructor(bytes?: number) {
    const self = this;
    const store = {
      get recordings(): RecordingLog {
        return self.recordings;
      },
    };
    this.recorder = new FlightRecorder({
      store,
      clock: this.clock,
      log: this.log,
      ...(bytes === undefined ? {} : { bytes }),
    });
    this.recorder.use(this.channels);
  }
  /** Seconds pass: samples at each channel's rate, and the recorder's own flush each five seconds. */
  async run(seconds: number, value = (i: number) => 40_000 + i, quality: Quality = 'ok'): Promise<void> {
    for (let i = 0; i < seconds * 10; i++) {
      this.clock.nowMs += 100;
      this.channels.forEach((channel, index) => {
        if (this.clock.nowMs % (1000 / channel.rateHz) === 0)
          this.recorder.sample(index, value(i), quality, this.clock.nowMs);
      });
      if (this.clock.nowMs % 5_000 === 0) await this.recorder.flush();
    }
    await this.recorder.flush();
  }
  alert(id: string, severity: 'warning' | 'critical' | null = 'warning'): void {
    this.recorder.alert({ id, severity, sinceAtMs: this.clock.wallMs() });
  }
  info(alert: string): Promise<RecordingInfo | undefined> {
    return this.recordings.list().then((list) => list.find((each) => each.alert === alert));
  }
  async series(alert: string, glob?: string, nth?: number): Promise<RecordingSeries[]> {
    const found: RecordingSeries[] = [];
    for (let after: string | undefined; ; ) {
      const page = await this.recordings.page({ alert, glob, nth, after });
      found.push(...(page?.series ?? []));
      if (page === undefined || page.after === null) return found;
      after = page.after;
    }
  }
}

/** No sample twice, none missing: 10 Hz. */
function isUnbroken({ atMs }: RecordingSeries): boolean {
  return atMs.every((each, i) => i === 0 || each - (atMs[i - 1] ?? 0) === 100);
}

t.test('records a minute before and a minute after, every sample once', async (t) => {
  const flight = new Flight();
  await flight.run(200);
  const alertAtMs = flight.clock.wallMs();
  flight.alert('hot');
  await flight.run(30);
  flight.alert('hot', 'critical');
  await flight.run(10);
  flight.alert('hot', null);
  await flight.run(70);
  const info = await flight.info('hot');
  t.match(info, { alertAtMs, fromAtMs: alertAtMs - BEFORE_MS, channels: 2, open: false });
  t.equal(info?.toAtMs, alertAtMs + 40_000 + AFTER_MS);
  const [series] = await flight.series('hot', HEAT);
  t.ok(series !== undefined && isUnbroken(series));
  t.equal(series?.atMs.length, 1_601);
  t.equal(series?.atMs[0], alertAtMs - BEFORE_MS);
  t.match(series, { unit: 'celsius', quantity: 'temperature', qualities: [[0, 'ok']] });
  t.equal(series?.values.at(-1), 40.599, 'base units: that of the sample at the end of the minute after');
  const [slow] = await flight.series('hot', '**/temp2');
  t.equal(slow?.atMs.length, 161);
  t.equal(info?.samples, 1_601 + 161);
  t.equal((await flight.recordings.list()).length, 1, 'an escalation begins no other');
});

t.test('an alert at the start has what there is', async (t) => {
  const flight = new Flight();
  flight.alert('none');
  await flight.run(3);
  const startAtMs = flight.clock.wallMs() - 3_000;
  flight.alert('soon');
  await flight.run(8);
  t.match(await flight.info('soon'), { fromAtMs: startAtMs + 100, open: true });
  const [series] = await flight.series('soon', HEAT);
  t.equal(series?.atMs.length, 110);
  t.equal((await flight.series('none', HEAT))[0]?.atMs.length, 110, 'nothing was there, and what came is');
});

t.test('an alert that stands for hours has its first ten minutes, once', async (t) => {
  const flight = new Flight();
  await flight.run(100);
  flight.alert('long');
  await flight.run(700);
  flight.alert('long', 'critical');
  await flight.run(100);
  const info = await flight.info('long');
  t.equal((info?.toAtMs ?? 0) - (info?.fromAtMs ?? 0), LONGEST_MS);
  t.equal(info?.open, false);
  t.equal((await flight.recordings.list()).length, 1);
  flight.alert('long', null);
  await flight.run(5);
  flight.alert('long');
  t.equal((await flight.recordings.list()).length, 2, 'when it comes again it is another');
});

t.test('one that comes back within the minute after goes on', async (t) => {
  const flight = new Flight();
  await flight.run(61);
  flight.alert('flap');
  await flight.run(5);
  flight.alert('flap', null);
  await flight.run(50);
  flight.alert('flap');
  await flight.run(5);
  flight.alert('flap', null);
  await flight.run(70);
  const info = await flight.info('flap');
  t.equal((info?.toAtMs ?? 0) - (info?.fromAtMs ?? 0), BEFORE_MS + 60_000 + AFTER_MS);
  t.equal((await flight.recordings.list()).length, 1);
});

t.test('alerts at once have recordings of their own, and in a storm the newest are joined', async (t) => {
  const flight = new Flight();
  await flight.run(61);
  for (let i = 0; i < 7; i++) flight.alert(`a${i}`);
  await flight.run(10);
  for (let i = 0; i < 6; i++) flight.alert(`a${i}`, null);
  await flight.run(70);
  const list = await flight.recordings.list();
  t.equal(list.length, 7, 'each alert is listed');
  for (let i = 0; i < 7; i++) {
    const [series] = await flight.series(`a${i}`, HEAT);
    t.ok(series !== undefined && isUnbroken(series), `a${i}`);
    t.equal((await flight.info(`a${i}`))?.open, i >= MAX_OPEN - 1, `a${i}: what a standing alert joined goes on`);
  }
});

t.test('gaps, other qualities and new channels come through; a gone one keeps its history', async (t) => {
  const flight = new Flight();
  await flight.run(61);
  flight.alert('x');
  await flight.run(2, () => 7, 'hung');
  flight.channels = [channelNamed('hwmon/new/temp1'), channelNamed(HEAT)];
  flight.recorder.use(flight.channels);
  await flight.run(3, (i) => i);
  const all = await flight.series('x');
  t.same(all.map(({ channel }) => channel).sort(), [HEAT, 'hwmon/chip/temp2', 'hwmon/new/temp1']);
  const heat = all.find(({ channel }) => channel === HEAT);
  t.ok(heat !== undefined && isUnbroken(heat));
  t.same(
    heat?.qualities.map(([, quality]) => quality),
    ['ok', 'hung', 'ok'],
  );
  t.equal(heat?.values[heat.qualities[1]?.[0] ?? 0], null);
});

t.test('another rate of the same channel loses neither time nor history', async (t) => {
  const flight = new Flight();
  await flight.run(10);
  flight.channels = [channelNamed(HEAT, 5)];
  flight.recorder.use(flight.channels);
  await flight.run(10);
  flight.alert('x');
  await flight.run(1);
  const times = (await flight.series('x', HEAT)).flatMap(({ atMs }) => [...atMs]);
  t.equal(times.length, 100 + 55);
  t.equal(Math.max(...times) - Math.min(...times), 20_900);
});

t.test('the wall clock may be set meanwhile', async (t) => {
  const flight = new Flight();
  await flight.run(61);
  flight.alert('x');
  await flight.run(10);
  flight.clock.wallMs = () => 5;
  await flight.run(10);
  const [series] = await flight.series('x', HEAT);
  t.ok(series !== undefined && isUnbroken(series));
});

t.test('a store that throws stops neither samples nor flushes, and is told once', async (t) => {
  const flight = new Flight();
  const fail = () => {
    throw new Error('disk on fire');
  };
  const { recordings } = flight;
  await flight.run(61);
  flight.alert('a');
  flight.recordings = { ...recordings, begin: fail, putSamples: fail, put: fail };
  flight.alert('b');
  await flight.run(20);
  flight.recordings = recordings;
  await flight.run(10);
  t.equal(flight.log.lines.filter(({ level }) => level === 'error').length, 1);
  t.equal((await flight.info('a'))?.open, true);
  const [series] = await flight.series('a', HEAT);
  t.ok(series !== undefined && isUnbroken(series), 'what could not be put is put later');
  t.equal(series?.atMs.length, 600 + 300 + 1);
});

t.test('stop() writes what is there and closes', async (t) => {
  const flight = new Flight();
  await flight.run(61);
  flight.alert('x');
  await flight.run(4);
  flight.recorder.start();
  for (let i = 0; i < 9; i++) flight.recorder.sample(0, i, 'ok', flight.clock.nowMs + 100 * (i + 1));
  flight.clock.nowMs += 1_000;
  flight.recorder.stop();
  t.match(await flight.info('x'), { open: false });
  const [series] = await flight.series('x', HEAT);
  t.equal(series?.values.at(-1), 0.008);
  await turns(3);
});

t.test('4,096 channels at 10 Hz: memory stays, and it says how far it reaches', async (t) => {
  const flight = new Flight();
  flight.channels = Array.from({ length: 4_096 }, (_, i) => channelNamed(`hwmon/c${i}/temp1`));
  flight.recorder.use(flight.channels);
  const { bytes } = flight.recorder.memory;
  await flight.run(15, (i) => 40_000 + (i % 7) * 125);
  flight.alert('x');
  await flight.run(6, (i) => 40_000 + (i % 7) * 125);
  t.match(flight.recorder.memory, { bytes, channels: 4_096, notRecorded: 0 });
  t.ok(bytes <= 2 * 1024 * 1024);
  t.comment(`reaches back ${flight.recorder.memory.reachMs} ms`);
  t.ok(flight.recorder.memory.reachMs > 5_000);
  const [series] = await flight.series('x', 'hwmon/c4095/**');
  t.ok(series !== undefined && isUnbroken(series));
  t.equal((await flight.info('x'))?.channels, 4_096);
});

t.test('what finds no room in memory is counted and said', async (t) => {
  const flight = new Flight(145 * 4);
  flight.channels = Array.from({ length: 8 }, (_, i) => channelNamed(`hwmon/c${i}/temp1`));
  flight.recorder.use(flight.channels);
  await flight.run(1);
  t.match(flight.recorder.memory, { notRecorded: flight.channels.length - flight.recorder.memory.channels });
  t.ok(flight.recorder.memory.notRecorded > 0);
  t.equal(flight.log.lines.filter(({ level }) => level === 'warn').length, 1);
});
