import fc from 'fast-check';
import t from 'tap';
import { brokerUrl, hostPort, isLoopback, isPlainLoopback } from '../../src/mesh/address.js';
import { BackOff } from '../../src/mesh/back-off.js';
import { shown } from '../../src/mesh/shown.js';

t.test('reads addresses as the config writes them', async (t) => {
  t.same(hostPort('127.0.0.1:1883'), { host: '127.0.0.1', port: 1883 });
  t.same(hostPort('[::1]:0'), { host: '::1', port: 0 });
  t.same(brokerUrl('mqtts://10.0.0.2'), { tls: true, host: '10.0.0.2', port: 8883 });
  t.same(brokerUrl('mqtt://[::1]:7'), { tls: false, host: '::1', port: 7 });
  t.same(brokerUrl('mqtt://u:p@lyra'), { tls: false, host: 'lyra', port: 1883 });
});

t.test('takes for loopback only what certainly is', async (t) => {
  for (const yes of ['127.0.0.1', '127.9.9.9', '::1', 'localhost']) t.ok(isLoopback(yes), yes);
  for (const no of ['0.0.0.0', '::', '10.0.0.1', '127.0.0.1.example.com', 'localhost.example.com', '', '128.0.0.1']) {
    t.notOk(isLoopback(no), no);
  }
  t.ok(isPlainLoopback('mqtt://127.0.0.1:1'));
  t.notOk(isPlainLoopback('mqtts://127.0.0.1:1'), 'with TLS a certificate is asked for');
  t.notOk(isPlainLoopback('mqtt://10.0.0.1:1'));
});

t.test('waits between half a step and a step, doubling to the limit, from the start after success', async () => {
  fc.assert(
    fc.property(fc.double({ min: 0, max: 0.999, noNaN: true }), fc.integer({ min: 1, max: 20 }), (random, attempts) => {
      const backOff = new BackOff({ firstMs: 500, limitMs: 10_000, random: () => random });
      for (let i = 0; i < attempts; i++) {
        const step = Math.min(10_000, 500 * 2 ** i);
        const delay = backOff.delayMs();
        if (delay < step / 2 || delay > step) return false;
      }
      backOff.reset();
      return backOff.delayMs() <= 500;
    }),
  );
});

t.test('shows the text of strangers bounded and on one line', async (t) => {
  t.equal(shown('a\nb\u0007c\u0085d'), 'a b c d');
  t.equal(shown('x'.repeat(1000)).length, 81);
});
