// Faults of the program's own, beside those of calls with bad pointers: handlers that repair, that jump away, that are
// called once, on which stack, with which mask; and that calls with bad pointers never reach them, whatever is blocked.
// The old calls are a part of it.
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
#include <setjmp.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <ucontext.h>

#include <atomic>
#include <initializer_list>
#include <thread>
#include <type_traits>

#include "transcript.h"

namespace {

constexpr size_t kPage = 4096;

char* g_page;  // none until somebody repairs it
std::atomic<int> g_handled{0};
sigjmp_buf g_away;
Pair g_pair;

void Bar(char* page) { mprotect(page, kPage, PROT_NONE); }

char* Map(int protection) {
  return static_cast<char*>(mmap(nullptr, kPage, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
}

// The instruction that faults. Not inlined, so that its address can be told.
[[gnu::noinline]] char Peek(const char* p) { return *static_cast<const volatile char*>(p); }

bool Blocked(int signal) {
  sigset_t now;
  pthread_sigmask(SIG_SETMASK, nullptr, &now);
  return sigismember(&now, signal) == 1;
}

template <typename Handler>
void Install(int signal, Handler handler, int flags, std::initializer_list<int> masked = {}) {
  struct sigaction action = {};
  if constexpr (std::is_invocable_v<Handler, int, siginfo_t*, void*>) {
    action.sa_sigaction = handler;
    flags |= SA_SIGINFO;
  } else {
    action.sa_handler = handler;
  }
  action.sa_flags = flags;
  for (int s : masked) sigaddset(&action.sa_mask, s);
  sigaction(signal, &action, nullptr);
}

void Repair(int, siginfo_t* info, void* context) {
  ++g_handled;
  auto* c = static_cast<ucontext_t*>(context);
  auto pc = static_cast<uintptr_t>(c->uc_mcontext.gregs[REG_RIP]);
  auto begin = reinterpret_cast<uintptr_t>(&Peek);
  std::printf("  repairs: at the page: %d code: %d in the function: %d mask kept: %d blocked: %d %d %d\n",
              info->si_addr == g_page, info->si_code, pc >= begin && pc < begin + 64,
              sigismember(&c->uc_sigmask, SIGUSR2) == 1, Blocked(SIGSEGV), Blocked(SIGUSR1), Blocked(SIGUSR2));
  static constexpr unsigned char kReturn[] = {0x48, 0xc7, 0xc0, SYS_rt_sigreturn};  // mov $..., %rax
  std::printf("  returns to the kernel: %d\n", std::memcmp(__builtin_return_address(0), kReturn, sizeof kReturn) == 0);
  mprotect(g_page, kPage, PROT_READ | PROT_WRITE);
}
void RepairQuietly(int) {
  ++g_handled;
  mprotect(g_page, kPage, PROT_READ | PROT_WRITE);
}
void JumpAway(int) {
  ++g_handled;
  siglongjmp(g_away, 1);
}
void Count(int) { ++g_handled; }
void SendBad(int) {
  ++g_handled;
  Show("  send of a bad pointer in a handler", send(g_pair.client, g_page, 5, 0));
}
void SendBadAndRepair(int signal) {
  SendBad(signal);
  mprotect(g_page, kPage, PROT_READ | PROT_WRITE);
}
void PeekAgain(int) {
  ++g_handled;
  if (g_handled == 2) mprotect(g_page, kPage, PROT_READ | PROT_WRITE);
  Peek(g_page);
}

// What a child ends with that does `body`.
template <typename Body>
void InChild(const char* what, Body&& body) {
  std::fflush(stdout);
  pid_t child = fork();
  if (child == 0) {
    body();
    std::fflush(stdout);
    _exit(7);
  }
  int status = 0;
  waitpid(child, &status, 0);
  if (WIFSIGNALED(status))
    std::printf("%s: killed by %s\n", what, sigabbrev_np(WTERMSIG(status)));
  else
    std::printf("%s: exit %d\n", what, WEXITSTATUS(status));
  std::fflush(stdout);
}

void BadCalls() {
  Bar(g_page);
  int before = g_handled;
  Show("send", send(g_pair.client, g_page, 5, 0));
  send(g_pair.client, "x", 1, 0);
  Await(g_pair.server, POLLIN);
  Show("recv", recv(g_pair.server, g_page, 5, 0));
  Show("poll", poll(reinterpret_cast<pollfd*>(g_page), 1, 0));
  char c;
  Show("recv into a good one", recv(g_pair.server, &c, 1, 0));
  std::printf("handlers: %d\n", g_handled - before);
}

void ShowAction(const char* what, int signal) {
  struct sigaction a;
  Show(what, sigaction(signal, nullptr, &a));
  const char* name = a.sa_handler == SIG_DFL    ? "default"
                     : a.sa_handler == SIG_IGN  ? "ignored"
                     : a.sa_handler == Count    ? "Count"
                     : a.sa_sigaction == Repair ? "Repair"
                                                : "something else";
  std::printf("  %s, flags:%s%s%s%s%s, masks SIGUSR1: %d\n", name, (a.sa_flags & SA_SIGINFO) != 0 ? " SIGINFO" : "",
              (a.sa_flags & SA_RESTART) != 0 ? " RESTART" : "", (a.sa_flags & SA_NODEFER) != 0 ? " NODEFER" : "",
              (a.sa_flags & static_cast<int>(SA_RESETHAND)) != 0 ? " RESETHAND" : "",
              (a.sa_flags & SA_ONSTACK) != 0 ? " ONSTACK" : "", sigismember(&a.sa_mask, SIGUSR1));
}

void Dispositions(int signal_number) {
  ShowAction("as it is", signal_number);
  Install(signal_number, Repair, SA_RESTART | SA_ONSTACK, {SIGUSR1});
  ShowAction("Repair", signal_number);
  Install(signal_number, Count, static_cast<int>(SA_NODEFER | SA_RESETHAND));
  ShowAction("Count", signal_number);
  std::printf("signal: %d\n", signal(signal_number, SIG_IGN) == Count);
  ShowAction("ignored", signal_number);
  std::printf("signal: %d\n", signal(signal_number, Count) == SIG_IGN);
  ShowAction("Count", signal_number);
  std::printf("sigset: %d\n", sigset(signal_number, SIG_DFL) == Count);
  ShowAction("default", signal_number);
}

void OwnFaults(int signal_number) {
  Install(signal_number, Repair, 0, {SIGUSR1});
  BadCalls();
  Bar(g_page);
  Peek(g_page);
  sigset_t usr2;
  sigemptyset(&usr2);
  sigaddset(&usr2, SIGUSR2);
  pthread_sigmask(SIG_BLOCK, &usr2, nullptr);
  Bar(g_page);
  Peek(g_page);
  pthread_sigmask(SIG_UNBLOCK, &usr2, nullptr);
  std::printf("blocked after it: %d %d\n", Blocked(signal_number), Blocked(SIGUSR1));

  Install(signal_number, JumpAway, 0);
  for (int i = 0; i < 3; ++i) {
    Bar(g_page);
    if (sigsetjmp(g_away, 1) == 0) {
      Peek(g_page);
      std::printf("not reached\n");
    }
    std::printf("jumped away, blocked: %d\n", Blocked(signal_number));
    BadCalls();
  }

  Install(signal_number, RepairQuietly, static_cast<int>(SA_RESETHAND));
  BadCalls();
  Bar(g_page);
  InChild("once and again", [] {
    Peek(g_page);
    std::printf("once\n");
    ShowAction("then", SIGSEGV);
    std::fflush(stdout);
    Bar(g_page);
    Peek(g_page);
  });
  Install(signal_number, PeekAgain, SA_NODEFER);
  Bar(g_page);
  g_handled = 0;
  InChild("a fault in the handler, SA_NODEFER", [] {
    Peek(g_page);
    std::printf("handled %d\n", g_handled.load());
  });
  Install(signal_number, PeekAgain, 0);
  g_handled = 0;
  InChild("a fault in the handler", [] { Peek(g_page); });
  for (auto disposition : {SIG_DFL, SIG_IGN}) {
    signal(signal_number, disposition);
    BadCalls();
    InChild("a fault", [] { Peek(g_page); });
    InChild("raise", [signal_number] {
      raise(signal_number);
      kill(getpid(), signal_number);
      usleep(1000);
    });
  }
  signal(signal_number, Count);
  g_handled = 0;
  raise(signal_number);
  kill(getpid(), signal_number);
  std::printf("sent twice, handled %d\n", g_handled.load());
  signal(signal_number, SIG_DFL);
}

// Signals that are blocked, in every way there is.
void WhileBlocked() {
  Title("while they are blocked");
  sigset_t all, before;
  sigfillset(&all);
  signal(SIGSEGV, Count);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  BadCalls();
  std::printf("still blocked: %d %d %d\n", Blocked(SIGSEGV), Blocked(SIGBUS), Blocked(SIGUSR1));
  InChild("an own fault", [] { Peek(g_page); });
  std::thread([] {
    BadCalls();
    std::printf("a thread that inherits it: %d\n", Blocked(SIGSEGV));
  }).join();
  sigprocmask(SIG_SETMASK, &before, nullptr);
  BadCalls();
  sighold(SIGSEGV);
  BadCalls();
  std::printf("held: %d\n", Blocked(SIGSEGV));
  sigrelse(SIGSEGV);

  struct sigaction action = {};
  action.sa_handler = SendBad;
  sigfillset(&action.sa_mask);
  sigaction(SIGUSR1, &action, nullptr);
  Bar(g_page);
  raise(SIGUSR1);
  Install(SIGSEGV, SendBadAndRepair, 0);
  Peek(g_page);
  Bar(g_page);
  Peek(g_page);
  Install(SIGSEGV, JumpAway, 0);
  Bar(g_page);
  if (sigsetjmp(g_away, 0) == 0) Peek(g_page);
  std::printf("jumped away with it blocked: %d\n", Blocked(SIGSEGV));
  BadCalls();
  sigset_t segv;
  sigemptyset(&segv);
  sigaddset(&segv, SIGSEGV);
  sigprocmask(SIG_UNBLOCK, &segv, nullptr);
  signal(SIGSEGV, SIG_DFL);
}

char* g_stack;
size_t g_stack_size;
bool OnAlternateStack() {
  char here;
  return &here >= g_stack && &here < g_stack + g_stack_size;
}
void TellStack(int) {
  std::printf("  on the other stack: %d\n", OnAlternateStack());
  mprotect(g_page, kPage, PROT_READ | PROT_WRITE);
}
void OutOfStack(int) {
  std::printf("  out of stack, on the other: %d\n", OnAlternateStack());
  siglongjmp(g_away, 1);
}
[[gnu::noinline]] int Recurse(int n) {
  volatile char room[4096];
  room[0] = static_cast<char>(n);
  return n < 0 ? 0 : Recurse(n + 1) + room[0];
}

void Stacks() {
  Title("stacks");
  g_stack_size = static_cast<size_t>(sysconf(_SC_SIGSTKSZ));
  g_stack = static_cast<char*>(malloc(g_stack_size));
  stack_t stack = {g_stack, 0, g_stack_size};
  Show("sigaltstack", sigaltstack(&stack, nullptr));
  Install(SIGSEGV, TellStack, SA_ONSTACK);
  BadCalls();
  Peek(g_page);
  Install(SIGSEGV, TellStack, 0);
  BadCalls();
  Peek(g_page);
  Install(SIGSEGV, OutOfStack, SA_ONSTACK);
  for (int i = 0; i < 2; ++i)
    if (sigsetjmp(g_away, 1) == 0) std::printf("%d\n", Recurse(0));
  BadCalls();
  signal(SIGSEGV, SIG_DFL);
  InChild("out of stack by default", [] { std::printf("%d\n", Recurse(0)); });
  stack.ss_flags = SS_DISABLE;
  sigaltstack(&stack, nullptr);
}

// Threads that fault and repair, beside threads that make bad calls, beside one that is sent the signal.
void Together(Address address, int listener) {
  Title("all at once");
  struct sigaction action = {};
  action.sa_sigaction = [](int, siginfo_t* info, void*) {
    ++g_handled;
    if (info->si_code > 0)
      mprotect(reinterpret_cast<char*>(reinterpret_cast<uintptr_t>(info->si_addr) & ~(kPage - 1)), kPage,
               PROT_READ | PROT_WRITE);
  };
  action.sa_flags = SA_SIGINFO | SA_RESTART;
  sigaction(SIGSEGV, &action, nullptr);
  g_handled = 0;
  constexpr int kRounds = 2000;
  std::atomic<int> wrong{0};
  std::atomic<bool> stop{false};
  std::thread faults([&] {
    char* page = Map(PROT_NONE);
    for (int i = 0; i < kRounds; ++i) {
      Bar(page);
      Peek(page);
    }
  });
  std::thread calls([&] {
    Pair pair = Connected(listener, address);
    char* bad = Map(PROT_NONE);
    char in[64];
    for (int i = 0; i < kRounds; ++i) {
      if (send(pair.client, bad, 10, 0) != -1 || errno != EFAULT) ++wrong;
      if (send(pair.client, "0123456789", 10, 0) != 10) ++wrong;
      if (recv(pair.server, bad, 10, 0) != -1 || errno != EFAULT) ++wrong;
      if (recv(pair.server, in, sizeof in, 0) != 10) ++wrong;
    }
    ClosePair(pair);
    stop = true;
  });
  int sent = 0;
  while (!stop) {
    pthread_kill(calls.native_handle(), SIGSEGV);
    ++sent;
    usleep(200);
  }
  faults.join();
  calls.join();
  std::printf("wrong: %d, handled at least: %d, sent: %d\n", wrong.load(), g_handled >= kRounds, sent > 0);
  signal(SIGSEGV, SIG_DFL);
}

void OverExec() {
  Title("ignored, over exec");
  for (auto disposition : {SIG_IGN, SIG_DFL, static_cast<sighandler_t>(Count)}) {
    signal(SIGSEGV, disposition);
    std::fflush(stdout);
    InChild("exec", [] {
      Show("of nothing", execl("/nonexistent", "x", nullptr));
      BadCalls();
      std::fflush(stdout);
      execl("/proc/self/exe", "faults", "", "disposition", nullptr);
    });
  }
  signal(SIGSEGV, SIG_DFL);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 3) {
    ShowAction("  in the new program", SIGSEGV);
    return 0;
  }
  if (argc != 2) return 2;
  signal(SIGPIPE, SIG_IGN);
  Title("before the first socket");
  g_page = Map(PROT_NONE);
  Dispositions(SIGSEGV);
  Install(SIGBUS, Repair, SA_RESTART, {SIGUSR1});
  Address address(argv[1]);
  int listener = Listen(address);
  g_pair = Connected(listener, address);
  Title("what was installed before it");
  ShowAction("SIGSEGV", SIGSEGV);
  ShowAction("SIGBUS", SIGBUS);
  Title("SIGSEGV");
  Dispositions(SIGSEGV);
  OwnFaults(SIGSEGV);
  Title("SIGBUS");
  Dispositions(SIGBUS);
  signal(SIGBUS, Count);
  g_handled = 0;
  raise(SIGBUS);
  std::printf("handled %d\n", g_handled.load());
  WhileBlocked();
  Stacks();
  Together(address, listener);
  OverExec();
  Title("a child that crashes");
  InChild("crash", [] {
    BadCalls();
    Peek(g_page);
  });
  Show("send", send(g_pair.client, "alive", 5, 0));
  Await(g_pair.server, POLLIN);
  char in[8];
  Show("recv", recv(g_pair.server, in, sizeof in, 0));
  ClosePair(g_pair);
  close(listener);
}
