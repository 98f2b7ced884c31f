import fc from 'fast-check';
import t from 'tap';
import { gpuText } from '../../src/cli/gpu-text.js';
import { recoveryAction, throttleReasons } from '../../src/cli/gpu-words.js';
import type { ChannelJson } from '../../src/core/channel.js';
import { SkosError } from '../../src/core/errors.js';
import { GPU_STATES, type GpuStatus, type GpuView } from '../../src/core/ports.js';
import { NOW_MS, node } from '../fixtures/cli.js';
import { gpuChannels, gpuStatus, h200, mi210, UUID, WORKING } from '../fixtures/gpus.js';

type Tap = typeof t;
const IO = { columns: 80, color: false, wallMs: () => NOW_MS };

function shown(gpu: GpuView, channels: readonly ChannelJson[] = [], given: Partial<GpuStatus> = {}): string {
  return gpuText({ ...gpuStatus([], given), gpus: [{ ...gpu, channels }] }, IO);
}

function fits(t: Pick<Tap, 'ok'>, text: string): void {
  for (const line of text.split('\n')) t.ok([...line].length <= 80 && !/[\p{Cc}]/u.test(line), line);
}

t.test('a GPU stands on a few lines, with limits, margins and what uses it', async (t) => {
  const text = shown(h200(), gpuChannels(h200(), WORKING));
  t.equal(
    text,
    [
      'NVIDIA H200  0000:3b:00.0  GPU-5a2c01f3-7c7d-4b0e-9f5e-0123456789ab  serving',
      '  temperature  GPU 61.0 °C (26 to max 87), memory 70.0 °C (25 to crit 95)',
      '  power        412 W of 700 W (59 %)',
      '  load         GPU 98 %, memory controller 45 %',
      '  memory       [##########..........] 70.2 GiB of 140.4 GiB (50 %)',
      '  clocks       graphics 1755 of 1980 MHz, SM 1755 MHz, memory 3201 MHz',
      '  throttled    no',
      '  link         PCIe gen 5 ×16',
      '  driver       NVIDIA 570.86.15, persistence on, ECC on, MIG off',
      '  processes    4711  python3  68.0 GiB',
    ].join('\n'),
  );
});

t.test('both vendors look alike', async (t) => {
  const text = shown(
    mi210(),
    gpuChannels(mi210(), {
      temperature: ['temperatureMilliCelsius', 48_000, { critical: 100_000 }],
      temperature_hotspot: ['temperatureMilliCelsius', 55_000, { critical: 100_000 }],
      power: ['powerMilliWatts', 41_000],
      power_limit: ['powerMilliWatts', 300_000],
      utilization: ['ratioPartsPerMillion', 0],
      fan: ['ratioPartsPerMillion', 300_000],
      fan_rpm: ['fanRpm', 1200],
      throttle_reasons: ['flagsBitmask', 2 ** 36 + 1],
    }),
  );
  for (const says of [
    /^AMD Instinct MI210 {2}0000:83:00\.0 {2}serving$/m,
    /^ {2}temperature {2}GPU 48\.0 °C \(52 to crit 100\), hot spot 55\.0 °C \(45 to crit 100\)$/m,
    /^ {2}power {8}41 W of 300 W \(14 %\)$/m,
    /^ {2}fan {10}30 %, 1200 RPM$/m,
    /^ {2}throttled {4}package power limit, hot spot temperature$/m,
  ])
    t.match(text, says);
});

t.test('shows what is wrong and only that', async (t) => {
  const text = shown(
    h200(),
    gpuChannels(h200(), {
      ...WORKING,
      temperature: ['temperatureMilliCelsius', 91_000, { max: 87_000, critical: 90_000, emergency: 95_000 }],
      temperature_memory: ['temperatureMilliCelsius', null],
      power_limit_enforced: ['powerMilliWatts', 350_000],
      throttle_reasons: ['flagsBitmask', 0x60],
      ecc_uncorrected_volatile_l2: ['countTotal', 2],
      ecc_mode: ['stateCode', 1],
      remapped_pending: ['stateCode', 1],
      pcie_width: ['stateCode', 8],
      pcie_replays: ['countTotal', 17],
      nvlink_crc_flit: ['countTotal', 3],
      recovery_action: ['stateCode', 4],
    }),
  );
  for (const says of [
    'GPU 91.0 °C (1 over crit 90), memory hung',
    '412 W of 350 W (118 %), the limit is 700 W by default',
    'software thermal slowdown, hardware thermal slowdown',
    'a row remap waits for a reset, 2 ECC uncorrected volatile l2',
    'PCIe gen 5 ×8 of gen 5 ×16, 17 PCIe replays, 3 NVLink CRC flit',
    'the driver asks: drain the GPU, then reset it',
  ])
    t.ok(text.includes(says), says);
  t.notMatch(shown(h200(), gpuChannels(h200(), WORKING)), /errors|recovery|replays| of gen/);
});

t.test('a temperature that rises says when it reaches its limit, and throttling for how long it went on', async (t) => {
  const rising = {
    ...WORKING,
    temperature_slope: ['temperatureRateMilliCelsiusPerSecond', 500],
    temperature_time_to_limit: ['durationMs', 52_000],
    temperature_imbalance: ['temperatureMilliCelsius', 4_000],
    throttle_reasons_share: ['ratioPartsPerMillion', 120_000],
  } as const;
  const text = shown(h200(), gpuChannels(h200(), rising));
  t.match(text, /^ {2}temperature {2}GPU 61\.0 °C \(26 to max 87; limit in 52 s\), memory/m);
  t.match(text, /^ {2}throttled {4}no, 12 % of the last minute$/m);
  t.notMatch(text, 'imbalance');
});

t.test('every state but serving says why, since when and what to do', async (t) => {
  for (const state of GPU_STATES) {
    const text = shown(h200({ state, why: 'as the driver says' }));
    t.match(text, new RegExp(`0000:3b:00\\.0 .* ${state}$`, 'm'));
    if (state === 'serving') continue;
    t.match(text, /^ {2}\w[\w ]* for 1 min: as the driver says$/m, state);
    if (state !== 'opening') t.match(text, /^ {2}next: ./m, state);
    fits(t, text);
  }
});

t.test('what is not read shows no number, and what cannot be read is named', async (t) => {
  const lost = shown(
    h200({ state: 'lost' }),
    gpuChannels(h200(), { ...WORKING, power: ['powerMilliWatts', null], memory_used: ['sizeBytes', null] }),
  );
  t.match(lost, /^ {2}no value {5}power \(hung\), memory_used \(hung\)$/m);
  t.match(lost, /^ {2}power {8}limit 700 W$/m);
  t.match(lost, /^ {2}memory {7}total 140\.4 GiB$/m);
  for (const state of ['detached', 'hung', 'failed', 'reset_required', 'gone', 'opening'] as const)
    t.notMatch(shown(h200({ state, details: null }), gpuChannels(h200(), WORKING)), /°C|W of|GiB/, state);
  t.match(shown(h200({ state: 'reset_required' })), /^ {2}processes {4}4711 {2}python3/m);
  t.notMatch(shown(h200({ state: 'detached' })), 'python3');
  const asleep = gpuChannels(mi210(), {
    runtime_state: ['stateCode', 1],
    temperature: ['temperatureMilliCelsius', null],
  });
  t.match(shown(mi210(), asleep), /serving\n {2}suspended {4}to save power; it is not woken to be read\n {2}driver/);
});

t.test('no GPU says why, and what to do', async (t) => {
  const library = {
    source: 'nvml',
    state: 'absent',
    why: 'no such file',
    path: 'libnvidia-ml.so.1',
    version: '',
  } as const;
  const none = gpuText({ ...gpuStatus([], { libraries: [library] }), gpus: [] }, IO);
  t.match(none, /^No GPU was found\.\nnvml: absent \(libnvidia-ml\.so\.1\): no such file\nnext: skos doctor/);
  const gone = gpuText({ ...gpuStatus([], { connected: false, why: 'no socket' }), gpus: [] }, IO);
  t.match(gone, /^skos-gpu is not connected: no socket\n/);
  t.match(gone, /^next: systemctl start skos-gpu/m);
  t.match(
    shown(h200(), [], { connected: false, why: 'it was stopped' }),
    /^skos-gpu is not connected: it was stopped\n\nNVIDIA/,
  );
});

t.test('what drivers say fits 80 columns and moves no cursor', async (t) => {
  const evil = '\x1b]0;title\x07\x1b[2J\r\nfake\u202e '.repeat(30);
  const details = {
    processes: Array.from({ length: 40 }, (_, i) => ({
      pid: 4_000_000 + i,
      name: evil,
      memoryBytes: null,
      type: 'graphics' as const,
    })),
    mig: Array.from({ length: 40 }, (_, i) => ({
      gpuInstance: i,
      computeInstance: 0,
      uuid: `MIG-${'f'.repeat(60)}`,
      name: evil,
      memoryBytes: 5e9,
    })),
    persistenceMode: null,
    migMode: true,
    eccMode: null,
  };
  const channels = gpuChannels(h200(), {
    ...WORKING,
    [`temperature_${'x'.repeat(40)}`]: ['temperatureMilliCelsius', 1],
  });
  const text = shown(
    h200({ state: 'lost', why: evil, info: { name: evil, uuid: evil, driver: evil }, details }),
    channels,
  );
  fits(t, text);
  t.match(text, 'and 32 more');
});

t.test('numbers that no driver should give stay numbers and break nothing', async () => {
  fc.assert(
    fc.property(fc.maxSafeNat(), fc.constantFrom('nvml', 'amdgpu', 'i915'), (mask, source) => {
      const { reasons, isIdle } = throttleReasons(mask, source);
      return (mask === 0) === (reasons.length === 0 && !isIdle);
    }),
  );
  fc.assert(fc.property(fc.nat(), (code) => (recoveryAction(code) === undefined) === (code === 0)));
});

t.test('idle is no throttling, and unknown bits are shown', async (t) => {
  t.same(throttleReasons(1, 'nvml'), { isIdle: true, reasons: [] });
  t.same(throttleReasons(0x1000_0004, 'nvml'), { isIdle: false, reasons: ['software power cap', '0x10000000'] });
  t.same(throttleReasons(5, 'xe'), { isIdle: false, reasons: ['0x5'] });
});

t.test('a GPU is named by address, UUID, device or the beginning of one', async (t) => {
  const each = await node(t, {
    gpu: () => gpuStatus([h200(), h200({ address: '0000:3c:00.0', device: 'gpu-other', info: { uuid: 'GPU-other' } })]),
    sensors: () => gpuChannels(h200(), WORKING),
  });
  for (const id of ['0000:3b:00.0', '0000:3b', UUID, 'GPU-5a', 'gpu-5A2C']) {
    const { code, out } = await each.skos(['gpu', id]);
    t.equal(code, 0, id);
    t.match(out, /^NVIDIA H200 {2}0000:3b/);
    t.notMatch(out, '3c:00');
  }
  for (const [id, says] of [
    ['0000:', 'fits 0000:3b:00.0 and 0000:3c:00.0'],
    ['0000:99', 'there is no GPU "0000:99"; known are 0000:3b:00.0, 0000:3c:00.0'],
  ] as const) {
    const { code, err } = await each.skos(['gpu', id]);
    t.equal(code, 1);
    t.match(err, 'SKOS_GPU_UNKNOWN');
    t.match(err, says);
  }
});

t.test('--json is one object: skos-gpu, GPUs, and their own channels only', async (t) => {
  const mine = gpuChannels(h200(), WORKING);
  const each = await node(t, {
    gpu: () => gpuStatus([h200(), mi210()]),
    sensors: () => [...mine, ...gpuChannels(mi210(), { power: ['powerMilliWatts', 1] })],
  });
  const answer = JSON.parse((await each.skos(['gpu', '--json'])).out);
  t.equal(answer.connected, true);
  t.same(answer.gpus[0], { ...h200(), channels: mine });
  t.equal(answer.gpus[1].channels.length, 1);
});

t.test('--watch goes on until it is interrupted', async (t) => {
  const abort = new AbortController();
  let asked = 0;
  const each = await node(t, {
    gpu: () => {
      if (++asked === 2) abort.abort();
      return gpuStatus([h200()]);
    },
    sensors: () => [],
  });
  const { code, out } = await each.skos(['gpu', '--watch', '--json'], { signal: abort.signal });
  t.equal(code, 0);
  t.equal(out.split('\n').length, 2);
});

t.test('detach says what is let go of, who still uses it and what to do next', async (t) => {
  const asked: unknown[] = [];
  const each = await node(t, {
    gpu: () => gpuStatus([h200()]),
    'gpu.detach': (params) => {
      asked.push({ ...params });
      return { address: '0000:3b:00.0' };
    },
  });
  const { code, out } = await each.skos(['gpu', 'detach', 'GPU-5a']);
  t.equal(code, 0);
  t.same(asked, [{ id: 'GPU-5a' }]);
  t.match(out, /^NVIDIA H200 \(0000:3b:00\.0\) is let go of: /);
  t.match(out, /1 process used it a moment ago.*\n.*\n? {2}4711 {2}python3 {2}68\.0 GiB/);
  t.match(out, /next: reset it with nvidia-smi --gpu-reset -i 0000:3b:00\.0, .*skos\n? *gpu attach\s+0000:3b:00\.0$/s);
  fits(t, out);
});

t.test('detach of an idle GPU warns of nothing, and an AMD one is reset by its own tool', async (t) => {
  const each = await node(t, {
    gpu: () => gpuStatus([mi210()]),
    'gpu.detach': () => ({ address: '0000:83:00.0' }),
  });
  const { out } = await each.skos(['gpu', 'detach', '0000:83']);
  t.notMatch(out, 'used it');
  t.match(out, 'amd-smi reset --gpureset -g 0000:83:00.0');
});

t.test('a GPU that does not let go is an error with its next step', async (t) => {
  const each = await node(t, {
    gpu: () => gpuStatus([h200()]),
    'gpu.detach': () => {
      throw new SkosError('SKOS_GPU_REFUSED', 'it hangs in its driver');
    },
  });
  const { code, err, out } = await each.skos(['gpu', 'detach', '0000:3b']);
  t.equal(code, 1);
  t.equal(out, '');
  t.match(err, /it hangs in its driver\nnext: ./);
});

t.test('attach waits until the GPU serves, or says what keeps it', async (t) => {
  const states: GpuView['state'][] = ['detached', 'opening', 'serving'];
  const each = await node(t, {
    gpu: () => gpuStatus([h200({ state: states.length > 1 ? (states.shift() ?? 'serving') : 'serving' })]),
    'gpu.attach': () => ({ address: '0000:3b:00.0' }),
  });
  const { code, out } = await each.skos(['gpu', 'attach', '0000:3b']);
  t.equal(code, 0);
  t.equal(out, 'NVIDIA H200 (0000:3b:00.0) is taken again and served.');

  const failing = await node(t, {
    gpu: () => gpuStatus([h200({ state: 'failed', why: 'driver not loaded' })]),
    'gpu.attach': () => ({ address: '0000:3b:00.0' }),
  });
  const failed = await failing.skos(['gpu', 'attach', '0000:3b']);
  t.equal(failed.code, 1);
  t.match(failed.out, /is wanted again, but is failed\s+\(driver not loaded\)\.\nnext: ./);
});

t.test('words that are no ID are told apart', async (t) => {
  const each = await node(t, { gpu: () => gpuStatus([]), sensors: () => [] });
  for (const [argv, says] of [
    [['gpu', 'detach'], 'needs the ID'],
    [['gpu', 'attach', ''], 'needs the ID'],
    [['gpu', 'reset', '0000:3b'], 'takes one ID'],
  ] as const) {
    const { code, err } = await each.skos(argv);
    t.equal(code, 2);
    t.match(err, says);
  }
});
