// io_uring of the program's own (setting `program_uring`). What it does goes past us: files are its business, but on a number
// of ours it finds the placeholder, which answers as an unconnected socket. Programs that use it for sockets all the same fall
// back to plain calls where the set-up is refused.
#pragma once

namespace ustcp::program_uring {

// May the program set one up? `caller`: an address in the object that is about to.
bool Allowed(const void* caller) noexcept;

// It has. Told on standard error, once, as soon as the process is attached.
void Made() noexcept;
void Attached() noexcept;

}  // namespace ustcp::program_uring
