// Any bytes as a TCP segment with options. What was read keeps its limits, and written again is read the same.
#include <cstddef>
#include <cstdint>

#include "stack/base/check.h"
#include "stack/wire/tcp.h"
#include "stack/wire/tcp_options.h"
#include "tests/fuzz/wire_fuzz_util.h"

namespace ustcp {
namespace {

void CheckOptions(ConstBytes bytes, bool syn) {
  const TcpOptions o = ParseTcpOptions(bytes, syn);
  USTCP_CHECK(!o.mss || *o.mss != 0);
  USTCP_CHECK(!o.window_scale || *o.window_scale <= kMaxWindowScale);
  USTCP_CHECK(o.sack_count <= kMaxSackBlocks);
  USTCP_CHECK(syn || (!o.mss && !o.window_scale && !o.sack_permitted && !o.fast_open));
  USTCP_CHECK(!syn || o.sack_count == 0);
  if (const auto lone = ParseLoneTimestamps(bytes)) USTCP_CHECK(o.timestamps == lone);

  std::byte out[kMaxTcpOptionBytes];
  const size_t size = WriteTcpOptions(out, o);
  USTCP_CHECK(size <= sizeof out && size % 4 == 0);
  const TcpOptions again = ParseTcpOptions({out, size}, syn);
  USTCP_CHECK(again.mss == o.mss && again.window_scale == o.window_scale);
  USTCP_CHECK(again.sack_permitted == o.sack_permitted && again.timestamps == o.timestamps);
  USTCP_CHECK(again.sack_count <= o.sack_count);
  for (size_t i = 0; i < again.sack_count; ++i) USTCP_CHECK(again.sack[i] == o.sack[i]);
  if (again.fast_open) {
    USTCP_CHECK(o.fast_open && again.fast_open->length == o.fast_open->length);
    USTCP_CHECK(again.fast_open->cookie == o.fast_open->cookie);
  }
}

}  // namespace
}  // namespace ustcp

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace ustcp;
  const ConstBytes segment(reinterpret_cast<const std::byte*>(data), size);
  const auto tcp = TcpView::Parse(segment);
  if (!tcp) return 0;
  USTCP_CHECK(IsWithin(tcp->options(), segment) && IsWithin(tcp->payload(), segment));
  USTCP_CHECK(tcp->options().size() <= kMaxTcpOptionBytes);
  USTCP_CHECK(tcp->header_bytes() + tcp->payload().size() == size);
  Touch(tcp->payload());
  CheckOptions(tcp->options(), true);
  CheckOptions(tcp->options(), false);

  std::byte header[kTcpHeaderBytes];
  WriteTcp(header, {tcp->source_port(), tcp->destination_port(), tcp->seq(), tcp->ack(), tcp->flags(), tcp->window(),
                    tcp->urgent_pointer(), 0});
  const auto again = TcpView::Parse(header);
  USTCP_CHECK(again && again->seq() == tcp->seq() && again->ack() == tcp->ack() && again->flags() == tcp->flags());
  return 0;
}
