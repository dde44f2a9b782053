// Which build this is. The text is alone in an object that is made for the products only: a commit compiles nothing else.
#pragma once

namespace ustcp {

extern const char kVersionText[];  // "libustcp 0.1.0, build 1a2b3c4d5e6f"

}  // namespace ustcp
