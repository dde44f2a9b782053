// `ustcp run PROGRAM ARGUMENTS`: the program with the preloaded object in front.
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "tools/commands.h"
#include "tools/program_check.h"

namespace ustcp::tool {

namespace {

struct RunOptions {
  std::string host;
};

std::vector<char*> g_program;  // what CutProgram took, with a null at the end

void Run(const RunOptions& options) {
  if (g_program.empty()) throw CommandError("run needs a program; write ustcp run PROGRAM ARGUMENTS", 2);
  std::string object = FindObject();
  // Names are separated by blanks and colons in LD_PRELOAD and cannot be quoted.
  if (object.find_first_of(" :") != std::string::npos)
    throw CommandError("the path of libustcp.so has a blank or a colon: " + object + "; install it elsewhere");
  if (const char* others = std::getenv("LD_PRELOAD"); others != nullptr && *others != '\0')
    object += std::string(":") + others;
  setenv("LD_PRELOAD", object.c_str(), 1);
  if (!options.host.empty()) setenv("USTCP_HOST", options.host.c_str(), 1);
  if (std::string why = WhyNotPreloaded(g_program[0]); !why.empty()) throw CommandError(why, 126);
  ToolSettings();  // a mistake is told here, before the program starts
  execvp(g_program[0], g_program.data());
  throw CommandError(fmt::format("cannot run {}: {}", g_program[0], std::strerror(errno)), errno == ENOENT ? 127 : 126);
}

// Of root, of the user, or of whoever made this program, who is believed already: some of the names below may lie where
// others make files.
bool Believed(const char* object) {
  struct stat own {};
  struct stat status {};
  return stat(object, &status) == 0 && stat("/proc/self/exe", &own) == 0 && (status.st_mode & S_IWOTH) == 0 &&
         (status.st_uid == 0 || status.st_uid == geteuid() || status.st_uid == own.st_uid);
}

}  // namespace

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
    if (real != nullptr && Believed(real.get())) return real.get();
  }
  throw CommandError("libustcp.so is not found beside this program nor in " USTCP_LIB_DIR "; install it");
}

int CutProgram(int argc, char** argv) {
  if (argc < 2 || std::strcmp(argv[1], "run") != 0) return argc;
  int end = 2;  // of our own words
  while (end < argc && argv[end][0] == '-' && std::strcmp(argv[end], "--") != 0)
    end += std::strcmp(argv[end], "--host") == 0 ? 2 : 1;
  if (end >= argc) return argc;
  int first = std::strcmp(argv[end], "--") == 0 ? end + 1 : end;
  if (first < argc) g_program.assign(argv + first, argv + argc + 1);
  return end;
}

void AddRun(CLI::App& app) {
  auto options = std::make_shared<RunOptions>();
  CLI::App* run = app.add_subcommand("run", "run a program on a host");
  run->add_option("--host", options->host, "the host's name (USTCP_HOST)");
  run->footer("ustcp run [OPTIONS] [--] PROGRAM [ARGUMENT...]");
  run->callback([options] { Run(*options); });
}

}  // namespace ustcp::tool
