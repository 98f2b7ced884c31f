/**
 * scripts/demo real: the loop closed on this machine's own /sys, /proc and cgroups, also where there is no sensor of
 * temperature. A busy process in a cgroup of its own is measured, limited, and given its CPU back.
 *
 * The rule clears below the limit (10 % under a limit of 20 %), so that the limit does not release itself while the load
 * lasts. The node stays in observe mode; this one rule alone is armed, and it can move this one cgroup only.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { DemoNode, type Message } from './demo-node.js';
import { OwnCgroup } from './own-cgroup.js';
import { claim, pause, perform, type Stage, say, Unsuitable, until } from './stage.js';
import { Watcher } from './watcher.js';

const RULE = 'busy-demo';
const ACTION = 'limit_20@demo';
const CHANNEL = 'cgroup/demo/cpu_usage';
const PATIENCE_S = 30;
/** What 20 % of a CPU measures as, sampled while the kernel hands it out in portions of 100 ms. */
const LIMITED_BELOW_PERCENT = 40;
const STEADY_READINGS = 4;
/** For a person to see the limited usage for a while. */
const HOLD_MS = 3_000;
const SHOWN_KEYS = ['action_type', 'outcome', 'severity', 'state', 'message'];

const CONFIG = (cgroup: string): string => `targets: { demo: { cgroup: ${cgroup} } }
rules:
  - name: ${RULE}
    channel: ${CHANNEL}
    raise: 60                  # % of one CPU
    clear: 10
    for: { seconds: 2 }
    keep: 2
    actions: [${ACTION}]
    mode: auto
`;

/** Computes until it is killed, or until the demonstration is gone, however that ended. */
const BUSY = 'const parent = process.ppid; while (process.ppid === parent);';

async function play(stage: Stage): Promise<void> {
  const cgroup = makeCgroup(stage);
  const before = cgroup.limit;
  say(`A cgroup of its own: ${cgroup.directories.join(', ')}`);
  say(`Its limit is ${cgroup.limitFile}, now: ${before}`);

  const captured: Message[] = [];
  const percents: number[] = [];
  const watcher = new Watcher({
    rule: RULE,
    onSensor: (id, value) => {
      if (id !== CHANNEL) return;
      percents.push(value * 100);
      say(usageLine(value * 100));
    },
  });
  const onMessage = (message: Message) => {
    if (/^skos\/(alert|result)\//.test(message.topic) && /busy-demo|@demo/.test(message.text)) captured.push(message);
    watcher.take(message);
  };
  const config = CONFIG(cgroup.path);
  say(`\nThe agent, on this machine's own /sys and /proc, with this beside the defaults:\n\n${config}`);
  const directory = stage.directory();
  const node = new DemoNode({ stage, directory, config, roots: {}, onMessage });
  const { channels, actuator } = await node.start();
  if (!actuator.connected) {
    const hint = 'One that runs already (scripts/run as root, skos-actuator.service) must be stopped first';
    throw new Unsuitable(`no actuator of its own: ${actuator.why}. ${hint}`);
  }
  say(`${channels} channels are read; the actuator may move ${actuator.targets.length} targets.\n`);

  say('--- A busy process starts in the cgroup. ---\n');
  const busy = startBusy(stage, cgroup);
  await until('the limit held', () => watcher.result(ACTION, 'active') !== undefined, PATIENCE_S);
  const limited = cgroup.limit;
  say(`\n--- Limited: ${cgroup.limitFile} holds ${limited}. The process still wants all it can get. ---\n`);
  claim(limited !== before, 'the limit was reported and does not stand in the cgroup');
  await until(
    `usage below ${LIMITED_BELOW_PERCENT} %`,
    () =>
      percents.length >= STEADY_READINGS &&
      percents.slice(-STEADY_READINGS).every((each) => each < LIMITED_BELOW_PERCENT),
    PATIENCE_S,
  );
  await pause(HOLD_MS);
  claim(!hasEnded(busy), 'the busy process ended by itself');
  claim(cgroup.limit === limited, 'the limit did not last while the load did');

  say('\n--- The process is ended; the rule waits 2 s below its clear bound. ---\n');
  busy.kill('SIGKILL');
  await until('the limit released', () => watcher.result(ACTION, 'released') !== undefined, PATIENCE_S);
  await until('the alert cleared', () => watcher.cleared, PATIENCE_S);
  say(`\n--- Released: ${cgroup.limitFile} holds ${cgroup.limit}. What others saw of it: ---\n`);
  claim(cgroup.limit === before, `the limit is ${cgroup.limit} and was ${before}`);

  say(`$ mosquitto_sub -h 127.0.0.1 -p ${node.port} -t 'skos/#' -v`);
  for (const { topic, json } of captured) say(`${topic} ${shortened(json)}`);
  say();
  await show(node, 'actions');
  await show(node, 'audit', 'verify');
  say('The loop closed: measured, limited, fallen, released.');
}

function makeCgroup(stage: Stage): OwnCgroup {
  const cgroup = new OwnCgroup(`skos-demo-${process.pid}`);
  stage.onEnd(() => cgroup.remove());
  cgroup.make();
  return cgroup;
}

function startBusy(stage: Stage, cgroup: OwnCgroup): ChildProcess {
  const child = spawn(process.execPath, ['-e', BUSY], { stdio: 'ignore', detached: true });
  // A process that is frozen or limited takes its SIGKILL all the same; the agent is stopped after it.
  stage.onEnd(async () => {
    child.kill('SIGKILL');
    await until('the end of the busy process', () => hasEnded(child), PATIENCE_S);
  });
  if (child.pid !== undefined) cgroup.add(child.pid);
  return child;
}

function hasEnded(child: ChildProcess): boolean {
  return child.exitCode !== null || child.signalCode !== null || child.pid === undefined;
}

function usageLine(percent: number): string {
  return `${percent.toFixed(1).padStart(6)} %  ${'#'.repeat(Math.min(60, Math.round(percent / 2.5)))}`;
}

/** What a person looks for in a payload; it holds more. */
function shortened(json: unknown): string {
  const chosen = Object.entries(json ?? {}).filter(([key]) => SHOWN_KEYS.includes(key));
  return `${JSON.stringify(Object.fromEntries(chosen)).slice(0, -1)}, …}`;
}

async function show(node: DemoNode, ...args: string[]): Promise<void> {
  const { status, text } = await node.skos(...args);
  say(`$ skos ${args.join(' ')}\n${text}\n`);
  claim(status === 0, `skos ${args.join(' ')} ended with ${status}`);
}

await perform(play);
