#include "tests/packet/world.h"

#include "io/device/segment.h"
#include "stack/wire/ethernet.h"

namespace ustcp::packet {
namespace {

HostConfig ConfigFor(bool v6, bool offload) {
  HostConfig config = test::TestHost::DefaultConfig();
  // packetdrill gives IPv6 20 bytes more, so that both families have the same MSS.
  config.device.mtu = v6 ? 1520 : 1500;
  config.device.checksum_offload = config.device.tso4 = config.device.tso6 = offload;
  config.route_count = 2;
  config.routes[0] = {{IpAddress::V4(0, 0, 0, 0), 0}, IpAddress::V4(192, 168, 0, 254)};
  IpAddress gateway = config.addresses[1].address;
  gateway.bytes[15] = 0xfe;
  config.routes[1] = {{IpAddress::AnyV6(), 0}, gateway};
  return config;
}

Ends EndsFor(bool v6) {
  HostConfig config = ConfigFor(v6, true);
  Ends e;
  e.v6 = v6;
  e.local = config.addresses[v6 ? 1 : 0].address;
  e.gateway = config.routes[v6 ? 1 : 0].gateway;
  e.peer =
      v6 ? IpAddress{{0xfd, 0x3d, 0xfa, 0x7b, 0xd1, 0x7d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}} : IpAddress::V4(192, 0, 2, 1);
  e.local_mac = config.device.mac;
  e.gateway_mac = {0x02, 0, 0, 0, 0, 0xfe};
  return e;
}

}  // namespace

World::World(bool v6, const Sysctls& sysctls, bool neighbors_answer, bool offload)
    : start_(test::TestHost::DefaultStart()),
      now_(start_),
      ends_(EndsFor(v6)),
      box_(ConfigFor(v6, offload), sysctls, start_, size_t{1} << 29),
      shard_(box_.NewShard(0, start_)),
      neighbors_answer_(neighbors_answer) {}

Instant World::NextEvent() {
  ShardLock lock(box_.host(), shard_, now_);
  return std::min(wake_at_, ustcp::NextDeadline(lock.ctx));
}

void World::AdvanceTo(Instant to) {
  now_ = std::max(now_, to);
  if (wake_at_ <= now_) wake_at_ = kNever;
  Enter([](Context& ctx) { OnDeadline(ctx); });
}

void World::Inject(std::vector<std::byte> bytes) {
  Enter([&bytes](Context& ctx) {
    RxFrame frame;
    frame.bytes = Bytes(bytes.data(), bytes.size());
    OnFrame(ctx, frame);
  });
}

void World::Flush(Context& ctx) {
  static TxBatch batch;
  int rounds = 0;
  for (bool more = true; more;) {
    more = PollTransmit(ctx, batch);
    for (size_t i = 0; i < batch.count; ++i) Capture(batch.frames[i]);
    ReleaseTransmitted(ctx, batch);
    DrainMailbox(ctx);
    more = more || HasOutput(shard_);
    if (++rounds > 10000) {
      fault_ = "the stack transmits without end";
      break;
    }
  }
  shard_.next_deadline_ns.store(NanosOf(ustcp::NextDeadline(ctx)));
  char why[256] = "";
  if (fault_.empty() && CheckInvariants(ctx, why, sizeof why) != 0) fault_ = std::string("invariant broken: ") + why;
}

void World::Capture(const TxFrame& frame) {
  static std::vector<std::byte> flat(70000), piece(70000);
  size_t size = FlattenFrame(frame, flat);
  FrameSegmenter segmenter(frame.vnet, ConstBytes(flat.data(), size));
  if (!segmenter.ok() && fault_.empty()) fault_ = "a frame that no device could segment";
  size_t limit = host().config.device.mtu + kEthernetHeaderBytes;
  while (size_t n = segmenter.Next(piece)) {
    ConstBytes bytes(piece.data(), n);
    if (n > limit && fault_.empty()) fault_ = "a frame of " + std::to_string(n) + " bytes";
    SentSegment s;
    s.at = now_;
    if (DecodeTcpFrame(bytes, &s)) {
      if (!s.checksum_ok && fault_.empty()) fault_ = "a segment with a wrong checksum";
      sent_.push_back(std::move(s));
    } else {
      questions_.emplace_back(bytes.begin(), bytes.end());
    }
  }
}

void World::AnswerNeighbors() {
  while (!questions_.empty()) {
    std::vector<std::byte> question = std::move(questions_.front());
    questions_.pop_front();
    if (!neighbors_answer_) continue;
    std::vector<std::byte> answer = NeighborAnswer(ends_, question);
    if (!answer.empty()) Inject(std::move(answer));
  }
}

Mapping& World::MapOf(uint16_t peer_port) {
  uint16_t port = peer_port != 0 ? peer_port : default_port;
  auto [at, fresh] = maps_.try_emplace(port);
  if (fresh) {
    at->second.peer_port = port;
    at->second.local_port = kLocalPort;
  }
  return at->second;
}

Mapping* World::FindMap(const SentSegment& s) {
  auto at = maps_.find(s.peer_port);
  return at == maps_.end() ? nullptr : &at->second;
}

void World::NoteConnect(uint16_t peer_port) {
  default_port = peer_port;
  Mapping& m = MapOf(peer_port);
  m.relearn = true;
  m.local_port = 0;
}

uint64_t World::CounterSum(const std::string& name, bool* known) {
  for (size_t i = 0; i < static_cast<size_t>(Counter::kCount); ++i)
    if (std::string(kCounterTable[i].group) + kCounterTable[i].name == name) {
      *known = true;
      return shard_.counters.values[i];
    }
  *known = false;
  return 0;
}

}  // namespace ustcp::packet
