// Texts that only amdgpu writes into sysfs, to numbers. Strict, without allocation; what is not understood is a fault, what is
// understood and says nothing is no data. Formats: Documentation/gpu/amdgpu/thermal.rst, ras.rst, and the driver's own output.
#ifndef SKOS_PROBES_AMDGPU_TEXT_H_
#define SKOS_PROBES_AMDGPU_TEXT_H_

#include <cstdint>
#include <string_view>

#include "sampler/reading.h"

namespace skos {

// Of all texts: kOk and *out, kNoData, or kFault. Each has this form, so that a probe is a file and a function.
using TextParser = Quality (*)(std::string_view text, int64_t* out);

// Levels of pp_dpm_sclk and its kin, "1: 800Mhz *"; "S: 19Mhz *" is deep sleep. The marked level is the active one. Cards with
// fine-grained clocks mark several: they say something only when all of them say the same.
Quality ActiveClockHertz(std::string_view text, int64_t* out);
Quality HighestClockHertz(std::string_view text, int64_t* out);
// The index of the only marked level; no data in deep sleep.
Quality ActiveLevel(std::string_view text, int64_t* out);

// current_link_speed "16.0 GT/s PCIe" and current_link_width "16". "Unknown" and a width of 0 or 255 are no data: the link is down.
Quality LinkGeneration(std::string_view text, int64_t* out);
Quality LinkWidth(std::string_view text, int64_t* out);
// The marked level of pp_dpm_pcie, "1: 8.0GT/s, x16 619Mhz *", and the best of its levels.
Quality ActivePcieGeneration(std::string_view text, int64_t* out);
Quality ActivePcieWidth(std::string_view text, int64_t* out);
Quality HighestPcieGeneration(std::string_view text, int64_t* out);
Quality HighestPcieWidth(std::string_view text, int64_t* out);

// ras/*_err_count, "ue: 0\nce: 0\nde: 0". "Query currently inaccessible" is no data.
Quality RasUncorrected(std::string_view text, int64_t* out);
Quality RasCorrected(std::string_view text, int64_t* out);
Quality RasDeferred(std::string_view text, int64_t* out);

// ras/gpu_vram_bad_pages: one page a line.
Quality CountLines(std::string_view text, int64_t* out);

// power/runtime_status: 0 active, 1 suspended, 2 on the way or in error. "unsupported" is a device that is never suspended.
Quality RuntimeState(std::string_view text, int64_t* out);

}  // namespace skos

#endif  // SKOS_PROBES_AMDGPU_TEXT_H_
