// `ustcp settings`: what can be configured, from io/settings/settings.def.
#include <fmt/format.h>

#include <memory>

#include "tools/commands.h"

namespace ustcp::tool {

namespace {

const char* TypeText(SettingType type) {
  switch (type) {
    case SettingType::kName: return "name";
    case SettingType::kPrefixes: return "address/length, ...";
    case SettingType::kAddresses: return "address, ...";
    case SettingType::kMac: return "MAC address";
    case SettingType::kNumber: return "number";
    case SettingType::kBytes: return "bytes";
    case SettingType::kChoice: return "choice";
    case SettingType::kPath: return "path";
    case SettingType::kUsers: return "user id, ...";
  }
  return "";
}

std::string RangeText(const SettingInfo& info) {
  std::string text = *info.range != '\0' ? info.range : TypeText(info.type);
  for (size_t at = 0; (at = text.find('|', at)) != std::string::npos; at += 2) text.replace(at, 1, ", ");
  return text;
}

void PrintMarkdown() {
  fmt::print(
      "# Settings\n\n"
      "Made from `io/settings/settings.def` by `ustcp settings --markdown`; a test compares the two.\n\n"
      "The environment wins over the file, the file over the default. The file is `/etc/ustcp/HOST.conf`, or the one "
      "that\n"
      "`USTCP_CONFIG` names; it has lines `key = value`, `#` starts a comment, and `sysctl.net.ipv4.tcp_x = v` sets a "
      "sysctl\n"
      "under the rules of `/proc/sys`.\n\n"
      "The file has to belong to root or to the user of the program, and so have the directories it lies in; others "
      "must not "
      "be\n"
      "able to write to it, or to replace it there; the same holds for links to it. A keeper that was not named is "
      "taken "
      "only when\n"
      "root, the program's user or the owner of libustcp.so put it there.\nLogs and captures are files of the user's "
      "own, mode 0600, and "
      "never "
      "written\n"
      "through a link. A program with more rights than its user (set-user-id, file capabilities) ignores all variables "
      "and "
      "uses\n"
      "the kernel's TCP.\n\n"
      "| Key | Variable | Value | Default | Meaning |\n|---|---|---|---|---|\n");
  for (const SettingInfo& info : kSettingTable)
    fmt::print("| `{}` | `{}` | {} | {} | {} |\n", info.key, info.env, RangeText(info),
               *info.fallback != '\0' ? fmt::format("`{}`", info.fallback) : "", info.doc);
}

void PrintList() {
  for (const SettingInfo& info : kSettingTable) {
    fmt::print("{:<20} {:<26} {}\n", info.key, info.env, *info.fallback != '\0' ? info.fallback : "-");
    fmt::print("    {} [{}]\n", info.doc, RangeText(info));
  }
}

}  // namespace

void AddSettings(CLI::App& app) {
  auto markdown = std::make_shared<bool>(false);
  CLI::App* settings = app.add_subcommand("settings", "list what can be configured");
  settings->add_flag("--markdown", *markdown, "as the table of docs/settings.md");
  settings->callback([markdown] { *markdown ? PrintMarkdown() : PrintList(); });
}

}  // namespace ustcp::tool
