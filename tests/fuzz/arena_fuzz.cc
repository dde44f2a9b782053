// The contents of an arena under what the tools do with it: `ustcp ss` collects, `ustcp ss --check` checks invariants. Any
// member may have written anything there. In the tool a process without rights looks, and may die of what it follows; so a
// fault or a failed assertion is caught here and counts for nothing. What must not happen is a loop without an end, or memory
// without bounds.
//
// An input is a list of words to change in the memory of two hosts with some traffic behind them.
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

#include "stack/stack.h"
#include "tests/support/two_hosts.h"
#include "tools/ss.h"

// A fault leaves by siglongjmp, past destructors: what then leaks is no finding, whatever the environment asks for.
#define USTCP_HOOK extern "C" __attribute__((visibility("default")))
USTCP_HOOK const char* __asan_default_options();
USTCP_HOOK int __lsan_is_turned_off();
extern "C" const char* __asan_default_options() { return "allow_user_segv_handler=1"; }
extern "C" int __lsan_is_turned_off() { return 1; }

namespace {

using namespace ustcp;
using namespace ustcp::test;

sigjmp_buf g_out;
volatile sig_atomic_t g_looking = 0;
struct sigaction g_before[NSIG];  // libFuzzer's and the sanitizer's

void OnFault(int number) {
  if (g_looking == 0) {
    sigaction(number, &g_before[number], nullptr);
    raise(number);
    return;
  }
  siglongjmp(g_out, 1);
}

// Signals may come on the stack that ran over.
void CatchFaults() {
  static char stack[1 << 16];
  stack_t alternative{};
  alternative.ss_sp = stack;
  alternative.ss_size = sizeof stack;
  sigaltstack(&alternative, nullptr);
  struct sigaction action {};
  action.sa_handler = OnFault;
  action.sa_flags = SA_ONSTACK | SA_NODEFER;
  for (int number : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT}) sigaction(number, &action, &g_before[number]);
}

void Require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "arena: %s\n", what);
  std::abort();
}

class Arena {
 public:
  Arena() {
    Fill();
    // What holds something: a zero is a free slot or padding most of the time.
    auto* begin = reinterpret_cast<uint64_t*>(&host());
    size_t words = (sizeof(Host) + host().spans.bytes_used()) / sizeof(uint64_t);
    for (size_t i = 0; i < words; ++i)
      if (begin[i] != 0) words_.push_back(begin + i);
    CatchFaults();
  }

  Host& host() { return hosts_.side(0).box.host(); }

  void Change(uint8_t kind, uint32_t where, uint64_t value) {
    uint64_t* word = words_[where % words_.size()];
    changed_.push_back({word, *word});
    switch (kind % 5) {
      case 0: *word = value; break;
      case 1: *word ^= uint64_t{1} << (value % 64); break;
      case 2: *word = *words_[value % words_.size()]; break;
      case 3: *word = reinterpret_cast<uint64_t>(words_[value % words_.size()]) & ~uint64_t{63}; break;
      default: *word += value % 256; break;
    }
  }

  void Undo() {
    for (; !changed_.empty(); changed_.pop_back()) *changed_.back().first = changed_.back().second;
  }

  template <typename F>
  void Look(F&& look) {
    if (sigsetjmp(g_out, 1) == 0) {
      g_looking = 1;
      look();
    }
    g_looking = 0;
  }

  void LookAtAll() {
    // What looking would write is a fault too: the next input finds the arena as it was.
    void* memory = &host();
    size_t bytes = (sizeof(Host) + host().spans.bytes_used() + 4095) & ~size_t{4095};
    if (bytes > kMostBytes) bytes = kMostBytes;
    mprotect(memory, bytes, PROT_READ);
    Look([this] {
      tool::View view{host(), {}};
      auto rows = tool::CollectSockets(view, true, true);
      Require(rows.size() < 1'000'000, "more rows than slots");
    });
    Look([this] {
      Context ctx{host(), host().shards[0], hosts_.now(), {}};
      char why[160];
      CheckInvariants(ctx, why, sizeof why);
    });
    mprotect(memory, bytes, PROT_READ | PROT_WRITE);
  }

 private:
  static constexpr size_t kMostBytes = size_t{512} << 20;

  // A listener, connections with data under way and out of order, one half open, one in TIME_WAIT.
  void Fill() {
    Socket* listener = hosts_.On(0, [&](Context& ctx) {
      Socket* s = *OpenSocket(ctx, AF_INET, 0, 0, 1);
      (void)BindSocket(ctx, *s, {IpAddress::AnyV4(), 80});
      (void)ListenSocket(ctx, *s, 8);
      return s;
    });
    std::vector<Socket*> clients;
    for (int i = 0; i < 6; ++i)
      clients.push_back(hosts_.On(1, [&](Context& ctx) {
        Socket* s = *OpenSocket(ctx, AF_INET, 0, 0, 1);
        (void)ConnectSocket(ctx, *s, {hosts_.side(0).address, 80});
        return s;
      }));
    hosts_.Run(100ms);
    std::vector<Socket*> accepted;
    for (int i = 0; i < 4; ++i)
      if (auto r = AcceptSocket(host(), *listener, 0); r.ok()) accepted.push_back(*r);
    int frame = 0;
    hosts_.lose = [&frame](int, ConstBytes) { return ++frame % 4 == 0; };
    for (Socket* s : accepted) Send(0, s);
    for (Socket* s : clients) Send(1, s);
    hosts_.On(1, [&](Context& ctx) {
      Socket* s = *OpenSocket(ctx, AF_INET, 0, 0, 1);
      (void)ConnectSocket(ctx, *s, {hosts_.side(0).address, 80});
    });
    hosts_.Run(5ms);
    if (!accepted.empty()) hosts_.On(0, [&](Context& ctx) { ReleaseSocket(ctx, *accepted.back()); });
    hosts_.Run(3ms);
  }

  void Send(int side, Socket* socket) {
    hosts_.On(side, [&](Context& ctx) {
      static std::byte data[20'000];
      (void)SendSocket(ctx, *socket, UserVector(data, sizeof data), MSG_DONTWAIT);
    });
  }

  TwoHosts hosts_;
  std::vector<uint64_t*> words_;
  std::vector<std::pair<uint64_t*, uint64_t>> changed_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static auto arena = std::make_unique<Arena>();
  constexpr size_t kChangeBytes = 13;
  constexpr size_t kMostChanges = 64;
  for (size_t at = 0, n = 0; at + kChangeBytes <= size && n < kMostChanges; at += kChangeBytes, ++n) {
    uint32_t where;
    uint64_t value;
    std::memcpy(&where, data + at + 1, sizeof where);
    std::memcpy(&value, data + at + 5, sizeof value);
    arena->Change(data[at], where, value);
  }
  arena->LookAtAll();
  arena->Undo();
  return 0;
}
