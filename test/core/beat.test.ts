/** Timers that fall together: the order in one turn, what is missed, what throws, and who ends whom. */
import { mock } from 'node:test';
import t, { type Test } from 'tap';
import { Beat } from '../../src/core/beat.js';
import { FakeClock } from '../fixtures/control.js';

function beat(t: Test, nowMs = 0) {
  mock.timers.enable({ apis: ['setInterval'] });
  t.teardown(() => mock.timers.reset());
  const clock = new FakeClock();
  clock.nowMs = nowMs;
  const called: string[] = [];
  const { every } = new Beat(clock);
  const note = (name: string, periodMs: number) => every(periodMs, () => called.push(`${name} ${clock.nowMs}`));
  const pass = (ms: number) => {
    for (let i = 0; i < ms; i++) {
      clock.nowMs += 1;
      mock.timers.tick(1);
    }
  };
  return { clock, called, every, note, pass };
}

t.test('what was begun at different moments is done in one turn, the shortest period first', (t) => {
  const { called, note, pass } = beat(t, 1_234.5);
  note('second', 1_000);
  pass(333);
  note('tick', 100);
  pass(500);
  called.length = 0;
  pass(1_000);
  const turns = new Set(called.map((each) => each.split(' ')[1]));
  t.equal(turns.size, 10);
  t.equal(called.length, 11);
  const at = called.findIndex((each) => each.startsWith('second'));
  t.match(called[at - 1], /^tick/);
  t.equal(called[at - 1]?.split(' ')[1], called[at]?.split(' ')[1]);
  t.end();
});

t.test('keeps the pace of what is slow however late each turn is', (t) => {
  const { clock, called, note, pass } = beat(t);
  note('tick', 100);
  note('second', 1_000);
  for (let i = 0; i < 400; i++) {
    pass(100);
    clock.nowMs += 7; // The loop was busy.
  }
  const seconds = called.filter((each) => each.startsWith('second')).map((each) => Number(each.split(' ')[1]));
  t.equal(seconds.length, Math.floor(clock.nowMs / 1_000));
  t.ok(
    seconds.every((atMs, i) => Math.abs(atMs - 1_000 * (i + 1)) <= 60),
    seconds.join(),
  );
  t.end();
});

t.test('follows a period that is shorter than all others, and lets go of it', (t) => {
  const { called, note, pass } = beat(t);
  note('slow', 300);
  const end = note('quick', 20);
  pass(300);
  t.equal(called.filter((each) => each.startsWith('quick')).length, 15);
  end();
  called.length = 0;
  pass(900);
  t.ok(called.length >= 2 && called.length <= 3, called.join());
  t.end();
});

t.test('makes up for nothing after the process was stopped', (t) => {
  const { clock, called, note, pass } = beat(t);
  note('tick', 100);
  clock.nowMs += 60_000;
  pass(150);
  t.ok(called.length <= 2, called.join());
  t.end();
});

t.test('one that throws keeps no other from its turn, and is not silent', (t) => {
  const { clock, called, every, note } = beat(t);
  every(100, () => {
    throw new Error('a mistake');
  });
  note('other', 100);
  clock.nowMs += 100;
  t.throws(() => mock.timers.tick(100), { message: 'a mistake' });
  t.same(called, ['other 100']);
  t.end();
});

t.test('who is ended is not called again, not even in the turn in which it was ended', (t) => {
  const { called, every, note, pass } = beat(t);
  const ends: (() => void)[] = [];
  every(50, () => {
    for (const end of ends) end();
  });
  ends.push(note('slow', 100));
  pass(500);
  t.same(called, []);
  ends[0]?.();
  t.end();
});
