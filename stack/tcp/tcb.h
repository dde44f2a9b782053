// The connection record (TCB), the half-open record and the TIME_WAIT record: slots of the shard they belong to.
//
// Send sequence space (RFC 9293 3.3.1, figure 3), with the queues that hold the bytes:
//
//     snd_una            snd_nxt             snd_una + snd_wnd        write_end
//        |  in flight       |  may be sent         |  must wait           |
//        [ ---- send queue: bufs from send_head, first byte is snd_una --- ) + FIN when fin_queued
//
// (in `snd`, which also has the records of what is in flight)
//
// Receive sequence space:
//
//     copied       rcv_nxt                              rcv_nxt + window
//        | unread     |   holes and out-of-order bufs        |
//        [ rcv_head )  [ ofo_head, sorted by seq, disjoint  )
//
// Everything here is guarded by the lock of the shard in the slot's header.
#pragma once

#include <cstdint>

#include "stack/base/seq.h"
#include "stack/host/port_table.h"
#include "stack/host/transmit_list.h"
#include "stack/host/tuple_table.h"
#include "stack/mem/buf.h"
#include "stack/net/ip.h"
#include "stack/tcp/mss.h"
#include "stack/tcp/recovery/sender.h"
#include "stack/time/timer_wheel.h"

namespace ustcp {

struct Listener;
struct TcpUser;

// RFC 9293 3.3.2, named and numbered as Linux does (tcp_info.tcpi_state, ss).
enum class TcpState : uint8_t {
  kEstablished = 1,
  kSynSent,
  kSynRecv,
  kFinWait1,
  kFinWait2,
  kTimeWait,
  kClosed,
  kCloseWait,
  kLastAck,
  kListen,
  kClosing,
};

// What the slow timer of a connection stands for.
enum class SlowTimer : uint8_t { kNone, kKeepalive, kFinWait2, kOrphan };

struct Connection : TransmitNode {
  static constexpr SlotKind kSlotKind = SlotKind::kConnection;

  // --- hot: every segment ---
  TcpState state = TcpState::kClosed;
  uint8_t snd_wscale = 0;  // the peer's shift: scales the windows it advertises
  uint8_t rcv_wscale = 0;  // ours
  bool wscale_ok : 1 = false;
  bool fin_received : 1 = false;  // the peer's FIN is in order: rcv_nxt includes it
  bool shut_rd : 1 = false;       // shutdown(SHUT_RD) or closed by the program
  bool orphan : 1 = false;        // no socket any more
  bool ack_now : 1 = false;       // an ACK is due with the next poll
  bool syn_ack_due : 1 = false;   // simultaneous open: SYN-ACK goes out with the next poll
  bool wants_space : 1 = false;   // a send found no room: tell when there is some
  bool active_open : 1 = false;
  bool simultaneous : 1 = false;  // SYN_RECV reached from SYN_SENT (E10)
  bool wakeup_due : 1 = false;    // a window or keep-alive probe goes out with the next poll
  bool probe_is_keepalive : 1 = false;
  bool nonagle_push : 1 = false;  // send what is queued without regard to Nagle once (TCP_NODELAY set)
  bool cork_more : 1 = false;     // the last send said MSG_MORE
  TcpUser* socket = nullptr;      // null for orphans

  // Send sequence variables beside those in `snd`.
  Seq snd_wl1;                      // SEG.SEQ of the last window update
  uint16_t peer_mss = kDefaultMss;  // the peer's MSS option, lowered by TCP_MAXSEG
  uint16_t advmss = kEthernetMss;   // the MSS option we send
  uint16_t rcv_mss = kDefaultMss;   // estimate of the peer's segment size (delayed ACK)
  Seq snd_up;                       // urgent: behind the urgent byte, when urgent_out
  Seq snd_sml;                      // end of the last small segment sent (Minshall)
  Seq pushed_seq;                   // end of the last byte marked PSH

  // Receive sequence variables.
  Seq rcv_nxt;
  Seq copied_seq;        // next byte the program reads
  Seq rcv_wup;           // rcv_nxt when the window was last advertised
  uint32_t rcv_wnd = 0;  // as advertised at rcv_wup
  Seq iss;
  Seq irs;

  Sender snd;  // what was sent, and what to send again (recovery/sender.h)

  // Queues.
  Buf* send_head = nullptr;  // first byte: snd.snd_una
  Buf* send_tail = nullptr;
  Buf* send_cursor = nullptr;  // the buf that holds snd_nxt, or null: search from send_head
  Buf* rcv_head = nullptr;
  Buf* rcv_tail = nullptr;
  Buf* ofo_head = nullptr;
  Buf* ofo_tail = nullptr;
  uint32_t send_memory = 0;  // bytes of Bufs in the send queue, headers included
  uint32_t rcv_memory = 0;   // bytes charged to the receive buffer by rcv and ofo queues
  uint32_t sndbuf = 0;       // limits as SO_SNDBUF and SO_RCVBUF show them
  uint32_t rcvbuf = 0;
  bool sndbuf_locked : 1 = false;  // set by the program: no auto-tuning
  bool rcvbuf_locked : 1 = false;
  uint8_t scaling_ratio = 128;  // share of rcvbuf that may be advertised, in 1/256
  uint8_t tos = 0;              // of outgoing packets; copies outlive the socket
  uint8_t ttl = 64;
  uint32_t user_timeout_ms = 0;  // 0: none

  // Timestamps (RFC 7323), in ms.
  uint32_t ts_offset = 0;
  uint32_t ts_recent = 0;
  uint32_t ts_recent_age_s = 0;  // second of ts_recent, for the 24-day rule
  uint32_t rcv_tsval = 0;        // of the segment in hand; valid when saw_timestamp
  uint32_t rcv_tsecr = 0;
  bool saw_timestamp = false;

  // Acknowledging (Linux: icsk_ack).
  uint8_t quick = 0;               // ACKs left to send at once
  uint8_t pingpong = 0;            // replies seen; interactive when >= tcp_pingpong_thresh
  bool ack_scheduled : 1 = false;  // something unacknowledged was received
  bool ack_timer : 1 = false;      // delack_deadline is meaningful
  bool ack_pushed : 1 = false;     // data up to a short segment waits for an ACK
  bool ack_pushed2 : 1 = false;
  uint16_t ato_ms = 0;
  uint16_t last_segment_bytes = 0;
  uint8_t sack_count = 0;             // of sack_blocks
  bool dsack = false;                 // duplicate_sack goes out with the next ACK
  uint8_t extra_acks = 0;             // without SACK: duplicate ACKs still to be sent, one per segment out of order
  Instant last_received = Instant{};  // any data (Linux: lrcvtime)
  Instant last_ack_received = Instant{};
  SeqRange sack_blocks[4];  // out-of-order ranges, most recent first
  SeqRange duplicate_sack;

  // Receive window (window.h).
  uint32_t window_clamp = 0;
  uint32_t rcv_ssthresh = 0;
  uint32_t tuning_space = 0;  // receive auto-tuning: bytes the program took in the last round trip
  Seq tuning_seq;
  Instant tuning_time = Instant{};
  Seq rcv_rtt_seq;
  Instant rcv_rtt_time = Instant{};
  uint32_t rcv_rtt_us = 0;  // times 8

  // Timers: `timer` holds the earliest of snd.xmit_deadline and these, or an earlier instant of no use any more.
  TimerNode timer;
  Instant delack_deadline = kNever;
  Instant slow_deadline = kNever;
  SlowTimer slow_timer = SlowTimer::kNone;
  uint8_t probe_backoff = 0;  // doublings of the persist timer
  uint8_t probes_out = 0;     // unanswered window or keep-alive probes
  Instant first_probe = Instant{};
  Instant last_oow_ack = Instant{};  // rate limit of answers to invalid segments

  // Urgent data (RFC 9293 3.8.5, with Linux's reading of the pointer).
  Seq urgent_seq;
  uint16_t urgent_data = 0;  // kUrgent* flags and the byte
  bool urgent_out = false;
  int32_t soft_error = 0;  // errno of an ICMP error that may or may not matter
  int32_t linger2_s = 0;

  // tcp_info
  uint64_t bytes_received = 0;
  uint32_t segs_out = 0;
  uint32_t segs_in = 0;
  uint32_t data_segs_in = 0;

  BindNode bind;
  Path path;
};

// A connection of which the listener knows only the SYN: SYN_RECV without a socket (Linux: request_sock).
struct HalfOpen : TupleNode {
  static constexpr SlotKind kSlotKind = SlotKind::kHalfOpen;
  Listener* listener = nullptr;
  uint32_t listener_generation = 0;
  TimerNode timer;
  Path path;
  Seq irs;
  Seq iss;
  uint32_t rcv_wnd = 0;  // as the SYN-ACK advertises it
  uint32_t window_clamp = 0;
  uint32_t ts_recent = 0;
  uint32_t ts_offset = 0;
  uint32_t syn_window = 0;  // the window in the SYN
  uint16_t peer_mss = kDefaultMss;
  uint16_t advmss = kEthernetMss;
  uint8_t snd_wscale = 0;
  uint8_t rcv_wscale = 0;
  uint8_t timeouts = 0;     // times the timer fired
  uint8_t retransmits = 0;  // SYN-ACKs sent again
  uint8_t tos = 0;
  bool timestamps_ok : 1 = false;
  bool sack_ok : 1 = false;
  bool wscale_ok : 1 = false;
  bool acked : 1 = false;  // the third ACK came, and was put off (accept queue full, TCP_DEFER_ACCEPT)
  bool young : 1 = false;  // counted in the listener's half_open_young
  Instant syn_ack_sent = Instant{};
  Instant last_oow_ack = Instant{};
};

// What is left of a connection in TIME_WAIT, and of an orphan in FIN_WAIT2 whose wait is short enough.
struct TimeWait : TupleNode {
  static constexpr SlotKind kSlotKind = SlotKind::kTimeWait;
  TcpState substate = TcpState::kTimeWait;  // or kFinWait2
  uint8_t rcv_wscale = 0;
  uint8_t tos = 0;
  bool timestamps_ok = false;
  Seq snd_nxt;
  Seq rcv_nxt;
  uint32_t rcv_wnd = 0;
  uint32_t ts_recent = 0;
  uint32_t ts_recent_age_s = 0;
  uint32_t ts_offset = 0;
  uint32_t uid = 0;
  Instant entered = Instant{};
  Instant last_oow_ack = Instant{};
  TimerNode timer;
  BindNode bind;
  Path path;
};

}  // namespace ustcp
