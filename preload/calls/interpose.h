// How an interposed call is written down. Its prototype must be the C library's, exception specification included: a
// cancelled thread unwinds through cancellation points, so those must not be noexcept, and the compiler compares the rest
// with the headers (prototypes.cc).
//
//   USTCP_EXPORT ssize_t recv(int fd, void* to, size_t n, int flags) {
//     SocketRef socket = FindSocket(fd);
//     if (!socket) return real::recv(fd, to, n, flags);
//     return ToErrno(Receive(...));
//   }
//   USTCP_ALIAS_OF(recv, __recv);
#pragma once

#include "preload/descriptors/fd_table.h"
#include "preload/libc/real.h"
#include "preload/transfer/translate.h"

#define USTCP_EXPORT extern "C" __attribute__((visibility("default")))

// Another exported name of a call defined in the same file.
#define USTCP_ALIAS_OF(target, name) \
  extern "C" __attribute__((visibility("default"), alias(#target))) decltype(target) name
