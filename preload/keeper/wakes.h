// Waking sleepers of other processes: by futex, or by a copy of the eventfd they sleep on.
#pragma once

#include <cstdint>
#include <map>
#include <utility>

#include "stack/host/host.h"

namespace ustcp::keeper {

class Wakes {
 public:
  ~Wakes();
  // Takes `fd` over. Closes it when there are too many.
  void Add(uint16_t process, int32_t number, int fd);
  void Forget(uint16_t process);
  void Wake(Waiter& waiter);
  // A member signalled a sleeper of another process that sleeps on a descriptor and cannot write to it: looks for sleepers
  // whose word changed since the last look. One write too many at worst for each signal.
  void WakeSignalled(Host& host);

 private:
  std::map<std::pair<uint16_t, int32_t>, int> descriptors_;
  std::map<Waiter*, uint32_t> words_;
};

}  // namespace ustcp::keeper
