/** What files take. */
import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';

/** Of the files in a directory, 0 where there is none. Those that vanish meanwhile, as LevelDB's do, count nothing. */
export async function bytesIn(directory: string): Promise<number> {
  const names: string[] = await readdir(directory).catch(() => []);
  let sum = 0;
  for (const name of names) {
    const found = await stat(join(directory, name)).catch(() => undefined);
    if (found?.isFile() === true) sum += found.size;
  }
  return sum;
}
