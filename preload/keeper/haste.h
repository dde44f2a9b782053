// Closing a file may wait for as long as whoever made it likes: a socket that lingers (SO_LINGER) for its peer to read. The
// kernel closes by itself too, within our calls: what came with a message and was not taken, what lies unread in a
// connection that is closed. While there is haste, such a wait ends within a millisecond, and those after it in the same
// call at once. For the keeper's first thread, and for as few calls as can be: those that may wait for good reasons do not.
#pragma once

namespace ustcp::keeper {

class Haste {
 public:
  explicit Haste(bool wanted);
  ~Haste();
  Haste(const Haste&) = delete;
  Haste& operator=(const Haste&) = delete;

 private:
  bool wanted_;
};

// Closes what strangers may have sent files to.
void CloseHastily(int fd);

}  // namespace ustcp::keeper
