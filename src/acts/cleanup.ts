/**
 * One run of what deletes or archives, or of its listing, by root's plan: place after place, each listed at the moment before it is touched. A place that
 * cannot be worked in is left alone and said so; the others go on.
 *
 * The act does not know which file system is full: all its places are cleaned, and the report says for each which file system it is
 * on and how much is free there afterwards.
 */
import { createHash } from 'node:crypto';
import { readFileSync, statfsSync } from 'node:fs';
import { join } from 'node:path';
import type { ActPlan, Place } from '../config/act-plan.js';
import { reason, SkosError } from '../core/errors.js';
import type { FileAttributes } from '../sensors/addon.js';
import type { Outcome } from './act.js';
import { type Archive, closeArchive, moveListed, openArchive } from './archive.js';
import { bytesOf, Directory, shownPath } from './directory.js';
import { fileSystemOf, type InUse } from './in-use.js';
import { Items } from './items.js';
import { archivedFiles, journalDirectory, vacuum, vacuumable } from './journal-vacuum.js';
import { freedBytes, type Listed, type Listing, type ListingKind, listPlace } from './listing.js';
import { isDue, rotatable, rotate } from './logrotate.js';
import { removeListed } from './remove.js';
import { cleanByTmpfiles } from './tmpfiles.js';

/** A clock that is set by more than this since the listing judges ages otherwise than the listing did. */
const MAX_CLOCK_STEP_MS = 60_000;
/** Of one act, to the journal of its unit. */
const MAX_WARNINGS = 200;

export interface CleanupOptions {
  readonly plan: ActPlan;
  readonly isListing: boolean;
  readonly reportDirectory: string;
  /** Of root alone, unlike that of the reports: when logs were rotated. */
  readonly stateDirectory: string;
  readonly programs: { readonly tmpfiles: string; readonly journalctl: string; readonly logrotate: string };
  /** Root below which the journal is looked for. */
  readonly root: string;
  readonly timeoutMs: number;
  /** How long systemd-tmpfiles may take to start. */
  readonly spareMs: number;
  readonly wallMs: () => number;
  /** Of the boot. Time in which the machine slept counts. */
  readonly uptimeMs: () => number;
  /** Of a file system; in-use.ts. */
  readonly openFiles: (fileSystem: string | undefined) => InUse;
  /** Of the files that are archived. Throws where there is no way to see them. */
  readonly attributes: () => FileAttributes;
  /** Of one place; absent: as many as there is memory for. */
  readonly maxListed?: number;
  readonly warn: (text: string) => void;
}

interface PlaceReport {
  readonly path: string;
  readonly listed: number;
  /** Of the listed; absent in a listing. */
  gone?: number;
  bytes: number;
  readonly kept?: Readonly<Record<string, number>>;
  availableBytes?: number;
  problem?: string;
}

/** Of which a report is made. */
export type CleanedUp = Outcome & { readonly items: readonly string[]; readonly digest: string };

export function cleanUp(options: CleanupOptions): CleanedUp {
  return new CleanUp(options).run();
}

class CleanUp {
  readonly #options: CleanupOptions;
  readonly #items = new Items();
  readonly #digest = createHash('sha256');
  readonly #places: PlaceReport[] = [];
  readonly #warn: (text: string) => void;
  /** Wall time minus time since boot: moves only when the clock is set. */
  readonly #bootedAtMs: number;
  #listed = 0;
  #gone = 0;
  /** Files of the list that are there still. A directory stays where reading it has made it young again. */
  #stays = 0;
  #bytes = 0;
  #worked = 0;
  #isFull = false;

  constructor(options: CleanupOptions) {
    this.#options = options;
    this.#bootedAtMs = options.wallMs() - options.uptimeMs();
    let warnings = 0;
    this.#warn = (text) => {
      if (warnings++ < MAX_WARNINGS) options.warn(text);
    };
  }

  run(): CleanedUp {
    const { plan, isListing } = this.#options;
    if (!isListing) this.#compareWithListing();
    if (plan.archiveTo !== null) this.#archive(plan.archiveTo);
    else for (const place of plan.places) this.#place(place, this.#cleaner(place));
    if (plan.journal !== null) this.#journal(plan.journal);
    for (const each of plan.logrotate) this.#rotate(each.config);
    const problems = this.#places.filter(({ problem }) => problem !== undefined).length;
    return {
      ok: this.#worked > 0 && !(this.#isFull && this.#gone === 0),
      summary: this.#summary(problems),
      items: this.#items.list,
      total: this.#items.total,
      digest: this.#digest.digest('hex'),
      details: {
        bootedAtMs: Math.round(this.#bootedAtMs),
        listed: this.#listed,
        gone: this.#gone,
        bytes: this.#bytes,
        places: this.#places,
      },
    };
  }

  #summary(problems: number): string {
    const { plan, isListing } = this.#options;
    const left = problems === 0 ? '' : `; left alone: ${problems} of ${this.#places.length}, ${this.#firstProblem()}`;
    if (isListing)
      return `would ${plan.archiveTo === null ? 'delete' : 'move'} ${this.#listed}, ${binary(this.#bytes)}${left}`;
    const staying = this.#stays === 0 ? '' : `, ${this.#stays} of the list stay`;
    return `${plan.archiveTo === null ? 'deleted' : 'moved'} ${this.#gone}, ${binary(this.#bytes)}${staying}${this.#isFull ? '; the archive is full' : ''}${left}`;
  }

  #firstProblem(): string {
    return this.#places.find(({ problem }) => problem !== undefined)?.problem ?? '';
  }

  // ---- The clock -----------------------------------------------------------------------------------------------------

  /** What an operator was shown was judged by this clock. */
  #compareWithListing(): void {
    const { reportDirectory, plan } = this.#options;
    let listing: unknown;
    try {
      listing = JSON.parse(readFileSync(join(reportDirectory, `${plan.name}.list.json`), 'utf8'));
    } catch {
      return; // None was made in this boot.
    }
    const details = (listing as { details?: Record<string, unknown> } | null)?.details;
    const bootedAtMs = details?.bootedAtMs;
    if (typeof bootedAtMs === 'number') this.#requireClock(bootedAtMs);
  }

  #requireClock(bootedAtMs: number): void {
    const { wallMs, uptimeMs } = this.#options;
    const stepMs = wallMs() - uptimeMs() - bootedAtMs;
    if (Math.abs(stepMs) <= MAX_CLOCK_STEP_MS) return;
    throw new SkosError('SKOS_ACT_CLOCK', `the clock was set by ${Math.round(stepMs / 1000)} s since the listing`);
  }

  // ---- Places --------------------------------------------------------------------------------------------------------

  #cleaner(place: Place): { kind: ListingKind; apply: (listing: Listing, inUse: InUse) => void } {
    const { programs, timeoutMs, spareMs, wallMs, plan } = this.#options;
    const warn = this.#warn;
    // Logs that are old are files; the directories of a service are not to vanish under it.
    if (plan.name === 'cleanup_logs' || place.pattern !== undefined || place.exclude.length > 0)
      return { kind: 'files', apply: (listing, inUse) => removeListed({ listing, inUse, warn }) };
    return {
      kind: 'tree',
      apply: (listing, inUse) =>
        cleanByTmpfiles({ listing, inUse, program: programs.tmpfiles, timeoutMs, spareMs, wallMs, warn }),
    };
  }

  #archive(archiveTo: { path: string; inside: string }): void {
    const { plan, isListing, openFiles, wallMs } = this.#options;
    let archive: Archive | undefined;
    try {
      archive = openArchive({ ...archiveTo, isListing, attributes: this.#options.attributes() });
    } catch (error) {
      this.#problem(archiveTo.path, error);
      return;
    }
    try {
      for (const place of plan.places) {
        this.#place(place, {
          kind: 'archive',
          apply: (listing) => {
            const { partial } = archive;
            const fileSystem = fileSystemOf(listing.root.fd);
            if (partial === undefined || this.#isFull) return;
            this.#isFull = moveListed({
              listing,
              archive: { ...archive, partial },
              openFiles: () => openFiles(fileSystem),
              nowMs: wallMs,
              warn: this.#warn,
            }).isFull;
          },
        });
      }
    } finally {
      closeArchive(archive);
    }
  }

  #place(place: Place, { kind, apply }: { kind: ListingKind; apply: (listing: Listing, inUse: InUse) => void }): void {
    const { isListing, wallMs, openFiles, maxListed } = this.#options;
    let root: Directory | undefined;
    try {
      root = Directory.place(place.path);
      const inUse = openFiles(fileSystemOf(root.fd));
      // A writer that cannot be seen may hold any of them open.
      if (inUse.unseen > 0)
        throw new SkosError('SKOS_ACT_PLACE', `${inUse.unseen} processes cannot be looked into for open files`);
      const listing = listPlace({
        place,
        kind,
        root,
        inUse,
        wallMs: wallMs(),
        ...(maxListed === undefined ? {} : { maxListed }),
      });
      if (listing.isPart) this.#warn(`${place.path} holds more than can be listed: the rest is left for the next run`);
      const report = this.#listing(listing);
      this.#requireClock(this.#bootedAtMs);
      if (!isListing && listing.items.size > 0) apply(listing, inUse);
      this.#afterwards(listing, report);
      this.#worked++;
    } catch (error) {
      this.#problem(place.path, error);
    } finally {
      root?.close();
    }
  }

  #listing({ place, items, kept }: Listing): PlaceReport {
    for (const { path, isDirectory } of items.values()) this.#item(path, isDirectory ? '/' : '');
    const report: PlaceReport = { path: place.path, listed: items.size, bytes: 0, kept: Object.fromEntries(kept) };
    this.#places.push(report);
    return report;
  }

  #item(path: string, mark = ''): void {
    this.#listed++;
    this.#digest.update(path, 'latin1').update('\0');
    this.#items.add(`${shownPath(path)}${mark}`);
  }

  /** What is gone is asked of the files, whatever the program said that deleted them. */
  #afterwards({ place, root, items }: Listing, report: PlaceReport): void {
    const isThere = ({ path }: Listed) => root.lstat(path.slice(bytesOf(place.path).length + 1)) !== undefined;
    const counted = this.#options.isListing
      ? [...items.values()]
      : [...items.values()].filter((item) => !isThere(item));
    if (!this.#options.isListing) {
      report.gone = counted.length;
      this.#gone += counted.length;
      this.#stays += [...items.values()].filter((item) => !item.isDirectory && isThere(item)).length;
    }
    report.bytes = freedBytes(counted);
    this.#bytes += report.bytes;
    const { bavail, bsize } = statfsSync(root.at());
    report.availableBytes = bavail * bsize;
  }

  #problem(path: string, error: unknown): void {
    const problem = reason(error);
    const known = this.#places.at(-1);
    if (known?.path === path) known.problem = problem;
    else this.#places.push({ path, listed: 0, bytes: 0, problem });
    this.#warn(`${path} was left alone: ${problem}`);
  }

  // ---- Logs ----------------------------------------------------------------------------------------------------------

  #journal(wanted: NonNullable<ActPlan['journal']>): void {
    const { root, programs, timeoutMs, isListing, wallMs } = this.#options;
    const directory = journalDirectory(root);
    if (directory === undefined) {
      this.#problem('journal', new Error('no journal is kept on disk'));
      return;
    }
    try {
      const before = archivedFiles(directory);
      const listed = vacuumable(before, wanted, wallMs());
      for (const { path } of listed) this.#item(bytesOf(path));
      const report: PlaceReport & { unlisted?: number } = { path: directory, listed: listed.length, bytes: 0 };
      this.#places.push(report);
      if (isListing) report.bytes = sumOf(listed);
      else {
        this.#requireClock(this.#bootedAtMs);
        vacuum(wanted, { directory, program: programs.journalctl, timeoutMs });
        const there = new Set(archivedFiles(directory).map(({ path }) => path));
        const gone = before.filter(({ path }) => !there.has(path));
        const names = new Set(listed.map(({ path }) => path));
        report.gone = gone.filter(({ path }) => names.has(path)).length;
        report.unlisted = gone.length - report.gone;
        report.bytes = sumOf(gone);
        this.#gone += report.gone;
        this.#stays += listed.length - report.gone;
      }
      this.#bytes += report.bytes;
      this.#worked++;
    } catch (error) {
      this.#problem(directory, error);
    }
  }

  #rotate(config: string): void {
    const { programs, stateDirectory, timeoutMs, isListing, wallMs } = this.#options;
    const options = { config, program: programs.logrotate, directory: stateDirectory, timeoutMs, wallMs: wallMs() };
    try {
      if (!isDue(options)) {
        this.#places.push({ path: config, listed: 0, bytes: 0, problem: 'it was rotated within the last day' });
        return;
      }
      const listed = rotatable(options);
      for (const path of listed) this.#item(bytesOf(path), ' (rotated)');
      const report: PlaceReport = { path: config, listed: listed.length, bytes: 0 };
      this.#places.push(report);
      if (!isListing) {
        rotate(options);
        report.gone = listed.length;
        this.#gone += listed.length;
      }
      this.#worked++;
    } catch (error) {
      this.#problem(config, error);
    }
  }
}

function sumOf(files: readonly { readonly bytes: number }[]): number {
  return files.reduce((sum, { bytes }) => sum + bytes, 0);
}

const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];

function binary(bytes: number): string {
  const power = Math.min(UNITS.length - 1, bytes === 0 ? 0 : Math.floor(Math.log2(bytes) / 10));
  return `${(bytes / 1024 ** power).toFixed(power === 0 ? 0 : 1)} ${UNITS[power]}`;
}
