/**
 * Bundles what is shipped: dist/agent.js, dist/net.js, dist/cli.js, dist/act.js and the chunks that they share. Why bundled: 8 to 13 MB
 * less memory and half the start-up CPU, and an installation of one directory without node_modules.
 *
 * What must not slip in unseen is checked on esbuild's own account of the result, and fails the build:
 *  - the agent and skos-net load systeminformation never, and the agent loads no network library;
 *  - there is one mqtt-packet, because aedes and mqtt.js share the setting that saves 17 MB in it.
 *
 * classic-level finds its binary beside its own package.json; bundled, it finds it in dist/classic-level, where the
 * prebuilt binaries for Linux are copied. So dist can be moved as a whole.
 */
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const ROOT = dirname(dirname(fileURLToPath(import.meta.url)));
const DIST = join(ROOT, 'dist');
const ENTRIES = { agent: 'src/app/agent.ts', net: 'src/app/net.ts', cli: 'src/cli/main.ts', act: 'src/app/act.ts' };

/** Packages that a program must not load when it starts, directly or through others. */
const FORBIDDEN = {
  agent: ['systeminformation', 'aedes', 'mqtt', 'mqtt-packet', 'ws', 'fastify'],
  net: ['systeminformation', 'classic-level', 'level'],
  cli: ['systeminformation', 'aedes', 'mqtt'],
  act: ['systeminformation', 'aedes', 'mqtt', 'classic-level', 'level'],
};

/** CommonJS packages in an ES module still call require(), and classic-level asks for its directory. */
const BANNER = `import { createRequire as __skosCreateRequire } from 'node:module';
import { fileURLToPath as __skosFileURLToPath } from 'node:url';
const require = __skosCreateRequire(import.meta.url);
const __skosDist = __skosFileURLToPath(new URL('.', import.meta.url));`;

const classicLevelBinding = {
  name: 'classic-level binding',
  setup({ onLoad }) {
    onLoad({ filter: /[\\/]classic-level[\\/]binding\.js$/ }, () => ({
      contents: `module.exports = require('node-gyp-build')(require('node:path').join(__skosDist, 'classic-level'));`,
      loader: 'js',
    }));
  },
};

/**
 * esbuild gives `await import()` of a CommonJS package its default export only, Node.js also the names in it. Sources are
 * written for Node.js, so the names are added.
 */
const namedExports = {
  name: 'named exports of lazily imported CommonJS',
  setup({ onResolve, onLoad }) {
    onResolve({ filter: /^systeminformation$/ }, ({ path, kind }) =>
      kind === 'dynamic-import' ? { path, namespace: 'named-exports' } : undefined,
    );
    onLoad({ filter: /.*/, namespace: 'named-exports' }, ({ path }) => {
      const names = Object.keys(createRequire(import.meta.url)(path)).filter((name) => /^[A-Za-z_]\w*$/.test(name));
      const contents = `import all from '${path}'; export default all; export const { ${names.join(', ')} } = all;`;
      return { contents, resolveDir: ROOT, loader: 'js' };
    });
  },
};

async function main() {
  const entryPoints = entriesThatExist();
  const { metafile, outputFiles } = await build({
    absWorkingDir: ROOT,
    entryPoints,
    outdir: DIST,
    bundle: true,
    splitting: true,
    // Flat, so that every chunk sees the same directory as dist.
    chunkNames: 'chunk-[hash]',
    format: 'esm',
    platform: 'node',
    target: 'node20',
    minifySyntax: true,
    minifyWhitespace: true,
    // Names stay: a stack trace in the journal of an air-gapped node is all that anybody gets to see.
    minifyIdentifiers: false,
    keepNames: false,
    legalComments: 'none',
    banner: { js: BANNER },
    // Optional accelerators of ws; mqtt.js loads ws only for ws:// URLs.
    external: ['bufferutil', 'utf-8-validate'],
    plugins: [classicLevelBinding, namedExports],
    metafile: true,
    // Written below: a build that fails leaves the former dist as it is.
    write: false,
    logLevel: 'warning',
  });
  check(metafile, Object.keys(entryPoints));
  rmSync(DIST, { recursive: true, force: true });
  mkdirSync(DIST);
  for (const { path, contents } of outputFiles) writeFileSync(path, contents);
  copyClassicLevel();
  writeLicences(metafile);
  writeFileSync(join(DIST, 'package.json'), `${JSON.stringify({ type: 'module', private: true })}\n`);
}

function entriesThatExist() {
  const entries = Object.entries(ENTRIES).filter(([, file]) => {
    if (existsSync(join(ROOT, file))) return true;
    console.error(`bundle: ${file} is not there; dist gets no program from it`);
    return false;
  });
  if (entries.length === 0) fail('no entry point is there');
  return Object.fromEntries(entries);
}

function copyClassicLevel() {
  const from = join(ROOT, 'node_modules/classic-level');
  const to = join(DIST, 'classic-level');
  for (const platform of readdirSync(join(from, 'prebuilds')).filter((name) => name.startsWith('linux-'))) {
    cpSync(join(from, 'prebuilds', platform), join(to, 'prebuilds', platform), { recursive: true });
  }
  // Where there is no prebuilt binary for a machine, npm has built one.
  const built = join(from, 'build/Release');
  if (existsSync(built)) {
    mkdirSync(join(to, 'build/Release'), { recursive: true });
    for (const file of readdirSync(built).filter((name) => name.endsWith('.node'))) {
      cpSync(join(built, file), join(to, 'build/Release', file));
    }
  }
  cpSync(join(from, 'LICENSE'), join(to, 'LICENSE'));
}

/** What is bundled is redistributed: each licence travels with it. */
function writeLicences({ inputs }) {
  const folders = Object.keys(inputs).flatMap(
    (input) => /^.*node_modules\/(?:@[^/]+\/)?[^/]+(?=\/)/.exec(input)?.[0] ?? [],
  );
  const texts = [...new Set(folders)].sort().map((folder) => {
    const path = join(ROOT, folder);
    const { name, version, license } = JSON.parse(readFileSync(join(path, 'package.json'), 'utf8'));
    const file = readdirSync(path).find((entry) => /^licen[cs]e(\.|$)/i.test(entry));
    const text = file === undefined ? '' : readFileSync(join(path, file), 'utf8').trim();
    return `${name} ${version} (${license})\n\n${text}\n`;
  });
  writeFileSync(join(DIST, 'LICENCES.txt'), texts.join(`\n${'-'.repeat(80)}\n\n`));
}

function check(metafile, names) {
  for (const name of names) {
    const packages = packagesLoadedBy(metafile, `dist/${name}.js`);
    const found = (FORBIDDEN[name] ?? []).filter((forbidden) => packages.has(forbidden));
    if (found.length > 0) fail(`${name} loads ${found.join(', ')} when it starts; import it lazily, or not at all`);
  }
  const copies = Object.keys(metafile.inputs).filter((input) => input.endsWith('node_modules/mqtt-packet/mqtt.js'));
  if (copies.length > 1) fail(`mqtt-packet is there twice: ${copies.join(', ')}`);
}

/** Packages in an output and in the chunks that it imports statically. */
function packagesLoadedBy(metafile, output, seen = new Set(), packages = new Set()) {
  if (seen.has(output)) return packages;
  seen.add(output);
  const { inputs, imports } = metafile.outputs[output];
  for (const input of Object.keys(inputs)) {
    const name = /.*node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(input)?.[1];
    if (name !== undefined) packages.add(name);
  }
  for (const { path, kind } of imports) {
    if (kind === 'import-statement' && metafile.outputs[path]) packagesLoadedBy(metafile, path, seen, packages);
  }
  return packages;
}

function fail(message) {
  console.error(`bundle: ${message}`);
  process.exit(1);
}

await main().catch((error) => {
  // esbuild has printed its own errors, with the lines that they are about.
  fail('errors' in error ? 'failed' : error.stack);
});
