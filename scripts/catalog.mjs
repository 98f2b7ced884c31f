/**
 * Writes systemd/skos.catalog from the table in src/app/journal-events.ts. Run after `npm run build:ts`; a test asserts
 * that the file and the table agree.
 */
import { writeFileSync } from 'node:fs';
import { catalog } from '../build/ts/src/app/journal-events.js';

writeFileSync(new URL('../systemd/skos.catalog', import.meta.url), catalog());
