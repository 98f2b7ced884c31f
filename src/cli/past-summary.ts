/** What an armed node would have done since anything is stored, for `skos arm`: quick rather than exact, and it says so. */
import { ANTIBODIES } from '../antibodies/antibodies.js';
import type { Config } from '../config/schema.js';
import { Replay } from '../control/replay.js';
import type { AgentClient } from '../core/agent-client.js';
import { reason, SkosError } from '../core/errors.js';
import { allRows } from './all-rows.js';
import type { Io } from './command.js';
import { clean, paint, plural } from './format.js';
import { localText } from './local-time.js';
import { PastFeed } from './past-feed.js';
import { Progress } from './progress.js';
import { agentChannels, feedStored, withMode } from './replay.js';
import { episodeLines, pastLines, totalLines } from './replay-text.js';
import { wrapped } from './table.js';

/** Of all channels together: some seconds of reading. */
const MAX_POINTS = 200_000;
/** Of one; the agent gives no more. */
const MAX_POINTS_PER_CHANNEL = 10_000;
/** Nobody who arms a node waits longer for what is past. */
const DEADLINE_MS = 15_000;
const SHOWN_EPISODES = 5;

/** Never rejects: what is past must not keep anybody from arming a node. */
export async function pastSummary(client: AgentClient, config: Config, io: Io): Promise<string> {
  try {
    return (await summary(client, config, io)).join('\n');
  } catch (error) {
    if (!(error instanceof SkosError)) throw error;
    const text = `What it would have done so far is not known: ${reason(error)}`;
    return wrapped(clean(text), { width: io.columns }).join('\n');
  }
}

async function summary(client: AgentClient, config: Config, io: Io): Promise<string[]> {
  const { bold, warn } = paint(io.color);
  const channels = await agentChannels(client);
  const replay = new Replay({ config: withMode(config, 'auto'), antibodies: ANTIBODIES, channels });
  const watched = new Set(replay.channels);
  const stored = (await allRows((after) => client.request('history.channels', after))).filter(({ id }) =>
    watched.has(id),
  );
  if (stored.length === 0)
    return ['Of what the rules watch nothing is stored yet: what it would have done is not known.'];
  const nowMs = io.wallMs();
  const stretch = { fromAtMs: Math.min(...stored.map(({ firstAtMs }) => firstAtMs)), toAtMs: nowMs };
  const points = Math.min(MAX_POINTS_PER_CHANNEL, Math.ceil(MAX_POINTS / watched.size));
  const feed = new PastFeed([replay]);
  const progress = new Progress({ io });
  const endMs = performance.now() + DEADLINE_MS;
  const isCancelled = () => io.signal.aborted || performance.now() > endMs;
  const isWhole = await feedStored(client, { replays: [replay], feed, stretch, progress, isCancelled, points });
  progress.clear();
  const quantities = new Map(channels.map(({ id, quantity }) => [id, quantity]));
  const report = replay.report();
  const since = localText(feed.figures.fromMs ?? stretch.fromAtMs, nowMs);
  return [
    bold(`What it would have done since ${since}, where the history begins:`),
    ...totalLines(report, io),
    ...episodeLines(report.episodes.slice(-SHOWN_EPISODES), (channel) => quantities.get(channel), io),
    ...(isWhole ? [] : [warn(`  only ${feed.ids.size} of ${plural(watched.size, 'channel')} in the time there is`)]),
    ...pastLines(feed.figures, io),
    '  exactly, and for any time: skos replay --mode auto',
  ];
}
