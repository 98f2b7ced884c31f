/**
 * Puts a new configuration in force, one reload after the other. Until the sensors have taken it over a failure takes all of
 * it back; from then on it is in force, and what the actuator refuses leaves the actuator with its former allow-list, which
 * is said as that.
 */
import type { Config } from '../config/schema.js';
import { type ErrorCode, reason, SkosError } from '../core/errors.js';
import type { Log } from '../core/ports.js';
import type { LogLevel } from '../core/vocabulary.js';
import type { CurrentConfig } from './current-config.js';
import type { Outlet } from './outlet.js';
import type { Record } from './record.js';

export interface ReloaderOptions {
  readonly config: CurrentConfig;
  /** Rejects when the configuration is bad. */
  readonly load: () => Promise<Config>;
  readonly sensing: { reload(): Promise<void> };
  readonly tick: { reload(): void };
  /** Makes the allow-list of an actuator of our own, and says whether it is another one; absent where root's `skos config compile` does. */
  readonly compileAllowList?: () => Promise<boolean>;
  readonly link: { reload(): Promise<void> };
  /** Tells skos-gpu the rates. */
  readonly gpus: { reload(): void };
  readonly outlet: Outlet;
  readonly record: Record;
  readonly log: Log & { setLevel(level: LogLevel): void };
}

/** What the agent looks at only when it starts: where its parts are found, and what it is called. */
const AT_START: readonly (keyof Config)[] = ['node', 'data_dir', 'store', 'actuator', 'gpu'];

export class Reloader {
  readonly #options: ReloaderOptions;
  #last: Promise<unknown> = Promise.resolve();

  constructor(options: ReloaderOptions) {
    this.#options = options;
  }

  /** Returns the top-level keys that changed. Rejects when not all of it came into force; the journal knows why already. */
  reload(): Promise<string[]> {
    const next = this.#last.then(() => this.#reload());
    this.#last = next.catch(() => undefined);
    return next;
  }

  /** The machine is another one than the list was made for. Of an actuator of our own only; the journal knows what it refuses. */
  renewAllowList(): Promise<void> {
    const next = this.#last.then(async () => {
      const { compileAllowList, link, log } = this.#options;
      try {
        if (await compileAllowList?.()) await link.reload();
      } catch (error) {
        log.error(`the actuator keeps its former allow-list: ${reason(error)}`, {
          event: 'config.refused',
          code: codeOf(error, 'SKOS_ACTUATOR_ALLOW'),
        });
      }
    });
    this.#last = next;
    return next;
  }

  async #reload(): Promise<string[]> {
    const { config, outlet, record } = this.#options;
    const former = config.get();
    await this.#takeOver(former);
    const next = config.get();
    const changed = changedKeys(former, next);
    outlet.broadcast('net.config', {});
    this.#options.gpus.reload();
    record.add({
      kind: 'config.reloaded',
      who: 'agent',
      what: { changed, mode: next.mode },
      level: 'info',
      message: `configuration reloaded, mode ${next.mode}; changed: ${changed.join(', ') || 'nothing'}${laterText(changed)}`,
      fields: { event: eventOf(former, next) },
    });
    await this.#tellActuator();
    return changed;
  }

  async #takeOver(former: Config): Promise<void> {
    const { config, load, sensing, tick, log } = this.#options;
    try {
      config.replace(await load());
      await sensing.reload();
    } catch (error) {
      config.replace(former);
      log.error(`configuration not reloaded, the former one stays: ${reason(error)}`, {
        event: 'config.refused',
        code: codeOf(error, 'SKOS_CONFIG_INVALID'),
      });
      throw error;
    }
    const { level } = config.get().log;
    // A level that `skos log level` has set for a while stays, unless the file says another one now.
    if (level !== former.log.level) log.setLevel(level);
    tick.reload();
  }

  async #tellActuator(): Promise<void> {
    const { compileAllowList, link, log } = this.#options;
    try {
      await compileAllowList?.();
      await link.reload();
    } catch (error) {
      const why = `the configuration is in force, but the actuator keeps its former allow-list: ${reason(error)}`;
      const code = codeOf(error, 'SKOS_ACTUATOR_ALLOW');
      log.error(why, { event: 'config.refused', code });
      throw new SkosError(code, why, { cause: error });
    }
  }
}

/** Arming and disarming are reloads, and more: whether the node acts is what an operator looks for in the journal. */
function eventOf(former: Config, next: Config): string {
  if ((former.mode === 'auto') === (next.mode === 'auto')) return 'config.reloaded';
  return next.mode === 'auto' ? 'arm.armed' : 'arm.disarmed';
}

function codeOf(error: unknown, otherwise: ErrorCode): ErrorCode {
  return error instanceof SkosError ? error.code : otherwise;
}

function laterText(changed: readonly string[]): string {
  const later = AT_START.filter((key) => changed.includes(key));
  return later.length === 0 ? '' : `; once the agent is started again: ${later.join(', ')}`;
}

/** Top-level keys whose value differs. */
function changedKeys(before: Config, after: Config): string[] {
  const keys = Object.keys(after) as (keyof Config)[];
  return keys.filter((key) => JSON.stringify(before[key]) !== JSON.stringify(after[key]));
}
