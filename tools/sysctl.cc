// `ustcp sysctl`: the host's settings under the kernel's names.
#include <fmt/format.h>

#include <cstring>
#include <memory>

#include "tools/commands.h"
#include "tools/confined.h"

namespace ustcp::tool {

namespace {

struct SysctlOptions {
  bool all = false;
  bool values_only = false;
  bool explain = false;
  bool write = false;
  std::vector<std::string> words;
};

std::string NameOf(const SysctlInfo& info) {
  std::string group = info.group;
  for (char& c : group)
    if (c == '_') c = '.';
  return group + "." + info.name;
}

void Print(const SysctlOptions& options, const SysctlInfo& info, const Sysctls& sysctls) {
  char value[64];
  FormatSysctl(info, sysctls, value);
  if (options.values_only) {
    fmt::print("{}\n", value);
  } else {
    fmt::print("{} = {}\n", NameOf(info), value);
  }
  if (options.explain) fmt::print("    {} ({}..{})\n", info.doc, info.min, info.max);
}

// "name" or "name=value". Returns what is wrong with it in one line, or nothing.
std::string Take(const std::string& word, const SysctlOptions& options, Sysctls& sysctls) {
  size_t equals = word.find('=');
  std::string name = word.substr(0, equals);
  name.erase(name.find_last_not_of(' ') + 1);
  const SysctlInfo* info = FindSysctl(name);
  if (info == nullptr) return "no sysctl " + name + "; `ustcp sysctl -a` lists them";
  if (equals != std::string::npos)
    if (IoError error = SetSysctl(*info, word.substr(equals + 1), "", &sysctls)) return error.message;
  Print(options, *info, sysctls);
  return {};
}

void LookAt(const SysctlOptions& options, Sysctls& sysctls) {
  if (options.all)
    for (const SysctlInfo& info : kSysctlTable) Print(options, info, sysctls);
  // As sysctl(8): one that is refused is told, and the others are taken all the same.
  bool refused = false;
  for (const std::string& word : options.words) {
    std::string error = Take(word, options, sysctls);
    if (error.empty()) continue;
    fmt::print(stderr, "ustcp: {}\n", error);
    refused = true;
  }
  if (refused) throw CommandError("");
}

void Sysctl(const SysctlOptions& options) {
  if (!options.all && options.words.empty()) throw CommandError("sysctl needs a name, name=value, or -a", 2);
  bool sets = false;
  for (const std::string& word : options.words) sets |= word.find('=') != std::string::npos;
  LookInto(ToolSettings(), sets ? Access::kWrite : Access::kRead,
           [&](View& view) { LookAt(options, view.host.sysctls); });
}

}  // namespace

void AddSysctl(CLI::App& app) {
  auto options = std::make_shared<SysctlOptions>();
  CLI::App* sysctl = app.add_subcommand("sysctl", "read and change a running host's sysctls");
  sysctl->add_flag("-a,--all", options->all, "all of them");
  sysctl->add_flag("-n,--values", options->values_only, "values without names");
  sysctl->add_flag("--explain", options->explain, "with unit and meaning");
  sysctl->add_flag("-w,--write", options->write, "accepted, as sysctl(8) does: name=value writes in any case");
  sysctl->add_option("names", options->words, "name, or name=value");
  sysctl->callback([options] { Sysctl(*options); });
}

}  // namespace ustcp::tool
