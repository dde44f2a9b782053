// ARP input (RFC 826), with Linux's choices: answers for every IPv4 address of the host, learns from requests addressed
// to it, and otherwise only updates what it knows.
#pragma once

#include "stack/base/address.h"
#include "stack/base/bytes.h"
#include "stack/base/drop_reason.h"

namespace ustcp {

struct Context;

// `packet`: the Ethernet payload; `to_us`: the frame was sent to our own MAC address.
DropReason ArpInput(Context& ctx, ConstBytes packet, bool to_us) noexcept;

// Tells the link where our IPv4 addresses are (RFC 5227 2.3).
void AnnounceIpv4(Context& ctx) noexcept;

}  // namespace ustcp
