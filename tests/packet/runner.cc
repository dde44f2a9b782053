#include "tests/packet/runner.h"

#include <algorithm>
#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <sstream>

#include "io/settings/settings.h"
#include "stack/socket/socket.h"
#include "stack/socket/socket_ops.h"
#include "stack/tcp/listener.h"
#include "stack/tcp/tcb.h"
#include "tests/packet/calls.h"
#include "tests/packet/world.h"

namespace ustcp::packet {
namespace {

struct Mismatch {
  std::string what;
};

std::string TimeText(int64_t nanos) {
  char text[32];
  std::snprintf(text, sizeof text, "%.6f", static_cast<double>(nanos) / 1e9);
  return text;
}

std::string OptionOf(const Script& script, const std::string& name, const std::string& fallback) {
  for (const std::string& o : script.options)
    if (o.compare(0, name.size() + 3, "--" + name + "=") == 0) return o.substr(name.size() + 3);
  return fallback;
}

Sysctls SysctlsOf(const Script& script) {
  Sysctls sysctls;
  for (auto& [name, value] : script.sysctls)
    if (!ApplySysctl(sysctls, name, value)) throw Mismatch{"cannot set sysctl " + name + "=" + value};
  return sysctls;
}

class Runner {
 public:
  Runner(const Script& script, bool v6)
      : script_(script),
        v6_(v6),
        world_(v6, SysctlsOf(script), OptionOf(script, "neighbors", "answer") == "answer",
               OptionOf(script, "offload", "on") == "on"),
        calls_(world_, v6),
        tolerance_(std::atoll(OptionOf(script, "tolerance_usecs", "4000").c_str()) * 1000) {}

  Verdict Run() {
    Verdict verdict;
    try {
      for (const Event& e : script_.events) {
        line_ = e.line;
        Do(e);
        if (!world_.fault().empty()) throw Mismatch{world_.fault()};
      }
      Finish();
    } catch (const Mismatch& m) {
      verdict.ok = false;
      verdict.line = line_;
      verdict.what = m.what;
    }
    Record();
    verdict.trace = std::move(trace_);
    return verdict;
  }

 private:
  void Do(const Event& e) {
    int64_t at = e.when.kind == When::kAt ? e.when.from : last_ + e.when.from;
    int64_t until = e.when.kind == When::kAt ? e.when.to : last_ + e.when.to;
    if (e.when.kind == When::kAny) {
      at = world_.elapsed();
      until = at + int64_t{3600} * 1'000'000'000;
    }
    if (e.kind == Event::kPacket && !e.packet.inbound) {
      int64_t seen = Expect(e.packet, at, until, e.when.kind == When::kAny);
      last_ = e.when.kind == When::kAfter && !IsRange(e) ? at : e.when.kind == When::kAt && !IsRange(e) ? at : seen;
      return;
    }
    AdvanceTo(at);
    last_ = at;
    switch (e.kind) {
      case Event::kPacket: Send(e.packet); break;
      case Event::kCall: Call(e, until); break;
      case Event::kSysctl: {
        std::string text = e.code.substr(e.code.find_last_of(" \t") + 1);
        size_t eq = text.find('=');
        if (eq == std::string::npos || !ApplySysctl(world_.host().sysctls, text.substr(0, eq), text.substr(eq + 1)))
          throw Mismatch{"cannot do " + e.code};
        break;
      }
      case Event::kAssert: {
        std::string what = EvaluateAssertions(e.code, world_, calls_);
        if (!what.empty()) throw Mismatch{"assertion failed: " + what};
        break;
      }
    }
  }
  static bool IsRange(const Event& e) { return e.when.to != e.when.from; }

  // --- time ---

  void AdvanceTo(int64_t target) {
    Instant to = world_.At(target);
    for (;;) {
      Instant next = world_.NextEvent();
      if (next > to) break;
      Step(std::max(next, world_.now()));
    }
    if (to > world_.now()) Step(to);
  }
  void Step(Instant to) {
    if (to <= world_.now() && ++idle_steps_ > 10000) throw Mismatch{"the stack's timers never come to rest"};
    if (to > world_.now()) idle_steps_ = 0;
    world_.AdvanceTo(to);
    Settle();
  }
  // What the world did may let the pending call return.
  void Settle() {
    Record();
    while (pending_) {
      auto result = calls_.Retry();
      Record();
      if (!result) return;
      const Event* e = pending_;
      pending_ = nullptr;
      int64_t now = world_.elapsed();
      Note("   " + e->call.name + "() returned " + std::to_string(result->value) +
           (result->value < 0 ? " " + Calls::ErrorName(result->error) : ""));
      int line = line_;
      line_ = e->line;
      if (std::abs(now - pending_end_) > tolerance_)
        throw Mismatch{e->call.name + " returned at " + TimeText(now) + ", expected at " + TimeText(pending_end_)};
      Check(e->call, *result);
      line_ = line;
    }
  }

  // --- calls ---

  void Call(const Event& e, int64_t until) {
    if (pending_) throw Mismatch{"the call before has not returned yet"};
    std::string arguments;
    for (auto& a : e.call.arguments) arguments += (arguments.empty() ? "" : ", ") + a;
    Note("   " + e.call.name + "(" + arguments + ")");
    auto result = calls_.Start(e.call);
    Record();
    if (!result) {
      if (!e.when.blocking) throw Mismatch{e.call.name + " blocks"};
      pending_ = &e;
      pending_end_ = until;
      return;
    }
    if (e.when.blocking && until - last_ > tolerance_)
      throw Mismatch{e.call.name + " returned " + Show(*result) + " at once, expected to block"};
    Check(e.call, *result);
  }
  static std::string Show(const CallResult& r) {
    return std::to_string(r.value) + (r.value < 0 ? " " + Calls::ErrorName(r.error) : "");
  }
  static void Check(const CallSpec& call, const CallResult& result) {
    if (!result.mismatch.empty()) throw Mismatch{result.mismatch};
    if (call.result == "...") return;
    auto want = Calls::Value(call.result);
    std::string want_text = call.result + (call.error.empty() ? "" : " " + call.error);
    bool same = want && *want == result.value;
    if (same && result.value < 0) same = Calls::ErrorName(result.error) == call.error;
    if (!same) throw Mismatch{call.name + " returned " + Show(result) + ", expected " + want_text};
  }

  // --- packets in ---

  void Send(const PacketSpec& spec) {
    Mapping& m = world_.MapOf(spec.port);
    auto has = [&spec](char f) { return spec.flags.find(f) != std::string::npos; };
    if (spec.icmp) {
      std::string error;
      auto frame = BuildIcmpFrame(world_.ends(), spec, m.peer_port, m.local_port, spec.seq + m.local_offset, &error);
      if (frame.empty()) throw Mismatch{error};
      Note("< icmp " + spec.icmp_type + " " + spec.icmp_code);
      world_.Inject(std::move(frame));
      Settle();
      return;
    }
    if (!m.peer_known) {
      // Just below the wrap, so that the first bytes cross it.
      m.peer_offset = (v6_ ? 0xffffffffu : 0xffffffffu - 500) - spec.seq;
      m.peer_known = true;
      m.peer_syn = m.peer_isn_script = spec.seq;
    } else if (has('S') && !has('A') && spec.seq != m.peer_syn) {
      m.relearn = true;
      m.peer_syn = spec.seq;
    }
    PacketSpec wire = spec;
    wire.seq += m.peer_offset;
    if (has('A')) wire.ack = *spec.ack + m.local_offset;
    for (SackBlock& s : wire.options.sacks) s.begin += m.local_offset, s.end += m.local_offset;
    if (wire.options.ts_ecr && has('A') && m.ts_known) *wire.options.ts_ecr += m.ts_offset;
    if (has('U')) calls_.StopReadChecks();
    std::vector<std::byte> data(spec.length);
    for (size_t i = 0; i < data.size(); ++i)
      data[i] = PatternAt(spec.seq - m.peer_isn_script + (has('S') ? 1 : 0) + static_cast<uint32_t>(i));
    Note("< " + Port(spec.port) +
         FormatSegment(spec.flags, spec.seq, spec.length, has('A'), spec.ack.value_or(0), spec.window.value_or(0),
                       spec.urgent.value_or(0), spec.options));
    world_.Inject(BuildTcpFrame(world_.ends(), wire, m.peer_port, m.local_port, data));
    Settle();
  }
  static std::string Port(uint16_t port) { return port == 0 ? "" : "[port " + std::to_string(port) + "] "; }

  // --- packets out ---

  // Waits for the next segment until `until` (plus tolerance); nullptr when none comes.
  const SentSegment* Await(size_t index, int64_t until) {
    auto& sent = world_.sent();
    while (sent.size() <= index) {
      Instant next = world_.NextEvent();
      if (next > world_.At(until + tolerance_)) return nullptr;
      Step(std::max(next, world_.now()));
    }
    return &sent[index];
  }

  int64_t Expect(const PacketSpec& spec, int64_t at, int64_t until, bool any_time) {
    Mapping& m = world_.MapOf(spec.port);
    std::string want = FormatSegment(spec.flags, spec.seq, spec.length, spec.ack.has_value(), spec.ack.value_or(0),
                                     spec.window ? *spec.window : -1, spec.urgent.value_or(0), spec.options);
    const SentSegment* first = Await(0, until);
    if (first == nullptr) throw Mismatch{"expected " + want + " at " + TimeText(at) + ", nothing was sent"};
    SentSegment s = *first;
    Learn(m, spec, s);
    if (s.peer_port != m.peer_port || s.local_port != m.local_port)
      throw Mismatch{"expected " + want + ", got a segment of another connection: " + Shown(s)};
    // A longer expected segment stands for several contiguous ones, as frames and devices cut them; PSH on any but the last
    // says where a frame ended and does not count.
    size_t used = 1;
    int64_t last_time = ToNanos(s.at - world_.At(0));
    while (s.payload.size() < spec.length) {
      const SentSegment* next = Await(used, until);
      bool goes_on = next != nullptr && next->peer_port == s.peer_port && next->ack == s.ack &&
                     (s.flags == "A" || s.flags == "PA") && next->seq == s.seq + s.payload.size();
      if (!goes_on) break;
      s.payload.insert(s.payload.end(), next->payload.begin(), next->payload.end());
      s.flags = next->flags;
      s.urgent = next->urgent;
      last_time = ToNanos(next->at - world_.At(0));
      ++used;
    }
    // Where a burst of segments is written as one, a PSH at its end counts only when the script has it: it may mark the end
    // of a frame instead of a write.
    if (used > 1 && spec.flags.find('P') == std::string::npos)
      s.flags.erase(std::remove(s.flags.begin(), s.flags.end(), 'P'), s.flags.end());
    std::string why = Compare(m, spec, s);
    int64_t seen = ToNanos(s.at - world_.At(0));
    if (!why.empty()) throw Mismatch{"expected " + want + ", got " + Shown(s) + " (" + why + ")"};
    if (!any_time && (seen < at - tolerance_ || last_time > until + tolerance_))
      throw Mismatch{"expected " + want + " at " + TimeText(at) + ", it was sent at " + TimeText(seen)};
    world_.sent().erase(world_.sent().begin(), world_.sent().begin() + static_cast<std::ptrdiff_t>(used));
    recorded_ -= std::min(recorded_, used);
    return seen;
  }

  // Numbers of ours that the script cannot know are taken from the first segment that has them.
  void Learn(Mapping& m, const PacketSpec& spec, const SentSegment& s) {
    if (s.peer_port != m.peer_port) return;
    if (m.local_port == 0) m.local_port = s.local_port;
    bool syn = s.flags.find('S') != std::string::npos;
    bool differs = s.seq != spec.seq + m.local_offset;
    if (syn && (!m.local_known || (m.relearn && differs))) {
      if (m.local_known) world_.isn_growth = static_cast<int32_t>(s.seq - (m.local_isn_script + m.local_offset));
      m.local_offset = s.seq - spec.seq;
      m.local_isn_script = spec.seq;
      m.local_known = true;
      m.relearn = false;
      m.ts_known = false;
    }
    if (!m.ts_known && s.options.ts_val && spec.options.ts_val) {
      m.ts_offset = *s.options.ts_val - *spec.options.ts_val;
      m.ts_known = true;
    }
  }

  std::string Compare(Mapping& m, const PacketSpec& spec, const SentSegment& s) {
    auto sorted = [](std::string f) {
      std::sort(f.begin(), f.end());
      return f;
    };
    if (sorted(spec.flags) != sorted(s.flags)) return "flags";
    if (s.seq - m.local_offset != spec.seq) return "sequence number";
    if (s.payload.size() != spec.length) return "length";
    if (spec.ack && s.ack - m.peer_offset != *spec.ack) return "acknowledgement";
    if (spec.window && *spec.window != s.window) return "window";
    if (spec.urgent.value_or(0) != s.urgent) return "urgent pointer";
    if (spec.ecn && *spec.ecn != s.ecn) return "ECN";
    bool syn = spec.flags.find('S') != std::string::npos;
    for (size_t i = 0; i < s.payload.size(); ++i)
      if (s.payload[i] != PatternAt(spec.seq - m.local_isn_script + (syn ? 1 : 0) + static_cast<uint32_t>(i)))
        return "byte " + std::to_string(spec.seq + i) + " of the payload";
    if (spec.options.any) return "";
    const PacketOptions& a = spec.options;
    const PacketOptions& b = s.options;
    if (a.text != b.text) return "options";
    if (a.mss && a.mss != b.mss) return "MSS";
    if (a.wscale && a.wscale != b.wscale) return "window scale";
    if (a.ts_ecr && a.ts_ecr != b.ts_ecr) return "TS ecr";
    if (a.ts_val) {
      auto off = static_cast<int32_t>(*b.ts_val - m.ts_offset - *a.ts_val);
      if (std::abs(static_cast<int64_t>(off)) * 1'000'000 > tolerance_) return "TS val";
    }
    if (a.sacks.size() != b.sacks.size()) return "SACK blocks";
    for (size_t i = 0; i < a.sacks.size(); ++i)
      if (b.sacks[i].begin - m.peer_offset != a.sacks[i].begin || b.sacks[i].end - m.peer_offset != a.sacks[i].end)
        return "SACK blocks";
    return "";
  }

  // --- the record ---

  void Note(const std::string& text) {
    Record();
    trace_.push_back(TimeText(world_.elapsed()) + " " + text);
  }
  // Adds segments that were sent since the last time to the trace.
  void Record() {
    auto& sent = world_.sent();
    for (; recorded_ < sent.size(); ++recorded_)
      trace_.push_back(TimeText(ToNanos(sent[recorded_].at - world_.At(0))) + " > " + Shown(sent[recorded_]));
  }
  std::string Shown(const SentSegment& s) {
    Mapping* m = world_.FindMap(s);
    static const Mapping kNone;
    const Mapping& map = m != nullptr ? *m : kNone;
    PacketOptions o = s.options;
    if (o.ts_val && map.ts_known) *o.ts_val -= map.ts_offset;
    for (SackBlock& b : o.sacks) b.begin -= map.peer_offset, b.end -= map.peer_offset;
    bool ack = s.flags.find('A') != std::string::npos;
    uint32_t seq = map.local_known || s.flags.find('S') == std::string::npos ? s.seq - map.local_offset : 0;
    std::string port = s.peer_port != world_.default_port ? Port(s.peer_port) : "";
    return port + FormatSegment(s.flags, seq, static_cast<uint32_t>(s.payload.size()), ack, s.ack - map.peer_offset,
                                s.window, s.urgent, o);
  }

  // --- the end ---

  void Finish() {
    Settle();
    if (pending_) throw Mismatch{pending_->call.name + " has not returned"};
    if (!world_.sent().empty()) throw Mismatch{"not expected: " + Shown(world_.sent().front())};
    std::string leak = Drain();
    if (!leak.empty()) throw Mismatch{"after everything was closed: " + leak};
  }
  // Closes what is open, lets every timer run out, and looks for what stayed behind.
  std::string Drain() {
    calls_.CloseAll();
    Shard& shard = world_.shard();
    auto busy = [&shard] { return shard.connections.live() + shard.half_opens.live() + shard.time_waits.live(); };
    Instant limit = world_.now() + 4h;
    while (busy() != 0) {
      Instant next = world_.NextEvent();
      if (next > limit) return "connections stay behind";
      Step(std::max(next, world_.now()));
      world_.sent().clear();
      recorded_ = 0;
      if (!world_.fault().empty()) return world_.fault();
    }
    // Frames that wait for a neighbour's address go with its entry.
    for (int i = 0; i < 20 && shard.bufs.bytes_taken() != 0 && world_.NextEvent() != kNever; ++i)
      Step(std::max(world_.NextEvent(), world_.now()));
    struct {
      const char* what;
      size_t count;
    } left[] = {{"sockets", shard.sockets.live()},
                {"listeners", shard.listeners.live()},
                {"segment records", shard.tx_segments.live()},
                {"buffer bytes", shard.bufs.bytes_taken()},
                {"epoll sets", shard.epoll_sets.live()},
                {"epoll items", shard.epoll_items.live()},
                {"wait entries", shard.wait_entries.live()},
                {"orphans counted", static_cast<size_t>(world_.host().orphan_count.load())},
                {"TIME_WAIT counted", static_cast<size_t>(world_.host().time_wait_count.load())},
                {"bytes counted for tcp_mem", static_cast<size_t>(world_.host().buffer_bytes.load())},
                {"CurrEstab", static_cast<size_t>(shard.counters.Get(Counter::kTcpCurrEstab))}};
    for (auto& l : left)
      if (l.count != 0) return std::to_string(l.count) + " " + l.what + " left";
    int bound = 0;
    for (uint32_t port = 1; port < 65536; ++port)
      world_.host().ports.ForEach(static_cast<uint16_t>(port), [&bound](BindNode&) { ++bound; });
    if (bound != 0) return std::to_string(bound) + " ports still bound";
    return "";
  }

  const Script& script_;
  bool v6_;
  World world_;
  Calls calls_;
  int64_t tolerance_;
  int line_ = 0;
  int64_t last_ = 0;  // script time of the event before
  int idle_steps_ = 0;
  size_t recorded_ = 0;  // of world_.sent(), those that are in the trace
  const Event* pending_ = nullptr;
  int64_t pending_end_ = 0;
  std::vector<std::string> trace_;
};

}  // namespace

bool RunsOver(const Script& script, bool v6) {
  std::string version = OptionOf(script, "ip_version", "");
  return version.empty() || version == (v6 ? "ipv6" : "ipv4");
}

bool ApplySysctl(Sysctls& sysctls, const std::string& name, const std::string& value) {
  const SysctlInfo* info = FindSysctl(name);
  return info != nullptr && !SetSysctl(*info, value, "", &sysctls);
}

Verdict RunScript(const Script& script, bool v6) {
  try {
    Runner runner(script, v6);
    return runner.Run();
  } catch (const Mismatch& m) {
    Verdict verdict;
    verdict.ok = false;
    verdict.what = m.what;
    return verdict;
  }
}

}  // namespace ustcp::packet
