/**
 * Writes native/probes/gpu_metrics_table.cc: where each field of amdgpu's gpu_metrics stands, for each known revision.
 *
 *   node scripts/gpu-metrics-table.mjs [LAYOUTS.json]
 *
 * The layouts (../shared/data/gpu_metrics_layouts.json) are the public headers as gcc lays them out: the kernel's
 * drivers/gpu/drm/amd/include/kgd_pp_interface.h and, for 1.6 to 1.8, ROCm's rocm_smi_gpu_metrics.h, both MIT. The table is
 * committed, so that a build needs neither.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = resolve(dirname(fileURLToPath(import.meta.url)), '..');
const layouts = process.argv[2] ?? join(root, '../shared/data/gpu_metrics_layouts.json');
const output = join(root, 'native/probes/gpu_metrics_table.cc');
const BYTES = { uint8_t: 1, uint16_t: 2, uint32_t: 4, uint64_t: 8 };

function revisionOf(name) {
  const [, format, content] = /^gpu_metrics_v(\d+)_(\d+)$/.exec(name) ?? [];
  if (content === undefined) throw new Error(`${name}: no name of a revision`);
  return { name, format: Number(format), content: Number(content) };
}

function fieldLine({ name, type, offset, count }, size) {
  const bytes = BYTES[type];
  if (bytes === undefined) throw new Error(`${name}: unknown type ${type}`);
  // What the decoder relies on: it reads without looking at the end again.
  if (offset < 4 || offset + bytes * count > size || count < 1) throw new Error(`${name}: outside the structure`);
  return `    {"${name}", ${offset}, ${bytes}, ${count}},`;
}

function arrayOf({ name, format, content }, { size, fields }) {
  const lines = [...fields].sort((a, b) => a.offset - b.offset).map((field) => fieldLine(field, size));
  return `// ${name}, ${size} bytes.\nconstexpr GpuMetricsField kFields${format}_${content}[] = {\n${lines.join('\n')}\n};\n`;
}

const { versions } = JSON.parse(readFileSync(layouts, 'utf8'));
const revisions = Object.keys(versions)
  .map(revisionOf)
  .sort((a, b) => a.format - b.format || a.content - b.content);
const table = revisions.map(({ name, format, content }) => {
  const fields = `kFields${format}_${content}`;
  return `    {${format}, ${content}, ${versions[name].size}, std::size(${fields}), ${fields}},`;
});

writeFileSync(
  output,
  `// Written by scripts/gpu-metrics-table.mjs; do not edit. Byte offsets as gcc lays out the public headers (both MIT): 1.0 to 1.5,
// 2.x and 3.0 from the kernel's drivers/gpu/drm/amd/include/kgd_pp_interface.h, 1.6 to 1.8 from ROCm's
// rocm_smi_gpu_metrics.h.
#include <iterator>

#include "probes/gpu_metrics.h"

namespace skos {
namespace {

${revisions.map((revision) => arrayOf(revision, versions[revision.name])).join('\n')}
constexpr GpuMetricsLayout kLayouts[] = {
${table.join('\n')}
};

}  // namespace

const GpuMetricsLayout* const kGpuMetricsLayouts = kLayouts;
const size_t kGpuMetricsLayoutCount = std::size(kLayouts);

}  // namespace skos
`,
);
