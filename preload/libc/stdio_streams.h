// The standard streams of a program whose descriptors 0 to 2 are sockets.
#pragma once

namespace ustcp {

// Puts streams that know our sockets in the place of stdin, stdout and stderr where their descriptor is one: after exec,
// and after dup2 onto one of the three. Idempotent. Allocates: not for a process that has just started for us.
void AdoptStandardStreams() noexcept;

}  // namespace ustcp
