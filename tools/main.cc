#include <fmt/format.h>

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
    return app.exit(error);
  } catch (const CommandError& error) {
    if (*error.what() != '\0') fmt::print(stderr, "ustcp: {}\n", Printable(error.what()));
    return error.status;
  }
  return 0;
}
