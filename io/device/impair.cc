#include "io/device/impair.h"

#include <cstring>

#include "io/base/sys.h"
#include "io/device/segment.h"

namespace ustcp {

// A copy under way. Slots are recycled; the data area follows the header.
struct Impairer::Slot {
  Slot* next;  // of the free or the lent list
  Instant due;
  uint64_t number;  // order of arrival, decides between equal instants
  VirtioNetHeader vnet;
  uint32_t bytes;

  std::byte* data() { return reinterpret_cast<std::byte*>(this + 1); }
};

namespace {

constexpr uint32_t kMillion = 1'000'000;
constexpr size_t kDataBytes = 65536 + 128;  // kMaxFrameBytes, rounded up with room for a transmit frame's headers
constexpr size_t kEthernet = 14;
constexpr int64_t kNanosPerSecond = 1'000'000'000;

int64_t WireNanos(size_t bytes, uint64_t rate) {
  return static_cast<int64_t>(static_cast<unsigned __int128>(bytes) * 8 * kNanosPerSecond / rate);
}

}  // namespace

bool Impairer::Open(const Impairment& impairment, uint64_t seed, uint32_t store_frames) noexcept {
  Close();
  size_t slot_bytes = sizeof(Slot) + kDataBytes;
  size_t bytes = store_frames * (sizeof(Slot*) + slot_bytes);
  // Reserved, not used: pages become real as frames pile up, and the list of free slots is a stack.
  void* p = sys::Map(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (sys::MapFailed(p)) return false;
  memory_ = static_cast<std::byte*>(p);
  memory_bytes_ = bytes;
  heap_ = reinterpret_cast<Slot**>(memory_);
  slots_ = memory_ + store_frames * sizeof(Slot*);
  capacity_ = store_frames;
  made_ = heap_size_ = 0;
  free_ = lent_ = nullptr;
  impairment_ = impairment;
  random_state_ = seed;
  next_number_ = 0;
  last_due_ = link_free_ = Instant{};
  stats_ = {};
  return true;
}

void Impairer::Close() noexcept {
  if (memory_ != nullptr) sys::Unmap(memory_, memory_bytes_);
  memory_ = nullptr;
  heap_size_ = capacity_ = 0;
  free_ = lent_ = nullptr;
}

// SplitMix64: small, and the same everywhere.
uint64_t Impairer::Random() noexcept {
  uint64_t z = (random_state_ += 0x9e3779b97f4a7c15);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return z ^ (z >> 31);
}

// Always draws, so that changing one probability leaves what the others decide as it was.
bool Impairer::Strikes(uint32_t ppm) noexcept { return Random() % kMillion < ppm; }

Instant Impairer::DueAt(size_t bytes, Instant now) noexcept {
  Instant sent = now;
  if (impairment_.rate_bits_per_second != 0) {
    // The bucket as a clock: the link owes the time of what it sent, less a burst that may pass at once.
    Duration burst{WireNanos(impairment_.burst_bytes, impairment_.rate_bits_per_second)};
    if (link_free_ < now) link_free_ = now;
    link_free_ += Duration{WireNanos(bytes, impairment_.rate_bits_per_second)};
    if (link_free_ - burst > now) sent = link_free_ - burst;
  }
  uint64_t draw = Random();
  Duration jitter = impairment_.jitter.count() > 0
                        ? Duration{static_cast<int64_t>(draw % static_cast<uint64_t>(impairment_.jitter.count() + 1))}
                        : Duration{0};
  Instant due = sent + impairment_.delay + jitter;
  if (Strikes(impairment_.reorder_ppm)) {
    ++stats_.reordered;
    return due + impairment_.reorder_delay;  // later frames may pass it
  }
  if (due < last_due_) due = last_due_;
  last_due_ = due;
  return due;
}

Impairer::Slot* Impairer::Store(const VirtioNetHeader& vnet, size_t bytes, Instant due) noexcept {
  Slot* slot = free_;
  if (slot != nullptr) {
    free_ = slot->next;
  } else if (made_ < capacity_) {
    slot = reinterpret_cast<Slot*>(slots_ + made_++ * (sizeof(Slot) + kDataBytes));
  } else {
    ++stats_.overflowed;
    return nullptr;
  }
  slot->next = nullptr;
  slot->due = due;
  slot->number = next_number_++;
  slot->vnet = vnet;
  slot->bytes = static_cast<uint32_t>(bytes);
  // Into the heap: the earliest on top.
  uint32_t i = heap_size_++;
  while (i > 0) {
    uint32_t parent = (i - 1) / 2;
    if (!Earlier(slot, heap_[parent])) break;
    heap_[i] = heap_[parent];
    i = parent;
  }
  heap_[i] = slot;
  return slot;
}

bool Impairer::Earlier(const Slot* a, const Slot* b) noexcept {
  return a->due != b->due ? a->due < b->due : a->number < b->number;
}

Impairer::Slot* Impairer::PopDue(Instant now) noexcept {
  if (heap_size_ == 0 || heap_[0]->due > now) return nullptr;
  Slot* top = heap_[0];
  Slot* last = heap_[--heap_size_];
  uint32_t i = 0;
  for (;;) {
    uint32_t child = 2 * i + 1;
    if (child >= heap_size_) break;
    if (child + 1 < heap_size_ && Earlier(heap_[child + 1], heap_[child])) ++child;
    if (!Earlier(heap_[child], last)) break;
    heap_[i] = heap_[child];
    i = child;
  }
  if (heap_size_ > 0) heap_[i] = last;
  return top;
}

void Impairer::Recycle() noexcept {
  while (Slot* slot = lent_) {
    lent_ = slot->next;
    slot->next = free_;
    free_ = slot;
  }
}

template <typename Fill>
void Impairer::OfferBytes(const VirtioNetHeader& vnet, size_t bytes, Instant now, Fill&& fill) noexcept {
  Recycle();
  ++stats_.frames;
  bool lost = Strikes(impairment_.loss_ppm);
  bool twice = Strikes(impairment_.duplicate_ppm);
  bool damaged = Strikes(impairment_.corrupt_ppm);
  uint64_t where = Random();
  if (lost || bytes > kDataBytes) {
    ++stats_.lost;
    return;
  }
  stats_.duplicated += twice;
  for (int copy = 0; copy < (twice ? 2 : 1); ++copy) {
    Slot* slot = Store(vnet, bytes, DueAt(bytes, now));
    if (slot == nullptr) return;
    fill(Bytes(slot->data(), bytes));
    if (copy > 0 || !damaged || bytes <= kEthernet) continue;
    // A partial checksum would be completed over the damaged bytes and hide the damage: complete it first.
    if (CompleteChecksum(slot->vnet, {slot->data(), bytes}))
      slot->vnet.flags &= static_cast<uint8_t>(~(VirtioNetHeader::kNeedsChecksum | VirtioNetHeader::kDataValid));
    size_t bit = where % ((bytes - kEthernet) * 8);
    slot->data()[kEthernet + bit / 8] ^= std::byte{static_cast<uint8_t>(1u << (bit % 8))};
    ++stats_.corrupted;
  }
}

void Impairer::Offer(const RxFrame& frame, Instant now) noexcept {
  OfferBytes(frame.vnet, frame.bytes.size(), now,
             [&](Bytes to) { std::memcpy(to.data(), frame.bytes.data(), to.size()); });
}

void Impairer::Offer(const TxFrame& frame, Instant now) noexcept {
  OfferBytes(frame.vnet, frame.header_bytes + frame.payload_bytes, now, [&](Bytes to) { FlattenFrame(frame, to); });
}

Instant Impairer::NextDeadline() const noexcept { return heap_size_ > 0 ? heap_[0]->due : kNever; }

uint32_t Impairer::Release(Instant now, FrameSink sink, uint32_t max_frames) noexcept {
  Recycle();
  uint32_t count = 0;
  while (count < max_frames) {
    Slot* slot = PopDue(now);
    if (slot == nullptr) break;
    ++count;
    RxFrame frame{slot->vnet, {slot->data(), slot->bytes}, nullptr};
    sink(frame);
    slot->next = free_;
    free_ = slot;
  }
  return count;
}

void Impairer::ReleaseInto(Instant now, TxBatch& batch) noexcept {
  Recycle();
  while (!batch.full()) {
    Slot* slot = PopDue(now);
    if (slot == nullptr) break;
    slot->next = lent_;
    lent_ = slot;
    TxFrame& frame = batch.frames[batch.count++];
    frame.vnet = slot->vnet;
    size_t headers = slot->bytes < kEthernet ? slot->bytes : kEthernet;
    std::memcpy(frame.headers.data(), slot->data(), headers);
    frame.header_bytes = static_cast<uint16_t>(headers);
    frame.piece_count = slot->bytes > headers ? 1 : 0;
    frame.payload_bytes = slot->bytes - static_cast<uint32_t>(headers);
    frame.pieces[0] = {slot->data() + headers, frame.payload_bytes};
    frame.owned = nullptr;
  }
}

}  // namespace ustcp
