// The queues: of each shard, or the one that an interface has.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "io/base/report.h"
#include "io/member/keeper_channel.h"
#include "preload/keeper/broker.h"

namespace ustcp::keeper {

namespace {

// The errno number that a socket call shall show for a failure of the device.
int CallError(int code) { return code == EPERM || code == EACCES ? EACCES : code == EINVAL ? EINVAL : ENETDOWN; }

}  // namespace

IoError Broker::OpenQueue(TapQueue* out) {
  if (options_.spare.fd >= 0) {
    *out = options_.spare;
    options_.spare.fd = -1;
    return {};
  }
  TapOpenOptions options;
  options.name = options_.settings.host.interface;
  IoError error = OpenTapQueue(options, out);
  if (error) error.code = CallError(error.code);
  return error;
}

// The interface's only queue is everybody's to write to; who reads it is in the arena (Host::queue_reader).
IoError Broker::GiveOnlyQueue(uint16_t shard, bool reopen) {
  if (reopen && !options_.tap_handed_in) {
    TapQueue fresh;
    if (IoError error = OpenQueue(&fresh)) return error;
    close(only_.fd);
    only_ = fresh;
  }
  TellQueue(shard, reopen);
  return {};
}

IoError Broker::GiveQueue(uint16_t shard, bool reopen, const TapQueue** out, QueueShare* share) {
  TapQueue& queue = queues_[shard];
  *out = &queue;
  *share = QueueShare::kOwn;
  if (only_.fd < 0) {
    if (reopen) CloseQueue(shard);
    if (queue.fd < 0) {
      TapQueue fresh;
      if (IoError error = OpenQueue(&fresh)) {
        // No further one to be had: what comes in reaches the shard through the others, what goes out leaves by one of theirs.
        auto other = std::find_if(queues_.begin(), queues_.end(), [](const TapQueue& q) { return q.fd >= 0; });
        if (other == queues_.end()) return error;
        *out = &*other;
        *share = QueueShare::kBorrowed;
        return {};
      }
      (fresh.multi_queue ? queue : only_) = fresh;
    }
    if (only_.fd < 0) {
      TellQueue(shard, reopen);
      return {};
    }
    reopen = false;
  }
  *out = &only_;
  *share = QueueShare::kOnly;
  return GiveOnlyQueue(shard, reopen);
}

IoError Broker::AdoptOffer(uint16_t shard, int fd, int32_t number) {
  const auto share = static_cast<QueueShare>(number);
  if (number != static_cast<int32_t>(QueueShare::kOwn) && number != static_cast<int32_t>(QueueShare::kOnly))
    return MakeError(EINVAL, "a queue was offered that is nobody's to offer; restart the program");
  int copy = fcntl(fd, F_DUPFD_CLOEXEC, 3);
  if (copy < 0) return MakeError(ENETDOWN, "no descriptor left for a TAP queue; raise RLIMIT_NOFILE");
  TapQueue queue;
  IoError error = AdoptTapQueue(copy, &queue);
  // Where a TAP was handed in, its name need not be the settings'.
  bool named = !options_.tap_handed_in && options_.settings.tap_fd < 0;
  if (!error && named && std::strcmp(queue.name, options_.settings.host.interface) != 0)
    error =
        MakeError(EINVAL, "a queue of %s was offered; the host is on %s", queue.name, options_.settings.host.interface);
  if (error) {
    close(copy);
    return error;
  }
  // What the member has is what it reads. One that we opened for the shard meanwhile would be read by nobody.
  TapQueue& known = share == QueueShare::kOnly ? only_ : queues_[shard];
  if (known.fd >= 0) close(known.fd);
  known = queue;
  TellQueue(shard);
  return {};
}

void Broker::CloseQueue(uint16_t shard) {
  if (queues_[shard].fd >= 0) close(queues_[shard].fd);
  queues_[shard] = {};
}

void Broker::TellQueue(uint16_t shard, bool announce) {
  InternalMessage message;
  message.kind = InternalKind::kQueue;
  message.shard = shard;
  message.number = ++told_[shard];
  message.only = only_.fd >= 0;
  message.announce = announce;
  const TapQueue& queue = message.only ? only_ : queues_[shard];
  message.queue = DescribeQueue(queue);
  TellDriver(message, queue.fd);
}

}  // namespace ustcp::keeper
