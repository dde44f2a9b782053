// The subcommands of `ustcp`. Each Add* declares its options and sets the callback that runs it; a callback throws
// CommandError for what the user is told in one line.
#pragma once

#include <CLI/CLI.hpp>
#include <stdexcept>
#include <string>

#include "io/member/member.h"
#include "io/settings/settings.h"

namespace ustcp::tool {

// Without a line, what is wrong has been told.
class CommandError : public std::runtime_error {
 public:
  explicit CommandError(const std::string& line, int exit_status = 1) : std::runtime_error(line), status(exit_status) {}
  int status;
};

void AddRun(CLI::App& app);
// The path of libustcp.so. Throws when there is none.
std::string FindObject();
// Before the arguments are parsed: the program that `run` is to start, and all that follows it, is not ours to interpret.
// Remembers it; returns how many arguments are left.
int CutProgram(int argc, char** argv);
void AddNet(CLI::App& app);
void AddSs(CLI::App& app);
void AddNstat(CLI::App& app);
void AddSysctl(CLI::App& app);
void AddSettings(CLI::App& app);
void AddHosts(CLI::App& app);

// Settings of the environment and file. Throws.
Settings ToolSettings();

std::string AddressText(const IpAddress& address);

}  // namespace ustcp::tool
