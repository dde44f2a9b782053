// Names that one keeper of a network namespace can have at a time: of its interface and its addresses. Abstract sockets,
// which belong to the network namespace, as interfaces do, and go with their owner.
//
// Anybody can take such a name. So its holder is believed only when it is root, this keeper's user or the interface's
// owner; others are passed by: the keeper goes on, under the same name with a random ending, and says so. Whoever takes a
// name looks for all that begin like it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "io/device/tap.h"
#include "io/settings/settings.h"

namespace ustcp::keeper {

class Names {
 public:
  // `owner`: of the interface.
  explicit Names(uint32_t owner) : owner_(owner) {}

  // One host per interface: the kernel spreads frames over all queues of a TAP, whoever holds them. ENETDOWN when another
  // has it.
  IoError TakeInterface(const char* interface);
  // One host per address, whatever their interfaces. EINVAL when another has one of them.
  IoError TakeAddresses(const Settings& settings);

  // They hold the names for as long as they are open, and are readable when others have asked whose they are.
  const std::vector<int>& descriptors() const { return descriptors_; }
  // Of names that were taken by others than keepers; empty when there are none.
  const std::string& warning() const { return warning_; }

 private:
  enum class Taken { kYes, kByAnother, kNoDescriptor };
  Taken Take(const char* kind, const char* name, std::string* holder);
  bool HeldByKeeper(const std::string& name, std::string* holder);

  uint32_t owner_;
  std::vector<int> descriptors_;
  std::string warning_;
};

// One of the descriptors is readable. Makes room for more questions.
void AnswerNameQuestion(int fd);

}  // namespace ustcp::keeper
