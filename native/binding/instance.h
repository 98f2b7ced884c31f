// What the addon keeps for one environment; the environment owns and frees it.
#ifndef SKOS_BINDING_INSTANCE_H_
#define SKOS_BINDING_INSTANCE_H_

#include "probes/files.h"

namespace skos::binding {

struct Instance {
  UniqueFd datagram;  // JS thread. Unconnected, so that one serves journal and notifications, and outlives their restarts.
};

}  // namespace skos::binding

#endif  // SKOS_BINDING_INSTANCE_H_
