// Whether the dynamic linker would load the preloaded object into a program.
#pragma once

#include <string>

namespace ustcp::tool {

// Why the program, searched for as execvp() does, would run without the library: one line with a remedy. Empty when it would
// be loaded, and for what cannot be looked at.
std::string WhyNotPreloaded(const std::string& program);

}  // namespace ustcp::tool
