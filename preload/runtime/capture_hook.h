// Capture of this process's frames (setting `capture`): one file per process, FILE.PID.
#pragma once

#include "stack/base/frame.h"
#include "stack/time/time.h"

namespace ustcp::runtime {

// Free when nothing is captured: one load.
bool Capturing() noexcept;
// Opens the file when the settings name one. Called once the process has its queue, and again in the child of a fork.
void StartCapture(const char* path) noexcept;
void CaptureIn(const RxFrame& frame, Instant now) noexcept;
void CaptureOut(const TxBatch& batch, Instant now) noexcept;
void FlushCapture() noexcept;
// The child of a fork must not write into its parent's file.
void ForgetCapture() noexcept;

}  // namespace ustcp::runtime
