#include <fmt/format.h>
#include <linux/tcp.h>
#include <sys/socket.h>

#include <algorithm>
#include <map>

#include "io/base/clock.h"
#include "stack/socket/socket.h"
#include "stack/tcp/listener.h"
#include "stack/tcp/tcb.h"
#include "stack/tcp/tcp.h"
#include "tools/commands.h"
#include "tools/ss.h"

namespace ustcp::tool {

namespace {

using UserMap = std::map<const Socket*, std::vector<SocketUser>>;

UserMap CollectUsers(View& view) {
  Host& host = view.host;
  UserMap users;
  for (int i = 0; i < kMaxProcesses && !NeverUsed(host.processes[i]); ++i) {
    ProcessSlot& process = host.processes[i];
    if (process.state.load() != ProcessSlot::kLive) continue;
    const int32_t pid = process.pid;
    const std::string& name = view.programs[pid];
    for (int p = 0; p < kFdPagesPerProcess; ++p) {
      FdPage* page = process.pages[p].load();
      if (page == nullptr) continue;
      for (int e = 0; e < kFdsPerPage; ++e) {
        uint64_t bits = page->entries[e].load();
        int fd = p * kFdsPerPage + e;
        // The last pages hold references of calls in progress, not descriptors.
        if (FdEntry::KindOf(bits) != FdEntry::kSocket || fd >= 1 << 20) continue;
        users[static_cast<const Socket*>(FdEntry::ObjectOf(bits))].push_back({name, pid, fd});
      }
    }
  }
  return users;
}

// "59sec", "200ms", "1min58sec" as ss has them.
std::string TimeText(int64_t ms) {
  if (ms < 0) ms = 0;
  int64_t seconds = ms / 1000;
  std::string text;
  if (seconds >= 60) text += fmt::format("{}min", seconds / 60);
  if (seconds % 60 != 0)
    text +=
        fmt::format("{}{}sec", seconds % 60, seconds < 10 && ms % 1000 != 0 ? fmt::format(".{:03}", ms % 1000) : "");
  if (seconds == 0) text += fmt::format("{}ms", ms);
  return text;
}

std::string TimerText(const Connection& c, Instant now) {
  auto text = [now](const char* name, Instant at, unsigned count) {
    return fmt::format("{},{},{}", name, TimeText(ToMillis(at - now)), count);
  };
  switch (c.snd.xmit_timer) {
    case XmitTimer::kNone: break;
    case XmitTimer::kPersist: return text("persist", c.snd.xmit_deadline, c.probes_out);
    default: return text("on", c.snd.xmit_deadline, c.snd.retransmits);
  }
  if (c.slow_timer != SlowTimer::kNone && c.slow_deadline != kNever)
    return text(c.slow_timer == SlowTimer::kKeepalive ? "keepalive" : "timewait", c.slow_deadline, c.probes_out);
  return {};
}

std::string InformationText(const Connection& c, Instant now) {
  tcp_info info{};
  TcpFillInfo(c, now, info);
  std::string text;
  auto word = [&text](std::string w) { text += (text.empty() ? "" : " ") + w; };
  if ((info.tcpi_options & TCPI_OPT_TIMESTAMPS) != 0) word("ts");
  if ((info.tcpi_options & TCPI_OPT_SACK) != 0) word("sack");
  if ((info.tcpi_options & TCPI_OPT_ECN) != 0) word("ecn");
  CcKind kind = c.socket != nullptr ? c.socket->options.congestion : CcKind::kCubic;
  word(CcName(kind));
  if ((info.tcpi_options & TCPI_OPT_WSCALE) != 0)
    word(fmt::format("wscale:{},{}", static_cast<int>(info.tcpi_snd_wscale), static_cast<int>(info.tcpi_rcv_wscale)));
  word(fmt::format("rto:{}", info.tcpi_rto / 1000.0));
  if (info.tcpi_rtt != 0) word(fmt::format("rtt:{}/{}", info.tcpi_rtt / 1000.0, info.tcpi_rttvar / 1000.0));
  if (info.tcpi_ato != 0) word(fmt::format("ato:{}", info.tcpi_ato / 1000));
  word(fmt::format("mss:{} pmtu:{} rcvmss:{} advmss:{} cwnd:{}", info.tcpi_snd_mss, info.tcpi_pmtu, info.tcpi_rcv_mss,
                   info.tcpi_advmss, info.tcpi_snd_cwnd));
  if (info.tcpi_snd_ssthresh < 0xffff) word(fmt::format("ssthresh:{}", info.tcpi_snd_ssthresh));
  auto count = [&word](const char* name, uint64_t value) {
    if (value != 0) word(fmt::format("{}:{}", name, value));
  };
  count("bytes_sent", info.tcpi_bytes_sent);
  count("bytes_retrans", info.tcpi_bytes_retrans);
  count("bytes_acked", info.tcpi_bytes_acked);
  count("bytes_received", info.tcpi_bytes_received);
  count("segs_out", info.tcpi_segs_out);
  count("segs_in", info.tcpi_segs_in);
  count("data_segs_out", info.tcpi_data_segs_out);
  count("data_segs_in", info.tcpi_data_segs_in);
  word(fmt::format("lastsnd:{} lastrcv:{} lastack:{}", info.tcpi_last_data_sent, info.tcpi_last_data_recv,
                   info.tcpi_last_ack_recv));
  count("unacked", info.tcpi_unacked);
  if (info.tcpi_total_retrans != 0) word(fmt::format("retrans:{}/{}", info.tcpi_retrans, info.tcpi_total_retrans));
  count("lost", info.tcpi_lost);
  count("sacked", info.tcpi_sacked);
  count("rcv_space", info.tcpi_rcv_space);
  count("notsent", info.tcpi_notsent_bytes);
  count("snd_wnd", info.tcpi_snd_wnd);
  return text;
}

class Collector {
 public:
  Collector(View& view, bool information, bool memory)
      : users_(CollectUsers(view)), now_(MonotonicNow()), information_(information), memory_(memory) {}

  void Take(Shard& shard) {
    shard.sockets.ForEachLive([this](Socket& s) {
      if (s.state == SocketState::kListening) AddListener(s);
    });
    shard.connections.ForEachLive([this](Connection& c) { AddConnection(c); });
    shard.half_opens.ForEachLive([this](HalfOpen& h) {
      SocketRow& row = Add(TcpState::kSynRecv, h.tuple, h.shard);
      row.timer = fmt::format("on,{},{}", TimeText(ToMillis(h.timer.deadline - now_)), h.retransmits);
    });
    shard.time_waits.ForEachLive([this](TimeWait& t) {
      SocketRow& row = Add(t.substate, t.tuple, t.shard);
      row.uid = t.uid;
      row.timer = fmt::format("timewait,{},0", TimeText(ToMillis(t.timer.deadline - now_)));
    });
  }

  std::vector<SocketRow> rows;

 private:
  SocketRow& Add(TcpState state, const Tuple& tuple, uint16_t shard) {
    SocketRow& row = rows.emplace_back();
    row.state = state;
    row.local = tuple.local;
    row.peer = tuple.peer;
    row.v6_socket = !tuple.local.address.is_v4();
    row.shard = shard;
    return row;
  }

  void FillSocket(SocketRow& row, const Socket& s) {
    row.uid = s.uid;
    row.inode = s.inode;
    row.v6_socket = s.family == AF_INET6;
    row.v6only = s.options.v6only;
    if (auto users = users_.find(&s); users != users_.end()) row.users = users->second;
  }

  void AddListener(Socket& s) {
    SocketRow& row = Add(TcpState::kListen, Tuple{s.local, Endpoint{}}, s.shard);
    row.peer.address = s.local.address.is_v4() ? IpAddress::AnyV4() : IpAddress::AnyV6();
    FillSocket(row, s);
    if (Listener* listener = s.listener) {
      row.recv_queue = listener->accept_count.load();
      row.send_queue = listener->backlog;
    }
  }

  void AddConnection(Connection& c) {
    if (c.state == TcpState::kClosed) return;
    SocketRow& row = Add(c.state, c.tuple, c.shard);
    row.recv_queue = TcpReadable(c);
    row.send_queue = TcpUnacked(c);
    if (const Socket* s = SocketOf(c.socket)) FillSocket(row, *s);
    row.timer = TimerText(c, now_);
    if (information_) row.information = InformationText(c, now_);
    if (memory_)
      row.memory =
          fmt::format("skmem:(r{},rb{},t0,tb{},f0,w{},o0,bl0,d0)", c.rcv_memory, c.rcvbuf, c.sndbuf, c.send_memory);
  }

  UserMap users_;
  Instant now_;
  bool information_;
  bool memory_;
};

}  // namespace

const char* StateText(TcpState state) {
  switch (state) {
    case TcpState::kEstablished: return "ESTAB";
    case TcpState::kSynSent: return "SYN-SENT";
    case TcpState::kSynRecv: return "SYN-RECV";
    case TcpState::kFinWait1: return "FIN-WAIT-1";
    case TcpState::kFinWait2: return "FIN-WAIT-2";
    case TcpState::kTimeWait: return "TIME-WAIT";
    case TcpState::kClosed: return "UNCONN";
    case TcpState::kCloseWait: return "CLOSE-WAIT";
    case TcpState::kLastAck: return "LAST-ACK";
    case TcpState::kListen: return "LISTEN";
    case TcpState::kClosing: return "CLOSING";
  }
  return "UNKNOWN";
}

std::vector<SocketRow> CollectSockets(View& view, bool information, bool memory) {
  Host& host = view.host;
  Collector collector(view, information, memory);
  for (int i = 0; i < kMaxShards && host.shards[i].random_state != 0; ++i) collector.Take(host.shards[i]);
  // Listeners first, then by local port: a listing that looks the same twice.
  std::stable_sort(collector.rows.begin(), collector.rows.end(), [](const SocketRow& a, const SocketRow& b) {
    bool la = a.state == TcpState::kListen, lb = b.state == TcpState::kListen;
    if (la != lb) return la;
    return a.local.port != b.local.port ? a.local.port < b.local.port : a.peer.port < b.peer.port;
  });
  return std::move(collector.rows);
}

}  // namespace ustcp::tool
