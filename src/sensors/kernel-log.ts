/**
 * The kernel's log, /dev/kmsg: opened, followed by the addon, its events handed on.
 *
 * Installed, systemd hands over the open device (skos-kmsg.socket), because the agent itself may not open it; elsewhere it is
 * opened below the root of devices, which needs root or kernel.dmesg_restrict=0. Where neither works, that is said and
 * nothing else depends on it.
 *
 * A fresh node begins with what comes from now on. Afterwards nothing is left out: the last record that was read is
 * remembered with the boot that it belongs to, and an agent that starts again goes on behind it; in a new boot of a node that
 * knows this one's log, it begins with the first record, because a driver that failed at boot is news.
 */
import { fstatSync } from 'node:fs';
import { join } from 'node:path';
import { getSystemErrorMap } from 'node:util';
import { reason } from '../core/errors.js';
import type { HardwareEvent, Log, Store } from '../core/ports.js';
import type { Addon, KmsgReader } from './addon.js';

/** Character device 1:11, Documentation/admin-guide/devices.txt. */
const KMSG_MAJOR = 1;
const KMSG_MINOR = 11;
const STATE_KEY = 'kernel-log';
/** How far it was read without an event is remembered now and then: who is killed reads a little twice, and nothing never. */
const REMEMBER_EVERY_MS = 10_000;
/** sd_listen_fds(3): SD_LISTEN_FDS_START, and more than a unit of ours ever hands over. */
const FIRST_HANDED_OVER = 3;
const MAX_HANDED_OVER = 16;

export interface KernelLogOptions {
  readonly createKmsgReader: Addon['createKmsgReader'];
  /** Root of devices: /dev. */
  readonly devRoot: string;
  /** Its $LISTEN_FDS says which descriptors systemd has handed over. */
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly bootId: string;
  readonly store: Pick<Store, 'state' | 'putState'>;
  readonly log: Log;
  readonly onEvent: (event: HardwareEvent) => void;
}

interface Remembered {
  readonly boot: string;
  readonly sequence: number;
}

export class KernelLog {
  readonly name = 'kernel-log';
  readonly #options: KernelLogOptions;
  #reader: KmsgReader | undefined;
  #timer: NodeJS.Timeout | undefined;
  #remembered: number | null = null;
  #why = 'not opened yet';

  constructor(options: KernelLogOptions) {
    this.#options = options;
  }

  /** Why it is not read, as a line for `skos status`; empty while it is. */
  get notFound(): readonly string[] {
    return this.#why === '' ? [] : [`kernel log: ${this.#why}`];
  }

  async start(): Promise<void> {
    const { createKmsgReader, env, log } = this.#options;
    const from = await this.#whereFrom();
    const reader = createKmsgReader(() => this.#take());
    const handedOver = descriptorsOfSystemd(env).find(isKmsg);
    const path = join(this.#options.devRoot, 'kmsg');
    const error = reader.open({ ...(handedOver === undefined ? { path } : { fd: handedOver }), ...from });
    if (error !== 0) {
      this.#why = `${path}: ${errnoText(error)}${error === 1 || error === 13 ? '; it needs root, or the unit of the agent' : ''}`;
      log.info(`not found: ${this.notFound.join()}`, { event: 'sensors.not_found' });
      return;
    }
    this.#why = '';
    this.#reader = reader;
    this.#timer = setInterval(() => this.#take(), REMEMBER_EVERY_MS);
    this.#timer.unref();
  }

  stop(): void {
    clearInterval(this.#timer);
    if (this.#reader === undefined) return;
    this.#take();
    this.#reader.close();
    this.#reader = undefined;
    this.#why = 'the agent is stopping';
  }

  async #whereFrom(): Promise<{ after: number | null; fromStart: boolean }> {
    let known: Remembered | undefined;
    try {
      known = remembered(await this.#options.store.state(STATE_KEY));
    } catch (error) {
      this.#options.log.warn(`how far the kernel log was read is not known: ${reason(error)}`, { error });
    }
    if (known === undefined) {
      // Marked as known from here on, also when the log stays silent until the next boot.
      this.#remember(-1);
      return { after: null, fromStart: false };
    }
    if (known.boot !== this.#options.bootId) return { after: null, fromStart: true };
    this.#remembered = known.sequence;
    // −1: known, but nothing was read yet.
    return known.sequence < 0 ? { after: null, fromStart: false } : { after: known.sequence, fromStart: true };
  }

  #take(): void {
    if (this.#reader === undefined) return;
    const { events, sequence, overwritten, dropped, error } = this.#reader.take();
    for (const event of events) this.#hand({ ...event, origin: 'kmsg' });
    if (overwritten + dropped > 0) this.#tellMissed(overwritten, dropped);
    if (sequence !== null && sequence !== this.#remembered) this.#remember(sequence);
    if (error !== 0 && this.#why === '') {
      this.#why = `it cannot be read any more: ${errnoText(error)}`;
      this.#options.log.warn(`kernel log: ${this.#why}`, { event: 'sensors.not_found' });
    }
  }

  #hand(event: HardwareEvent): void {
    try {
      this.#options.onEvent(event);
    } catch (error) {
      // One event that cannot be judged must not keep the others from being told.
      this.#options.log.error(`a hardware event was not judged: ${reason(error)}`, { error, text: event.text });
    }
  }

  #tellMissed(overwritten: number, dropped: number): void {
    const parts = [
      overwritten > 0 ? `${overwritten} messages were overwritten before they were read` : '',
      dropped > 0 ? `${dropped} events did not fit into the queue` : '',
    ];
    this.#options.log.warn(`kernel log: ${parts.filter(Boolean).join('; ')}`, { event: 'hardware.missed' });
  }

  #remember(sequence: number): void {
    this.#remembered = sequence;
    this.#options.store.putState(STATE_KEY, { boot: this.#options.bootId, sequence });
  }
}

function remembered(value: unknown): Remembered | undefined {
  if (typeof value !== 'object' || value === null) return undefined;
  const { boot, sequence } = value as Partial<Remembered>;
  if (typeof boot !== 'string' || typeof sequence !== 'number' || !Number.isSafeInteger(sequence)) return undefined;
  return { boot, sequence };
}

/** Source: sd_listen_fds(3). Variables that are another process's, which started this one, count for nothing. */
function descriptorsOfSystemd(env: KernelLogOptions['env']): number[] {
  if (env.LISTEN_PID !== String(process.pid)) return [];
  const count = Number(env.LISTEN_FDS);
  if (!Number.isSafeInteger(count) || count < 0 || count > MAX_HANDED_OVER) return [];
  return Array.from({ length: count }, (_, index) => FIRST_HANDED_OVER + index);
}

function isKmsg(fileDescriptor: number): boolean {
  try {
    const status = fstatSync(fileDescriptor);
    // The kernel's encoding of a device number: 12 bits of major above the low 8 of minor.
    return status.isCharacterDevice() && status.rdev === ((KMSG_MAJOR << 8) | KMSG_MINOR);
  } catch {
    return false; // Closed.
  }
}

function errnoText(errno: number): string {
  const [name, text] = getSystemErrorMap().get(-errno) ?? [`errno ${errno}`, ''];
  return text === '' ? name : text;
}
