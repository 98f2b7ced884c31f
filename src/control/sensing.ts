/**
 * Observe: which channels there are, the sampler that reads them, and what changed about them. Discovery runs again every
 * minute and soon after a channel falls silent; the sampler is then replaced as a whole, ladders go on.
 *
 * A channel that a rule watches never leaves the list by itself: "was there, now gone" is news (no_data), not silence.
 */
import { type Channel, isDerived, isRate, QUALITIES, type Quality, type Reading } from '../core/channel.js';
import { reason } from '../core/errors.js';
import type { Discovery, Log, Sampler, Tripwire } from '../core/ports.js';
import { NO_RUNG } from '../policy/ladder.js';
import type { CurrentConfig } from './current-config.js';
import type { Rulebook } from './rulebook.js';

/** A new disk or card shows within a minute; a whole discovery costs some ten milliseconds. */
const REDISCOVER_EVERY_MS = 60_000;
/** Gone channels without an alert that stay listed: file systems of containers come and go for as long as the agent runs. */
const MAX_GONE = 64;
/** After a channel fell silent: a driver that is being reloaded takes about so long. Twice as long each time it happens again. */
const REDISCOVER_SOON_MS = 2_000;

const UNREAD: Reading = { value: null, quality: 'no_data', atMs: 0 };

/** Of what was not found, in the line at the start: as much as is read. */
const MAX_TOLD = 8;
/**
 * Channels of one device that come, go or change alike at once, and are told one by one; more are one line. A GPU that hangs has a hundred,
 * and a burst of as many lines would keep waiting in the journal's socket what is said after them.
 */
const MAX_TOLD_ALIKE = 4;

export interface SensingOptions {
  readonly config: CurrentConfig;
  readonly rulebook: Rulebook;
  readonly discover: () => Promise<Discovery>;
  readonly createSampler: (channels: readonly Channel[], tripwires: readonly Tripwire[]) => Sampler;
  readonly log: Log;
}

/** A channel that is read again, or not any more. */
interface News {
  readonly channel: Channel;
  readonly quality: Quality;
}

export type OnSample = (index: number, value: number, quality: Quality, atMs: number) => void;

export class Sensing {
  readonly name = 'sampler';
  readonly #options: SensingOptions;
  #sampler: Sampler | undefined;
  #skipped: Discovery['skipped'] = [];
  #unbound: string[] = [];
  #qualities: Quality[] = [];
  /** Ids of channels whose loss was told: their return is news, too. The first reading of a new one is not. */
  #missed = new Set<string>();
  #timer: NodeJS.Timeout | undefined;
  #soonMs = REDISCOVER_SOON_MS;
  #isSoon = false;
  /** Of the latest discovery that was begun: the result of an earlier one is of an older configuration. */
  #generation = 0;
  #overruns = 0;
  #stopped = true;

  constructor(options: SensingOptions) {
    this.#options = options;
  }

  get channels(): readonly Channel[] {
    return this.#sampler?.channels ?? [];
  }

  /** What was not found or passed over and why, one line each. */
  get notFound(): readonly string[] {
    const lines = this.#skipped.map(({ source, what, why }) => `${source}: ${what}: ${why}`);
    return [...lines, ...this.#unbound];
  }

  async start(): Promise<void> {
    this.#stopped = false;
    await this.#look((channels) => this.#replaceSampler(channels));
    if (this.#stopped) return;
    // Somebody may have asked for a look since this one began.
    this.#schedule(this.#isSoon ? this.#soonMs / 2 : REDISCOVER_EVERY_MS);
    this.#tellNotFound();
  }

  stop(): void {
    this.#stopped = true;
    clearTimeout(this.#timer);
    this.#sampler?.stop();
    this.#sampler = undefined;
  }

  /** After the configuration changed: rules and rates are made anew. */
  async reload(): Promise<void> {
    await this.#look((channels, unanswered) => this.#replaceSampler(this.#withKept(channels, unanswered)));
  }

  /** Discovers and hands over what was found, unless a newer discovery has begun in the meantime. */
  async #look(use: (channels: readonly Channel[], unanswered: readonly string[]) => void): Promise<void> {
    const generation = ++this.#generation;
    const { channels, skipped, unanswered = [] } = await this.#options.discover();
    if (this.#stopped || generation !== this.#generation) return;
    use(channels, unanswered);
    this.#skipped = skipped;
    // A machine that is too busy to answer now may be hot, too.
    if (unanswered.length > 0) this.#rediscoverSoon();
  }

  /** Every sample since the last call, per channel in order of time. */
  drain(each: OnSample): void {
    const sampler = this.#sampler;
    if (sampler === undefined) return;
    const news: News[] = [];
    sampler.drain((index, value, quality, atMs) => {
      if (quality !== this.#qualities[index]) this.#qualityChanged(sampler.channels[index], { index, quality, news });
      each(index, value, quality, atMs);
    });
    if (news.length > 0) this.#tellNews(news);
    if (sampler.overruns > this.#overruns) {
      this.#options.log.warn(`${sampler.overruns - this.#overruns} samples were lost: the agent was kept from running`);
      this.#overruns = sampler.overruns;
    }
  }

  /** Brings latest() up to now; once per tick. */
  refresh(): void {
    this.#sampler?.refresh();
  }

  latest(index: number): Reading {
    return this.#sampler?.latest(index) ?? UNREAD;
  }

  #replaceSampler(channels: readonly Channel[]): void {
    const { config, rulebook, createSampler } = this.#options;
    const former = new Map(this.channels.map((channel, i) => [channel.id, this.#qualities[i]]));
    const unbound: string[] = [];
    const report = { skipped: (rule: string, why: string) => unbound.push(`rule ${rule}: ${why}`) };
    const kept = rulebook.rebuild({ config: config.get(), channels, report });
    let sampler: Sampler | undefined;
    try {
      sampler = createSampler(channels, tripwires(rulebook, channels));
      sampler.start();
    } catch (error) {
      // The old sampler goes on, so that the rules must be those of its channels.
      sampler?.stop();
      rulebook.restore(kept);
      throw error;
    }
    this.#sampler?.stop();
    this.#sampler = sampler;
    this.#unbound = unbound;
    this.#overruns = 0;
    // A rate needs two readings: its first one is no_data by nature, and no news.
    this.#missed = new Set(channels.map(({ id }) => id).filter((id) => this.#missed.has(id)));
    this.#qualities = channels.map((channel) => (isRate(channel) ? 'no_data' : (former.get(channel.id) ?? 'no_data')));
  }

  #schedule(delayMs: number): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => void this.#rediscover(), delayMs);
    this.#timer.unref();
  }

  async #rediscover(): Promise<void> {
    // What falls silent from here on asks for the next look.
    this.#soonMs = this.#isSoon ? Math.min(this.#soonMs * 2, REDISCOVER_EVERY_MS) : REDISCOVER_SOON_MS;
    this.#isSoon = false;
    this.#timer = undefined;
    try {
      await this.#look((channels, unanswered) => {
        const next = this.#withKept(channels, unanswered);
        if (fingerprint(next) === fingerprint(this.channels)) return;
        const before = this.channels;
        this.#replaceSampler(next);
        this.#tellChanges(before, next);
      });
    } catch (error) {
      this.#options.log.warn(`sensors could not be looked for again: ${reason(error)}`, { error });
    }
    if (!this.#stopped && this.#timer === undefined) this.#schedule(REDISCOVER_EVERY_MS);
  }

  /**
   * Looks again within about a second, since something told that the machine has changed; who tells it again and again makes us
   * look less and less often.
   */
  lookSoon(why: string): void {
    if (this.#stopped || this.#isSoon) return;
    this.#options.log.debug(`sensors are looked for again: ${why}`);
    // Sooner than for a silent channel: what is told has happened already.
    this.#rediscoverSoon(this.#soonMs / 2);
  }

  /** A sensor that flickers must neither put the look off again and again nor make us look all the time. */
  #rediscoverSoon(delayMs = this.#soonMs): void {
    if (this.#isSoon) return;
    this.#isSoon = true;
    // A look that overtakes the first one would take its result from the start, which then is ready without a sampler.
    if (this.#sampler !== undefined) this.#schedule(delayMs);
  }

  #withKept(found: readonly Channel[], unanswered: readonly string[]): Channel[] {
    const ids = new Set(found.map(({ id }) => id));
    const { bound } = this.#options.rulebook;
    const watched = new Set(bound.map(({ channel }) => channel.id));
    const raised = new Set(bound.filter(({ ladder }) => ladder.rung !== NO_RUNG).map(({ channel }) => channel.id));
    const missing = this.channels.filter(({ id }) => !ids.has(id));
    const gone = missing.filter(({ id }) => watched.has(id));
    const quiet = gone.filter(({ id }) => !raised.has(id)).slice(-MAX_GONE);
    const isKept = (channel: Channel) =>
      unanswered.includes(channel.source) || raised.has(channel.id) || quiet.includes(channel);
    return [...found, ...missing.filter(isKept)];
  }

  /** Once, in one line: who wonders why a sensor is missing looks into the journal of the start. */
  #tellNotFound(): void {
    const lines = this.notFound;
    if (lines.length === 0) return;
    const rest = lines.length > MAX_TOLD ? [`and ${lines.length - MAX_TOLD} more, see skos status`] : [];
    const message = `not found: ${[...lines.slice(0, MAX_TOLD), ...rest].join('; ')}`;
    this.#options.log.info(message, { event: 'sensors.not_found' });
  }

  #tellChanges(former: readonly Channel[], next: readonly Channel[]): void {
    const { log } = this.#options;
    const before = new Set(former.map(({ id }) => id));
    const after = new Set(next.map(({ id }) => id));
    for (const { who, channel, count } of together(next.filter(({ id }) => !before.has(id))))
      log.info(`new sensor${count === 1 ? '' : 's'} ${who}`, { event: 'sensor.back', channel });
    for (const { who, channel, count } of together(former.filter(({ id }) => !after.has(id))))
      log.warn(`sensor${count === 1 ? '' : 's'} ${who} ${count === 1 ? 'is' : 'are'} gone`, {
        event: 'sensor.gone',
        channel,
      });
  }

  #qualityChanged(
    channel: Channel | undefined,
    { index, quality, news }: { index: number; quality: Quality; news: News[] },
  ): void {
    const before = this.#qualities[index];
    this.#qualities[index] = quality;
    // A derived one is without a value by nature now and then, and what it is derived from tells its own loss.
    if (channel === undefined || isDerived(channel)) return;
    if (this.#isNews(channel.id, quality, before)) news.push({ channel, quality });
    if (quality === 'no_data' && before === 'ok') this.#rediscoverSoon();
  }

  #isNews(channel: string, quality: Quality, before: Quality | undefined): boolean {
    if (quality === 'ok') return this.#missed.delete(channel);
    if (quality !== 'hung' && before !== 'ok') return false;
    this.#missed.add(channel);
    return true;
  }

  #tellNews(news: readonly News[]): void {
    const { log } = this.#options;
    for (const quality of QUALITIES) {
      const alike = news.filter((each) => each.quality === quality).map(({ channel }) => channel);
      for (const { who, channel, count } of together(alike)) {
        const fields = { channel, quality };
        if (quality === 'ok')
          log.info(`${who} ${count === 1 ? 'is' : 'are'} read again`, { event: 'sensor.back', ...fields });
        else if (quality === 'hung')
          log.error(`${who}: its driver does not answer`, { event: 'sensor.hung', ...fields });
        else log.warn(`${who}: ${quality}`, { event: 'sensor.gone', ...fields });
      }
    }
  }
}

interface Told {
  readonly who: string;
  readonly channel: string;
  readonly count: number;
}

/** One by one, or by device where it is more than MAX_TOLD_ALIKE of it. */
function together(channels: readonly Channel[]): Told[] {
  const devices = new Map<string, Channel[]>();
  for (const channel of channels) {
    const device = `${channel.source}/${channel.device}/*`;
    const known = devices.get(device);
    if (known === undefined) devices.set(device, [channel]);
    else known.push(channel);
  }
  return [...devices].flatMap(([device, all]) =>
    all.length > MAX_TOLD_ALIKE
      ? [{ who: `${device} (${all.length} channels)`, channel: device, count: all.length }]
      : all.map(({ id }) => ({ who: id, channel: id, count: 1 })),
  );
}

/** The wake-ups: one per rung of each rule. The ladder decides; a tripwire only sees to it that it is asked at once. */
function tripwires(rulebook: Rulebook, channels: readonly Channel[]): Tripwire[] {
  const indexes = new Map(channels.map((channel, i) => [channel, i]));
  return rulebook.bound.flatMap(({ rule, channel }) =>
    rule.rungs.map(({ raise, clear }) => ({
      channel: indexes.get(channel) ?? 0,
      raise,
      clear,
      samples: rule.forSamples,
    })),
  );
}

function fingerprint(channels: readonly Channel[]): string {
  return JSON.stringify(channels.map(({ id, probe, limits, rateHz }) => [id, probe, limits, rateHz]));
}
