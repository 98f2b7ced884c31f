// An allow-list of any bytes: what is accepted is within every bound that the actuator builds on, however it is written.
#include <cstdint>
#include <cstdlib>
#include <set>
#include <string>
#include <string_view>

#include "actuator/allow_list.h"

namespace skos {
namespace {

void Require(bool condition) {
  if (!condition) std::abort();
}

void RequireBeneath(const std::string& path) {
  Require(!path.empty() && path.size() <= 320 && path.front() != '/');
  Require(("/" + path + "/").find("/../") == std::string::npos);
  Require(path.find_first_of(std::string_view("\0\n ", 3)) == std::string::npos);
}

void CheckTargets(const actuator::AllowList& list) {
  Require(list.targets.size() <= actuator::kMaxTargets);
  std::set<std::string> ids;
  for (const actuator::TargetSpec& target : list.targets) {
    RequireBeneath(target.path);
    Require(actuator::IsId(target.id, 64) && ids.insert(target.id).second);
    Require(target.floor_ppm >= 0 && target.floor_ppm <= 1'000'000);
  }
}

void CheckOrders(const actuator::AllowList& list) {
  Require(list.orders.size() <= 64);
  for (const actuator::OrderSpec& order : list.orders) {
    Require(order.clear < order.raise && !order.targets.empty() && order.targets.size() <= 64);
    // Of a GPU it is a channel's name, and no path.
    if (order.gpu.empty()) RequireBeneath(order.sensor);
    for (const size_t target : order.targets) {
      Require(target < list.targets.size() && order.cap_ppm >= list.targets[target].floor_ppm);
    }
  }
}

void CheckOthers(const actuator::AllowList& list) {
  Require(list.energies.size() <= 64 && list.jobs.size() <= 256);
  for (const actuator::EnergySpec& energy : list.energies) {
    RequireBeneath(energy.path);
    Require(energy.max_uj >= 1 && energy.max_uj <= int64_t{1} << 53);
  }
  for (const actuator::JobSpec& job : list.jobs) {
    Require(job.timeout_ms >= 1'000 && job.timeout_ms <= 7'200'000);
    Require(!job.unit.empty() && job.unit.front() != '-' && job.unit.find_first_of("/ \n") == std::string::npos);
  }
}

}  // namespace
}  // namespace skos

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  skos::actuator::AllowList list;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  if (!skos::actuator::ParseAllowList(text, &list).empty()) return 0;
  skos::CheckTargets(list);
  skos::CheckOrders(list);
  skos::CheckOthers(list);
  return 0;
}
