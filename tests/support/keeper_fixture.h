// A network namespace, a TAP and a runtime directory of the test's own, and members as child processes: attaching maps the
// arena at one fixed address, so every member needs a process.
#pragma once

#include <gtest/gtest.h>
#include <sys/types.h>

#include <functional>
#include <string>
#include <vector>

#include "io/member/member.h"
#include "io/settings/settings.h"

namespace ustcp::keeper_test {

// What a member did, as its parent reads it. Plain data.
struct Report {
  int code = 0;  // errno number of the error, 0: none
  char message[224] = {};
  int32_t keeper_pid = 0;  // the driver's
  uint16_t process = 0;
  bool resumed = false;
  int64_t micros = 0;
  int64_t value = 0;  // the test's own
};

class KeeperTest : public ::testing::Test {
 protected:
  void SetUp() override;
  void TearDown() override;

  // NAME=value pairs for members and keeper, beside those of the fixture.
  void SetVariable(const std::string& variable) { variables_.push_back(variable); }
  std::vector<const char*> Environment() const;
  std::string directory() const { return directory_; }
  // Makes the TAP, up, with the kernel's address.
  void MakeTap(const char* name = "ustcp0", bool up = true);

  // A child process. `act` runs in it; its report is sent when it returns, then the child waits for Release() or a signal
  // when `stays`, and ends otherwise.
  struct Child {
    pid_t pid = -1;
    int from = -1;
    int to = -1;
  };
  Child StartMember(std::function<Report()> act, bool stays);
  // Reads one report; code -1 when the child died instead.
  static Report Read(const Child& child);
  static void Release(Child& child);  // lets it end and waits for it
  static void Kill(Child& child);     // SIGKILL
  Report RunMember(std::function<Report()> act);

  // Loads the settings of Environment() and attaches. The member is the calling process's, for as long as it lives.
  Report AttachHere();
  static Member& ThisMember();
  static Settings& ThisSettings();

  // Polls until `done` holds, 5 seconds at most.
  static bool Eventually(const std::function<bool()>& done);
  std::string SocketPath() const { return directory_ + "/" + "default.sock"; }
  // The broker's pid, from the credentials of its socket; -1 when nobody listens.
  pid_t BrokerPid() const;

 private:
  std::string directory_;
  std::vector<std::string> variables_;
};

}  // namespace ustcp::keeper_test
