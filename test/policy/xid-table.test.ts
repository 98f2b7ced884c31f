/** The generated table is what the generator makes of its data. */
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import t from 'tap';

const DATA = '../shared/data/xid_table.csv';

t.test(
  'agrees with the catalogue that it was made from',
  { skip: existsSync(DATA) ? false : `no ${DATA}` },
  async (t) => {
    const made = execFileSync(process.execPath, ['scripts/xid-table.mjs', '--print', DATA], { encoding: 'utf8' });
    t.equal(made, readFileSync('src/policy/xid-table.ts', 'utf8'));
  },
);
