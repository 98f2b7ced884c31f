/**
 * What lm-sensors itself shows: `sensors -j`, for `skos doctor` alone. A machine whose temperatures only lm-sensors finds is a
 * machine where SKOS has something to learn. Only the CLI starts this program, never the agent.
 */
import { spawn } from 'node:child_process';

/** A slow chip takes 0.2 s a sensor; beyond this the program hangs in a driver. */
const DEADLINE_MS = 3_000;
/** Some hundred bytes a sensor. */
const MAX_OUTPUT_BYTES = 1024 * 1024;
const MAX_CHIPS = 256;
const MAX_FEATURES = 1024;

export interface LmSensorsChip {
  readonly chip: string;
  readonly temperatures: number;
}

export type LmSensorsAnswer =
  | { readonly state: 'shown'; readonly chips: readonly LmSensorsChip[] }
  | { readonly state: 'absent' }
  | { readonly state: 'failed'; readonly why: string };

interface Finished {
  readonly output: string;
  readonly failure?: string;
}

/** Never rejects, and comes back within the deadline whatever the program does. */
export async function lmSensors(
  env: Readonly<Record<string, string | undefined>>,
  { deadlineMs = DEADLINE_MS }: { deadlineMs?: number } = {},
): Promise<LmSensorsAnswer> {
  const run = await finished(env, deadlineMs);
  if (run === undefined) return { state: 'absent' };
  const chips = temperatureChips(run.output);
  // It ends with an error when a single sensor cannot be read; what it printed of the others counts.
  if (chips !== undefined && (chips.length > 0 || run.failure === undefined)) return { state: 'shown', chips };
  return { state: 'failed', why: run.failure ?? 'what it prints is no JSON' };
}

/** undefined: there is no such program. */
function finished(
  env: Readonly<Record<string, string | undefined>>,
  deadlineMs: number,
): Promise<Finished | undefined> {
  return new Promise((resolve) => {
    const pieces: Buffer[] = [];
    let length = 0;
    // A process group of its own, so that whatever it starts ends with it.
    const child = spawn('sensors', ['-j'], {
      stdio: ['ignore', 'pipe', 'ignore'],
      env: { PATH: env.PATH, LC_ALL: 'C' },
      detached: true,
    });
    const end = (failure?: string): void => {
      clearTimeout(deadline);
      const output = Buffer.concat(pieces).toString('utf8');
      resolve(failure === undefined ? { output } : { output, failure });
    };
    const abandon = (failure: string): void => {
      kill(child.pid);
      // One that hangs in a driver does not die; nothing waits for it.
      child.stdout.destroy();
      child.unref();
      end(failure);
    };
    const deadline = setTimeout(() => abandon(`it did not end within ${deadlineMs / 1000} s`), deadlineMs);
    child.stdout.on('data', (piece: Buffer) => {
      length += piece.length;
      if (length > MAX_OUTPUT_BYTES) abandon('it prints without an end');
      else pieces.push(piece);
    });
    child.on('error', (error: NodeJS.ErrnoException) => {
      clearTimeout(deadline);
      resolve(error.code === 'ENOENT' ? undefined : { output: '', failure: error.message });
    });
    child.on('close', (status, signal) => {
      if (status === 0) end();
      else end(signal === null ? `it ended with status ${status}` : `it ended by ${signal}`);
    });
  });
}

function kill(pid: number | undefined): void {
  if (pid === undefined) return;
  try {
    process.kill(-pid, 'SIGKILL');
  } catch {
    // It has ended in between.
  }
}

/** {"coretemp-isa-0000":{"Adapter":"…","Core 0":{"temp2_input":41.0,…}}}: chips with a temperature; undefined: no such JSON. */
export function temperatureChips(json: string): LmSensorsChip[] | undefined {
  let parsed: unknown;
  try {
    parsed = JSON.parse(json);
  } catch {
    return undefined;
  }
  if (!isRecord(parsed)) return undefined;
  return Object.entries(parsed)
    .slice(0, MAX_CHIPS)
    .map(([chip, features]) => ({ chip, temperatures: temperatures(features) }))
    .filter(({ temperatures }) => temperatures > 0);
}

function temperatures(features: unknown): number {
  if (!isRecord(features)) return 0;
  return Object.values(features)
    .slice(0, MAX_FEATURES)
    .filter((values) => isRecord(values) && Object.entries(values).some(isTemperature)).length;
}

function isTemperature([name, value]: readonly [string, unknown]): boolean {
  return /^temp\d+_input$/.test(name) && typeof value === 'number' && Number.isFinite(value);
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
