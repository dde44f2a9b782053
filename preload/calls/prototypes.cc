// Compares calls.def with the C library's headers: a declaration that differs from theirs in its types or its exception
// specification does not compile. What no header declares (names with two underscores) is at least consistent with the
// definitions.
#include "preload/libc/real.h"

#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/fanotify.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>

#define CANCEL
#define USTCP_CALL(result, name, parameters, exception, number) extern "C" result name parameters exception;
#define USTCP_VARIADIC(result, name, parameters, exception, number) extern "C" result name parameters exception;
#define USTCP_EXEC(result, name, parameters, exception) extern "C" result name parameters exception;
#define USTCP_ALIAS(target, name) extern "C" decltype(target) name;
#include "preload/calls/calls.def"
