import fc from 'fast-check';
import mqttPacket from 'mqtt-packet';
import t from 'tap';
import { TokenBucket } from '../../src/core/token-bucket.js';
import { PacketGuard } from '../../src/mesh/packet-guard.js';

function fakeClock() {
  let now = 1_000;
  return { monotonicMs: () => now, wallMs: () => now, pass: (ms: number) => (now += ms) };
}
const limits = {
  maxPacketBytes: 500,
  bytesPerSecond: 1_000,
  burstBytes: 10_000,
  packetsPerSecond: 10,
  burstPackets: 20,
};

t.test('finds the packets of a stream however it is cut', async () => {
  const publish = fc.record({ topic: fc.constantFrom('a', 'b/c'), size: fc.nat(400) });
  fc.assert(
    fc.property(fc.array(publish, { maxLength: 20 }), fc.array(fc.integer({ min: 1, max: 50 })), (packets, cuts) => {
      const stream = Buffer.concat(
        packets.map(({ topic, size }) =>
          mqttPacket.generate({
            cmd: 'publish',
            topic,
            payload: Buffer.alloc(size, 0xff),
            qos: 0,
            dup: false,
            retain: false,
          }),
        ),
      );
      const guard = new PacketGuard({ ...limits, burstPackets: packets.length }, fakeClock());
      let rest = stream;
      for (const cut of cuts) {
        if (guard.offence(rest.subarray(0, cut)) !== undefined) return false;
        rest = rest.subarray(cut);
      }
      // Exactly as many packets as were sent: one more is one too many.
      return guard.offence(rest) === undefined && guard.offence(Buffer.from([0xc0, 0])) !== undefined;
    }),
  );
});

t.test('refuses a packet by its header, before its body comes', async (t) => {
  const guard = () => new PacketGuard(limits, fakeClock());
  t.equal(guard().offence(Buffer.from([0x30, 0xf4, 0x03])), undefined, '500 bytes');
  t.match(guard().offence(Buffer.from([0x30, 0xf5, 0x03])), /larger than 500/, '501 bytes');
  t.match(guard().offence(Buffer.from([0x30, 0xff, 0xff, 0xff, 0x7f])), /larger than 500/, '256 MiB');
  t.match(guard().offence(Buffer.from([0x30, 0x80, 0x80, 0x80, 0x80])), /malformed/, 'a fifth length byte');
});

t.test('bounds bytes and packets per second', async (t) => {
  const clock = fakeClock();
  const guard = new PacketGuard({ ...limits, maxPacketBytes: 100_000 }, clock);
  const ping = Buffer.from([0xc0, 0]);
  for (let i = 0; i < 20; i++) t.equal(guard.offence(ping), undefined);
  const acknowledged = Buffer.alloc(400, Buffer.from([0x40, 2, 0, 1]));
  t.equal(
    guard.offence(acknowledged),
    undefined,
    '100 acknowledgements: the receiver of QoS 1 cannot choose their rate',
  );
  t.match(guard.offence(ping), /packets/);
  clock.pass(1_000);
  t.match(new PacketGuard(limits, clock).offence(Buffer.alloc(10_001)), /bytes/);
});

t.test('a bucket refills with time and never above its size', async (t) => {
  const clock = fakeClock();
  const bucket = new TokenBucket({ clock, perSecond: 10, burst: 5 });
  t.equal(bucket.take(5), true);
  t.equal(bucket.take(1), false);
  clock.pass(100);
  t.equal(bucket.take(1), true);
  t.equal(bucket.take(1), false);
  clock.pass(1_000_000);
  t.equal(bucket.take(6), false);
  t.equal(bucket.take(5), true);
});
