// tcp_info, as Linux's tcp_get_info fills it.
#include <algorithm>
#include <cstring>

#include "stack/host/host.h"
#include "stack/tcp/input.h"
#include "stack/tcp/receive_window.h"
#include "stack/tcp/send_queue.h"
#include "stack/tcp/state.h"
#include "stack/tcp/tcb.h"

namespace ustcp {
namespace {

uint32_t Micros(Duration d) { return static_cast<uint32_t>(std::clamp<int64_t>(ToMicros(d), 0, 0xffffffff)); }
uint32_t MillisSince(Instant now, Instant then) {
  return then == Instant{} ? 0 : static_cast<uint32_t>(std::clamp<int64_t>(ToMillis(now - then), 0, 0xffffffff));
}

}  // namespace

void TcpFillInfo(const Connection& conn, Instant now, tcp_info& info) noexcept {
  std::memset(&info, 0, sizeof info);
  const Sender& s = conn.snd;
  info.tcpi_state = static_cast<uint8_t>(conn.state);
  info.tcpi_ca_state = static_cast<uint8_t>(s.ca_state);
  info.tcpi_retransmits = s.retransmits;
  info.tcpi_probes = conn.probes_out;
  info.tcpi_backoff = s.xmit_timer == XmitTimer::kPersist ? conn.probe_backoff : s.rtt.backoff;
  if (s.timestamps_ok) info.tcpi_options |= TCPI_OPT_TIMESTAMPS;
  if (s.sack_ok) info.tcpi_options |= TCPI_OPT_SACK;
  if (conn.wscale_ok) {
    info.tcpi_options |= TCPI_OPT_WSCALE;
    info.tcpi_snd_wscale = conn.snd_wscale & 15;
    info.tcpi_rcv_wscale = conn.rcv_wscale & 15;
  }
  info.tcpi_rto = Micros(s.rtt.rto);
  info.tcpi_ato = conn.ato_ms * 1000u;
  info.tcpi_snd_mss = s.mss;
  info.tcpi_rcv_mss = conn.rcv_mss;
  info.tcpi_unacked = s.packets_out;
  info.tcpi_sacked = s.sacked_out;
  info.tcpi_lost = s.lost_out;
  info.tcpi_retrans = s.retrans_out;
  info.tcpi_last_data_sent = MillisSince(now, s.last_sent);
  info.tcpi_last_data_recv = MillisSince(now, conn.last_received);
  info.tcpi_last_ack_recv = MillisSince(now, conn.last_ack_received);
  info.tcpi_pmtu = conn.path.mtu;
  info.tcpi_rcv_ssthresh = conn.rcv_ssthresh;
  info.tcpi_rtt = s.rtt.srtt_us();
  info.tcpi_rttvar = s.rtt.mdev4_us >> 2;
  info.tcpi_snd_ssthresh = s.ssthresh;
  info.tcpi_snd_cwnd = s.cwnd;
  info.tcpi_advmss = conn.advmss;
  info.tcpi_reordering = s.reordering;
  info.tcpi_rcv_rtt = conn.rcv_rtt_us >> 3;
  info.tcpi_rcv_space = conn.tuning_space;
  info.tcpi_total_retrans = s.total_retransmits;
  info.tcpi_pacing_rate = s.pacing_rate != 0 ? s.pacing_rate : ~uint64_t{0};
  info.tcpi_max_pacing_rate = ~uint64_t{0};
  info.tcpi_bytes_acked = s.bytes_acked;
  info.tcpi_bytes_received = conn.bytes_received;
  info.tcpi_segs_out = conn.segs_out;
  info.tcpi_segs_in = conn.segs_in;
  int32_t unsent = s.write_end - s.snd_nxt;
  info.tcpi_notsent_bytes = unsent > 0 ? static_cast<uint32_t>(unsent) : 0;
  info.tcpi_min_rtt = s.rtt.min_rtt_us();
  info.tcpi_data_segs_in = conn.data_segs_in;
  info.tcpi_data_segs_out = s.data_segs_out;
  if (s.rate_interval_us != 0) {
    info.tcpi_delivery_rate = uint64_t{s.rate_delivered} * s.mss * 1'000'000 / s.rate_interval_us;
    info.tcpi_delivery_rate_app_limited = s.rate_app_limited;
  }
  info.tcpi_delivered = s.delivered;
  info.tcpi_delivered_ce = s.delivered_ce;
  info.tcpi_bytes_sent = s.bytes_sent;
  info.tcpi_bytes_retrans = s.bytes_retransmitted;
  info.tcpi_dsack_dups = s.dsack_dups;
  info.tcpi_reord_seen = s.reorder_events;
  info.tcpi_snd_wnd = s.snd_wnd;
}

}  // namespace ustcp
