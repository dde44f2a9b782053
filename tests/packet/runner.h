// Runs one parsed script against a World and says what went otherwise than written.
#pragma once

#include <string>
#include <vector>

#include "stack/base/sysctl.h"
#include "tests/packet/script.h"

namespace ustcp::packet {

struct Verdict {
  bool ok = true;
  int line = 0;
  std::string what;                // expected and actual
  std::vector<std::string> trace;  // every packet and call, in packetdrill's notation
};

Verdict RunScript(const Script& script, bool v6);

// May the script run over this family? (`--ip_version=ipv4` or `ipv6` among its options.)
bool RunsOver(const Script& script, bool v6);

// Sets `name` (net.ipv4.tcp_x) to `value`. False: unknown name or bad value.
bool ApplySysctl(Sysctls& sysctls, const std::string& name, const std::string& value);

class World;
class Calls;
// Evaluates the text of an `%{ assert ... }%`. Empty: everything holds; else what does not.
std::string EvaluateAssertions(const std::string& code, World& world, Calls& calls);

}  // namespace ustcp::packet
