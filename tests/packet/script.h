// A packet script as parsed: a list of events in a subset of packetdrill's grammar (tests/packet/README.md).
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace ustcp::packet {

// Times are nanoseconds of the script's own clock, which starts at 0 with its first line.
struct When {
  enum Kind { kAt, kAfter, kAny };  // absolute, relative to the event before, whenever it comes
  Kind kind = kAfter;
  int64_t from = 0;
  int64_t to = 0;  // of a range `a~b`, or the end of a blocking call `a...b`; equals from otherwise
  bool blocking = false;
};

struct SackBlock {
  uint32_t begin, end;
};

struct PacketOptions {
  bool any = false;  // the script says <...>, or nothing for an outbound packet of data
  std::optional<uint16_t> mss;
  std::optional<uint8_t> wscale;
  bool sack_ok = false;
  std::optional<uint32_t> ts_val, ts_ecr;
  bool ts_any = false;  // TS val without numbers to compare
  std::vector<SackBlock> sacks;
  std::vector<std::byte> raw;  // `raw 0204`: bytes as they are, for malformed options
  std::string text;            // the order as written: mss,sackOK,TS,nop,wscale
};

struct PacketSpec {
  bool inbound = false;
  uint16_t port = 0;  // the peer's port; 0: the default one
  std::string flags;  // letters of "FSRPUEWA", '.' written as A
  uint32_t seq = 0, end = 0, length = 0;
  std::optional<uint32_t> ack;
  std::optional<uint16_t> window;
  std::optional<uint16_t> urgent;
  std::optional<int> ecn;  // 0 not-ECT, 1 ECT(1), 2 ECT(0), 3 CE
  bool bad_checksum = false;
  std::optional<int> data_offset;  // overrides the header length, in words
  PacketOptions options;
  // ICMP instead of TCP
  bool icmp = false;
  std::string icmp_type, icmp_code;
  std::optional<uint32_t> icmp_mtu;
};

struct CallSpec {
  std::string name;
  std::vector<std::string> arguments;  // raw text of each
  std::string result;                  // number, or ... for anything
  std::string error;                   // EAGAIN, empty for none
};

struct Event {
  enum Kind { kPacket, kCall, kAssert, kSysctl };
  Kind kind = kCall;
  int line = 0;
  When when;
  PacketSpec packet;
  CallSpec call;
  std::string code;  // of an assertion
};

struct Script {
  std::string path;
  std::string title;  // first comment
  std::vector<std::pair<std::string, std::string>> sysctls;
  std::vector<std::string> options;  // --name=value
  std::vector<Event> events;
};

// Parses a script. On failure returns nullopt and sets `error` to "line N: what".
std::optional<Script> ParseScript(const std::string& path, const std::string& text, std::string* error);

}  // namespace ustcp::packet
