/**
 * Plans of the programs that delete and archive: what root's configuration names, in the form that src/acts reads, and what
 * systemd lets their units write to. Made by `skos config compile`; like the allow-list, they are root's word, and the only one.
 */
import { type Infer, list, nullable, number, object, oneOf, optional, string } from '../core/shape.js';
import type { Config, PlaceConfig } from './schema.js';

export const ACT_NAMES = ['cleanup_temp', 'cleanup_logs', 'emergency_cleanup', 'archive_old_data'] as const;
export type ActName = (typeof ACT_NAMES)[number];

const place = object({
  path: string(),
  pattern: optional(string()),
  exclude: list(string()),
  ageSeconds: number({ min: 1, integer: true }),
});
export const planShape = object({
  v: oneOf('1'),
  name: oneOf(...ACT_NAMES),
  places: list(place),
  journal: nullable(object({ sizeBytes: nullable(number({ min: 1 })), ageSeconds: nullable(number({ min: 1 })) })),
  logrotate: list(object({ config: string(), path: string() })),
  archiveTo: nullable(object({ path: string(), inside: string() })),
});
export type ActPlan = Infer<typeof planShape>;
export type Place = ActPlan['places'][number];

const SECONDS: Readonly<Record<string, number>> = { m: 60, h: 3_600, d: 86_400, w: 604_800 };
const BYTES: Readonly<Record<string, number>> = { M: 2 ** 20, G: 2 ** 30, T: 2 ** 40 };

/** Of an age as the schema takes it. */
export function ageSeconds(text: string): number {
  return Number(text.slice(0, -1)) * (SECONDS[text.slice(-1)] ?? Number.NaN);
}

function sizeBytes(text: string): number {
  return Number(text.slice(0, -1)) * (BYTES[text.slice(-1)] ?? Number.NaN);
}

/** Why an act has nothing to do; undefined: it has. */
export function actUnavailable({ storage: { cleanup } }: Pick<Config, 'storage'>, name: ActName): string | undefined {
  const key = (
    { cleanup_temp: 'temp', cleanup_logs: 'logs', emergency_cleanup: 'caches', archive_old_data: 'archive' } as const
  )[name];
  if (cleanup[key].length === 0) return `storage.cleanup.${key} is empty`;
  return name === 'archive_old_data' && cleanup.archive_to === null ? 'storage.cleanup.archive_to is null' : undefined;
}

/** `inside`: where in its file system the directory lies, undefined where that cannot be known (it is not there). */
export function actPlan(
  config: Config,
  name: ActName,
  inside: (path: string) => string | undefined,
): ActPlan | undefined {
  if (actUnavailable(config, name) !== undefined) return undefined;
  const { temp, caches, archive, archive_to, logs } = config.storage.cleanup;
  const empty: ActPlan = { v: '1', name, places: [], journal: null, logrotate: [], archiveTo: null };
  switch (name) {
    case 'cleanup_temp':
      return { ...empty, places: temp.map(planned) };
    case 'emergency_cleanup':
      return { ...empty, places: caches.map(planned) };
    case 'archive_old_data': {
      const place = archive_to === null ? undefined : inside(archive_to);
      if (archive_to === null || place === undefined) return undefined;
      return { ...empty, places: archive.map(planned), archiveTo: { path: archive_to, inside: place } };
    }
    case 'cleanup_logs':
      return { ...empty, ...plannedLogs(logs) };
  }
}

function planned({ path, pattern, exclude, age }: PlaceConfig): Place {
  return { path, pattern, exclude, ageSeconds: ageSeconds(age) };
}

function plannedLogs(logs: Config['storage']['cleanup']['logs']): Pick<ActPlan, 'places' | 'journal' | 'logrotate'> {
  const journals = logs.flatMap(({ journal }) => journal ?? []);
  // Of several, the strictest word: each of them may be carried out.
  const least = (values: readonly number[]) => (values.length === 0 ? null : Math.min(...values));
  return {
    places: logs.flatMap(({ path, age, logrotate, pattern, exclude }) =>
      path === undefined || age === undefined || logrotate !== undefined
        ? []
        : planned({ path, age, pattern, exclude }),
    ),
    journal:
      journals.length === 0
        ? null
        : {
            sizeBytes: least(journals.flatMap(({ size }) => (size === undefined ? [] : sizeBytes(size)))),
            ageSeconds: least(journals.flatMap(({ age }) => (age === undefined ? [] : ageSeconds(age)))),
          },
    logrotate: logs.flatMap(({ logrotate, path }) =>
      logrotate === undefined || path === undefined ? [] : { config: logrotate, path },
    ),
  };
}

// ---- Files ---------------------------------------------------------------------------------------------------------

/** The unit's name of an act: cleanup_temp → skos-act-cleanup-temp. */
export function actUnit(name: ActName, { listing }: { listing: boolean }): string {
  return `skos-act-${name.replaceAll('_', '-')}${listing ? '-list' : ''}.service`;
}

export interface ActFile {
  /** Below the root of the system. */
  readonly path: string;
  /** undefined: there shall be none. */
  readonly text: string | undefined;
}

export const JOURNAL_DIRECTORY = '/var/log/journal';

/** Plan and drop-in of each act: what the program reads, and what the kernel lets it write. */
export function actFiles(config: Config, inside: (path: string) => string | undefined): ActFile[] {
  return ACT_NAMES.flatMap((name) => {
    const plan = actPlan(config, name, inside);
    return [
      { path: `etc/skos/act/${name}.json`, text: plan && `${JSON.stringify(plan, null, 2)}\n` },
      {
        path: `etc/systemd/system/${actUnit(name, { listing: false })}.d/50-skos-paths.conf`,
        text: plan && dropIn(writable(plan)),
      },
    ];
  });
}

function writable({ places, journal, logrotate, archiveTo }: ActPlan): string[] {
  return [
    ...places.map(({ path }) => path),
    ...logrotate.map(({ path }) => path),
    ...(journal === null ? [] : [JOURNAL_DIRECTORY]),
    ...(archiveTo === null ? [] : [archiveTo.path]),
  ];
}

/** Paths hold neither quotes, backslashes nor "%": cleanup-places.ts. A place that is not there keeps no other from being cleaned. */
function dropIn(paths: readonly string[]): string {
  return [
    '# Made by `skos config compile` from storage.cleanup. Do not edit: compile again.',
    '[Service]',
    ...[...new Set(paths)].map((path) => `ReadWritePaths="-${path}"`),
    '',
  ].join('\n');
}
