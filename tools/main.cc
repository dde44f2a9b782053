#include <fmt/format.h>

#include <string>
#include <vector>

#include "io/base/version.h"
#include "stack/create.h"
#include "stack/host/host.h"
#include "tools/commands.h"
#include "tools/confined.h"

namespace ustcp::tool {

Settings ToolSettings() {
  Settings settings;
  if (IoError error = LoadSettings(environ, &settings)) throw CommandError(error.message);
  return settings;
}

std::string AddressText(const IpAddress& address) {
  char text[64];
  FormatAddress(address, text);
  return text;
}

}  // namespace ustcp::tool

namespace {

// One line, and the status that ss and the shell have for it; CLI11 has numbers of its own.
int Misuse(const CLI::App& app, const CLI::ParseError& error) {
  const CLI::App* at = &app;
  std::string command = "ustcp";
  while (!at->get_subcommands().empty()) {
    at = at->get_subcommands().front();
    command += ' ' + at->get_name();
  }
  std::vector<std::string> unknown = at->remaining();
  std::string what = unknown.empty() ? error.what() : fmt::format("'{}' is not known here", unknown.front());
  fmt::print(stderr, "ustcp: {}; see `{} --help`\n", ustcp::tool::Printable(what), command);
  return 2;
}

}  // namespace

int main(int argc, char** argv) {
  using namespace ustcp::tool;
  CLI::App app{"A TCP/IP stack of its own for unmodified programs: `ustcp net up`, then `ustcp run PROGRAM`."};
  app.require_subcommand(1);
  app.name("ustcp");
  app.set_version_flag("--version",
                       [] { return fmt::format("{}, layout {:016x}", ustcp::kVersionText, ustcp::LayoutHash()); });
  AddRun(app);
  AddNet(app);
  AddSs(app);
  AddNstat(app);
  AddSysctl(app);
  AddSettings(app);
  AddHosts(app);
  try {
    app.parse(CutProgram(argc, argv), argv);
  } catch (const CLI::ParseError& error) {
    return error.get_exit_code() == 0 ? app.exit(error) : Misuse(app, error);
  } catch (const CommandError& error) {
    if (*error.what() != '\0') fmt::print(stderr, "ustcp: {}\n", Printable(error.what()));
    return error.status;
  }
  return 0;
}
