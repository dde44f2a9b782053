// One-line messages of the io layer: to stderr past stdio (whose lock the program may hold), or into an IoError.
#pragma once

#include "io/device/tap.h"

namespace ustcp {

// Formats and writes one line (a newline is added) to descriptor 2 in one write.
void ReportLine(const char* format, ...) noexcept __attribute__((format(printf, 1, 2)));

IoError MakeError(int code, const char* format, ...) noexcept __attribute__((format(printf, 2, 3)));

// "EPERM", "ENODEV", ...; "error" for numbers without a name.
const char* ErrorName(int code) noexcept;

}  // namespace ustcp
