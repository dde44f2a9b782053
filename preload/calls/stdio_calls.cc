// stdio on sockets. The C library's streams read and write by system calls of their own, which find the placeholder under
// a socket, not the socket. So a stream on one of our sockets is made with fopencookie, in terms of the calls of this
// object: by fdopen, and for the standard streams when their descriptor is a socket (servers that inetd, a shell or ncat
// starts print to one). It keeps its number, so fileno() and what builds on it work.
#include <stdio_ext.h>

#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "preload/calls/interpose.h"
#include "preload/libc/stdio_streams.h"

using namespace ustcp;

namespace {

int NumberOf(void* cookie) { return static_cast<int>(reinterpret_cast<intptr_t>(cookie)) - 1; }
void* CookieOf(int fd) { return reinterpret_cast<void*>(static_cast<intptr_t>(fd) + 1); }

ssize_t ReadStream(void* cookie, char* to, size_t n) { return read(NumberOf(cookie), to, n); }

// All of it, as the C library's own streams do; 0 tells of an error.
ssize_t WriteStream(void* cookie, const char* from, size_t n) {
  size_t written = 0;
  while (written < n) {
    ssize_t r = write(NumberOf(cookie), from + written, n - written);
    if (r <= 0) break;
    written += static_cast<size_t>(r);
  }
  return static_cast<ssize_t>(written);
}

int SeekStream(void*, off64_t*, int) {
  errno = ESPIPE;
  return -1;
}

int CloseStream(void* cookie) { return close(NumberOf(cookie)); }

FILE* OpenStream(int fd, const char* modes) {
  FILE* stream = fopencookie(CookieOf(fd), modes, {ReadStream, WriteStream, SeekStream, CloseStream});
  if (stream != nullptr) stream->_fileno = fd;
  return stream;
}

int PrintTo(int fd, const char* format, va_list arguments) {
  char* text = nullptr;
  int n = vasprintf(&text, format, arguments);
  if (n < 0) return n;
  bool all = WriteStream(CookieOf(fd), text, static_cast<size_t>(n)) == n;
  int saved_errno = errno;
  free(text);
  errno = saved_errno;
  return all ? n : -1;
}

// Whether a standard stream is one of ours, or still the C library's own.
bool g_replaced[3];

void Replace(int fd) {
  FILE*& stream = fd == 0 ? stdin : fd == 1 ? stdout : stderr;
  FILE* ours = OpenStream(fd, fd == 0 ? "r" : "w");
  if (ours == nullptr) return;
  // As the program has set it: one that prints a question without a newline and waits for the answer has its reasons.
  constexpr int kUnbuffered = 2;  // _IO_UNBUFFERED of the C library, which has no call that tells
  if (fd == 2 || (stream->_flags & kUnbuffered) != 0)
    setvbuf(ours, nullptr, _IONBF, 0);
  else if (__flbf(stream) != 0)
    setvbuf(ours, nullptr, _IOLBF, 0);
  // What was printed and is still in the old one's buffer goes where the descriptor leads now, as it would have.
  if (size_t pending = fd > 0 ? __fpending(stream) : 0; pending > 0) fwrite(stream->_IO_write_base, 1, pending, ours);
  __fpurge(stream);
  stream = ours;
  g_replaced[fd] = true;
}

}  // namespace

void ustcp::AdoptStandardStreams() noexcept {
  for (int fd = 0; fd < 3; ++fd)
    if (!g_replaced[fd] && FindSocket(fd)) Replace(fd);
}

USTCP_EXPORT FILE* fdopen(int fd, const char* modes) noexcept {
  if (!FindSocket(fd)) return real::fdopen(fd, modes);
  if (modes == nullptr || std::strchr("rwa", modes[0]) == nullptr || modes[0] == '\0') {
    errno = EINVAL;
    return nullptr;
  }
  return OpenStream(fd, modes);
}

USTCP_EXPORT int vdprintf(int fd, const char* format, va_list arguments) {
  if (!FindSocket(fd)) return real::vdprintf(fd, format, arguments);
  return PrintTo(fd, format, arguments);
}

USTCP_EXPORT int dprintf(int fd, const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  int result = vdprintf(fd, format, arguments);
  va_end(arguments);
  return result;
}

USTCP_EXPORT int __vdprintf_chk(int fd, int flag, const char* format, va_list arguments) {
  if (!FindSocket(fd)) return real::__vdprintf_chk(fd, flag, format, arguments);
  return PrintTo(fd, format, arguments);
}

USTCP_EXPORT int __dprintf_chk(int fd, int flag, const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  int result = __vdprintf_chk(fd, flag, format, arguments);
  va_end(arguments);
  return result;
}
