// The bytes a connection has taken from the program and that the peer has not acknowledged: a chain of Bufs, each with the
// sequence number of its first byte, contiguous from snd_una to write_end.
#pragma once

#include <cstddef>

#include "stack/base/frame.h"
#include "stack/tcp/tcb.h"

namespace ustcp {

struct Context;
struct SendSource;
class UserVector;

// Bytes queued, acknowledged or not sent yet.
inline uint32_t QueuedBytes(const Connection& conn) { return conn.snd.write_end.raw() - conn.snd.snd_una.raw(); }
// Behind everything that will be sent: the FIN counts.
inline Seq SendEnd(const Connection& conn) { return conn.snd.fin_queued ? conn.snd.write_end + 1 : conn.snd.write_end; }

// Room in bytes below the connection's limit.
size_t SendQueueRoom(const Connection& conn) noexcept;

// Copies at most `limit` bytes. Returns the number taken; less than asked when memory is out, or at a fault.
size_t AppendToSendQueue(Context& ctx, Connection& conn, UserVector& from, size_t limit) noexcept;
// The same with bytes that the source writes to where they stay; also less when the source ended.
size_t AppendToSendQueue(Context& ctx, Connection& conn, SendSource& source, size_t limit) noexcept;

// Points frame.pieces at [seq, seq + length) and sets piece_count and payload_bytes. Returns the number of bytes gathered:
// less than `length` when the pieces of a frame do not suffice.
uint32_t GatherFromSendQueue(Connection& conn, Seq seq, uint32_t length, TxFrame& frame) noexcept;

// Frees what lies before snd_una.
void TrimSendQueue(Context& ctx, Connection& conn) noexcept;

// Frees everything, also the records of what was sent.
void ReleaseSendQueue(Context& ctx, Connection& conn) noexcept;

}  // namespace ustcp
