// ustcp-keeper: opens TAP queues for a host's programs, holds its arena, drives what nobody else drives.
#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cinttypes>
#include <cstdio>
#include <cstring>

#include "io/base/parse.h"
#include "io/base/trusted_file.h"
#include "io/base/version.h"
#include "io/device/net_admin.h"
#include "io/member/keeper_channel.h"
#include "io/member/keeper_start.h"
#include "io/settings/settings.h"
#include "preload/keeper/abandoned.h"
#include "preload/keeper/broker.h"
#include "preload/keeper/confine.h"
#include "preload/keeper/driver.h"
#include "preload/keeper/log.h"
#include "preload/keeper/names.h"
#include "preload/keeper/setup.h"
#include "stack/create.h"
#include "stack/host/host.h"

namespace ustcp::keeper {
namespace {

struct Arguments {
  bool ready = false;
  bool adopt = false;
  bool tap = false;
  bool foreground = false;
  bool stay = false;
  bool help = false;
  bool version = false;
};

constexpr char kUsage[] =
    "usage: ustcp-keeper [--foreground | --version]\n"
    "Keeps the virtual host that the environment (USTCP_HOST, ...) and its configuration name; see ustcp(1).\n"
    "With --foreground it reports on standard error and stays until it is told to end.\n"
    "Run by root, it serves the user to whom the interface belongs.\n"
    "Programs start it on demand with --ready, --adopt and --tap, which name descriptors 3, 4 and 5.\n";

bool Parse(int argc, char** argv, Arguments* out) {
  for (int i = 1; i < argc; ++i) {
    if (std::strcmp(argv[i], "--ready") == 0)
      out->ready = true;
    else if (std::strcmp(argv[i], "--adopt") == 0)
      out->adopt = true;
    else if (std::strcmp(argv[i], "--tap") == 0)
      out->tap = true;
    else if (std::strcmp(argv[i], "--foreground") == 0)
      out->foreground = out->stay = true;
    else if (std::strcmp(argv[i], "--stay") == 0)
      out->stay = true;
    else if (std::strcmp(argv[i], "--help") == 0)
      out->help = true;
    else if (std::strcmp(argv[i], "--version") == 0)
      out->version = true;
    else
      return false;
  }
  return true;
}

void MakeCloseOnExec(int fd) { fcntl(fd, F_SETFD, FD_CLOEXEC); }

// Everything that can be refused before the first process is made.
IoError Prepare(const Arguments& arguments, BrokerOptions* out) {
  if (StartedWithMoreRights()) {
    IoError error;
    error.code = EACCES;
    TextBuilder(error.message)
        << "the keeper is no program to be set-user-id; remove its set-id bits and file capabilities";
    return error;
  }
  if (IoError error = LoadSettings(environ, &out->settings)) return error;
  const Settings& settings = out->settings;
  char directory[kMaxSettingPath];
  RuntimeDirectory(settings, environ, directory);
  if (IoError error = CheckRuntimeDirectory(directory, true)) return error;
  // A service that root runs on another user's interface is that user's, who looks for it there.
  if (uint32_t owner = HostOwner(settings.host.interface);
      arguments.stay && owner != geteuid() && settings.runtime_dir[0] == '\0') {
    UserDirectory(owner, directory);
    if (IoError error = CheckRuntimeDirectory(directory, true)) return error;
  }
  // A keeper that takes a running host over does without a log rather than leave the host alone.
  if (IoError error = OpenLog(settings.keeper_log, arguments.foreground); error && !arguments.adopt) return error;

  char socket_path[kMaxSettingPath];
  char lock_path[kMaxSettingPath];
  char arena_path[kMaxSettingPath];
  if (!KeeperPath(directory, settings.host.name, ".sock", socket_path) ||
      !KeeperPath(directory, settings.host.name, ".lock", lock_path) ||
      !KeeperPath(directory, settings.host.name, ".arena", arena_path)) {
    IoError error;
    error.code = EINVAL;
    TextBuilder(error.message) << "path of the keeper's socket is too long: " << directory
                               << "; set USTCP_RUNTIME_DIR to a shorter one";
    return error;
  }
  out->socket_path = socket_path;
  out->arena_record_path = arena_path;
  if (IoError error = TakeHostLock(lock_path, &out->host_lock_fd)) return error;

  IoError tap_error;
  if (arguments.tap || settings.tap_fd >= 0) {
    tap_error = AdoptTapQueue(arguments.tap ? kKeeperTapFd : settings.tap_fd, &out->spare);
    out->tap_handed_in = !tap_error;
    if (!tap_error) std::memcpy(out->settings.host.interface, out->spare.name, sizeof(out->spare.name));
  }
  out->owner = HostOwner(settings.host.interface);
  out->driver_user = DriverUser(settings);
  out->adopt_fd = arguments.adopt ? kKeeperArenaFd : FindAbandonedArena(arena_path, out->driver_user.uid);
  if (tap_error && out->adopt_fd < 0) {
    // Otherwise the program may have closed it long ago: members have the queue and offer it.
    tap_error.code = EINVAL;
    return tap_error;
  }

  Names names(out->owner);
  IoError error = names.TakeInterface(settings.host.interface);
  if (!error && !out->tap_handed_in) error = CheckAddresses(settings);
  if (!error && !out->tap_handed_in) error = names.TakeAddresses(settings);
  if (error) return error;
  out->name_fds = names.descriptors();
  out->warnings = names.warning();
  TapOwner tap;
  if (ReadTapOwner(out->settings.host.interface, &tap) && tap.anybody() && out->warnings.empty())
    out->warnings = std::string("anybody may use the interface ") + out->settings.host.interface +
                    "; make it anew with `ustcp net down` and `ustcp net up`";
  if (out->tap_handed_in) return {};
  // With an arena to go on with, members hold the queues and offer them.
  if (out->adopt_fd >= 0) return {};
  TapOpenOptions options;
  options.name = settings.host.interface;
  error = OpenTapQueue(options, &out->spare);
  if (error) {
    error.code = error.code == EPERM || error.code == EACCES ? EACCES : ENETDOWN;
    return error;
  }
  if (!out->spare.up) {
    error.code = ENETDOWN;
    TextBuilder(error.message) << "interface " << options.name << " is down; run `ustcp net up --interface "
                               << options.name << "`";
  }
  return error;
}

int Main(int argc, char** argv) {
  Arguments arguments;
  if (!Parse(argc, argv, &arguments)) {
    std::fputs(kUsage, stderr);
    return 2;
  }
  if (arguments.help) {
    std::fputs(kUsage, stdout);
    return 0;
  }
  if (arguments.version) {
    std::printf("%s, layout %016" PRIx64 "\n", kVersionText, LayoutHash());
    return 0;
  }
  prctl(PR_SET_NAME, "ustcp-keeper");  // started by descriptor, it has that number for a name
  RaiseLimits();
  InstallStopSignals();
  umask(022);
  if (arguments.ready) MakeCloseOnExec(kKeeperReadyFd);
  if (arguments.adopt) MakeCloseOnExec(kKeeperArenaFd);
  if (arguments.tap) MakeCloseOnExec(kKeeperTapFd);

  BrokerOptions options;
  if (arguments.ready) options.ready_fd = kKeeperReadyFd;
  options.stay = arguments.stay;
  options.of_net_up = arguments.stay && !arguments.foreground;
  IoError error = Prepare(arguments, &options);
  if (error) {
    Log("not started: %s", error.message);
    if (!arguments.ready) {
      std::fprintf(stderr, "ustcp-keeper: %s\n", error.message);
      return 1;
    }
    KeeperReply reply;
    reply.error = error.code;
    std::memcpy(reply.message, error.message, sizeof(reply.message));
    if (write(kKeeperReadyFd, &reply, sizeof(reply)) < 0) return 2;
    return 1;
  }
  if (chdir("/") != 0) Log("cannot change to /");
  return Broker(options).Run();
}

}  // namespace
}  // namespace ustcp::keeper

int main(int argc, char** argv) { return ustcp::keeper::Main(argc, argv); }
