// Looking into an arena. Every member of a host can write anything into it, and whoever asks for it may be root; so what
// follows pointers there is a process of its own that has given up every right first, and all that comes back from it is text,
// which the terminal gets without its control characters. Whatever happens to that process, the tool says so in one line.
#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <string>

#include "io/settings/settings.h"
#include "stack/host/host.h"

namespace ustcp::tool {

// What the confined process has when it looks.
struct View {
  Host& host;
  std::map<int32_t, std::string> programs;  // names of the processes on the host; it can no longer read /proc
};

enum class Access { kRead, kWrite };

// Calls look() in a confined process that has the host mapped. What it prints is printed here; a CommandError is thrown here
// too. Throws when there is no such host, and when the look did not come to an end.
void LookInto(const Settings& settings, Access access, const std::function<void(View&)>& look);

// The same without an arena, for whoever has to talk to strangers.
void RunConfined(const std::string& about, std::chrono::milliseconds patience, const std::function<void()>& prepare,
                 const std::function<void()>& work);

// Text of somebody else's as a terminal may have it: on one line unless `lines`, without control characters.
std::string Printable(const std::string& text, bool lines = false);

}  // namespace ustcp::tool
