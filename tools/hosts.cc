// `ustcp hosts`: the hosts whose keepers this user can reach.
#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>

#include "io/member/keeper_channel.h"
#include "tools/commands.h"
#include "tools/confined.h"

#include <unistd.h>

namespace ustcp::tool {

namespace {

constexpr std::chrono::milliseconds kPatience{4000};

std::string StatusOf(const std::string& path) {
  int fd = ConnectKeeper(path.c_str());
  if (fd < 0) return fd == -EACCES ? "no right to ask" : "no keeper runs";
  KeeperRequest request;
  KeeperReply reply;
  int unused = -1;
  std::string text = "no answer";
  if (SendMessage(fd, &request, sizeof(request), -1) == 0 &&
      ReceiveMessage(fd, &reply, sizeof(reply), &unused, 2000) == sizeof(reply))
    text.assign(reply.message, strnlen(reply.message, sizeof(reply.message)));
  if (unused >= 0) close(unused);
  close(fd);
  return text;
}

// This user's, and those that root keeps for users: all of them for root, for others their own.
std::vector<std::filesystem::path> Directories(const Settings& settings) {
  char directory[kMaxSettingPath];
  RuntimeDirectory(settings, environ, directory);
  std::vector<std::filesystem::path> result{directory};
  if (settings.runtime_dir[0] != '\0') return result;
  if (geteuid() != 0) {
    UserDirectory(geteuid(), directory);
    result.emplace_back(directory);
    return result;
  }
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(directory, error))
    if (entry.is_directory(error)) result.push_back(entry.path());
  return result;
}

void Hosts() {
  std::vector<std::filesystem::path> sockets;
  std::error_code error;
  for (const auto& directory : Directories(ToolSettings()))
    for (const auto& entry : std::filesystem::directory_iterator(directory, error))
      if (entry.path().extension() == ".sock") sockets.push_back(entry.path());
  std::sort(sockets.begin(), sockets.end());
  for (const auto& socket : sockets) {
    std::string name = Printable(socket.stem().string());
    // The directory may be a stranger's, and who listens there may never answer: a process that need not end is asked.
    try {
      RunConfined(
          "no answer", kPatience, [&] { fmt::print("{:<20} {}\n", name, Printable(StatusOf(socket.string()))); },
          [] {});
    } catch (const CommandError&) {
      fmt::print("{:<20} no answer\n", name);
    }
  }
}

}  // namespace

void AddHosts(CLI::App& app) {
  app.add_subcommand("hosts", "list the hosts that run")->callback([] { Hosts(); });
}

}  // namespace ustcp::tool
