/** Lists that the agent gives in pages, put together. */
import type { ListPage } from '../core/protocol.js';

export async function allRows<T>(page: (after: { after?: string }) => Promise<ListPage<T>>): Promise<T[]> {
  const rows: T[] = [];
  let after: string | null | undefined;
  do {
    const answer = await page(typeof after === 'string' ? { after } : {});
    rows.push(...answer.rows);
    after = answer.after;
  } while (after !== null);
  return rows;
}
