// `ustcp ss --check`: whether the structures of a running host are consistent.
#pragma once

#include <string>
#include <vector>

#include "stack/host/host.h"

namespace ustcp::tool {

// What does not hold, in one line each; empty when all is well. Takes the shards' locks one after the other (never for long,
// and not at all when the holder does not let go), so the host must be mapped writable. What a running program is in the
// middle of may look wrong once: only what is wrong at several looks in a row is reported.
std::vector<std::string> CheckHost(Host& host);

}  // namespace ustcp::tool
