// `ustcp run PROGRAM ARGUMENTS`: the program with the preloaded object in front.
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "tools/commands.h"

namespace ustcp::tool {

namespace {

struct RunOptions {
  std::string host;
};

// Beside this program in the build tree and in a prefix, then where it is installed.
std::string FindObject() {
  char self[4096];
  ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
  std::string directory = n > 0 ? std::string(self, static_cast<size_t>(n)) : std::string();
  directory.resize(directory.rfind('/') == std::string::npos ? 0 : directory.rfind('/'));
  for (const std::string& candidate :
       {directory + "/../preload/libustcp.so", directory + "/libustcp.so", directory + "/../lib/libustcp.so",
        directory + "/../lib/x86_64-linux-gnu/libustcp.so", std::string(USTCP_LIB_DIR "/libustcp.so")}) {
    if (access(candidate.c_str(), R_OK) != 0) continue;
    std::unique_ptr<char, decltype(&std::free)> real(realpath(candidate.c_str(), nullptr), &std::free);
    if (real != nullptr) return real.get();
  }
  throw CommandError("libustcp.so is not found beside this program nor in " USTCP_LIB_DIR "; install it");
}

void Run(const RunOptions& options, std::vector<std::string> words) {
  if (!words.empty() && words[0] == "--") words.erase(words.begin());
  if (words.empty()) throw CommandError("run needs a program; write ustcp run PROGRAM ARGUMENTS", 2);
  std::string object = FindObject();
  // Names are separated by blanks and colons in LD_PRELOAD and cannot be quoted.
  if (object.find_first_of(" :") != std::string::npos)
    throw CommandError("the path of libustcp.so has a blank or a colon: " + object + "; install it elsewhere");
  if (const char* others = std::getenv("LD_PRELOAD"); others != nullptr && *others != '\0') object += std::string(":") + others;
  setenv("LD_PRELOAD", object.c_str(), 1);
  if (!options.host.empty()) setenv("USTCP_HOST", options.host.c_str(), 1);
  ToolSettings();   // a mistake is told here, before the program starts
  std::vector<char*> arguments;
  for (std::string& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  execvp(arguments[0], arguments.data());
  throw CommandError(fmt::format("cannot run {}: {}", words[0], std::strerror(errno)), errno == ENOENT ? 127 : 126);
}

}  // namespace

void AddRun(CLI::App& app) {
  auto options = std::make_shared<RunOptions>();
  CLI::App* run = app.add_subcommand("run", "run a program on a host");
  run->add_option("--host", options->host, "the host's name (USTCP_HOST)");
  run->prefix_command();
  run->callback([run, options] { Run(*options, run->remaining()); });
}

}  // namespace ustcp::tool
