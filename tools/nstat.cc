// `ustcp nstat`: the host's counters under the kernel's names.
#include <fmt/format.h>

#include <memory>
#include <nlohmann/json.hpp>

#include "tools/commands.h"
#include "tools/confined.h"

namespace ustcp::tool {

namespace {

struct NstatOptions {
  bool all = false;
  bool json = false;
  std::vector<std::string> names;
};

void Count(const NstatOptions& options, Host& host) {
  nlohmann::ordered_json document;
  if (!options.json) fmt::print("#ustcp\n");
  for (size_t i = 0; i < static_cast<size_t>(Counter::kCount); ++i) {
    // Shards are added up; each value is one word, read while its owner goes on.
    uint64_t sum = 0;
    for (int s = 0; s < kMaxShards && host.shards[s].random_state != 0; ++s)
      sum += host.shards[s].counters.Get(static_cast<Counter>(i));
    std::string name = std::string(kCounterTable[i].group) + kCounterTable[i].name;
    if (!options.names.empty()) {
      bool wanted = false;
      for (const std::string& pattern : options.names) wanted |= pattern == name;
      if (!wanted) continue;
    } else if (sum == 0 && !options.all) {
      continue;
    }
    if (options.json) {
      document[name] = sum;
    } else {
      fmt::print("{:<31} {:<18} 0.0\n", name, sum);
    }
  }
  if (options.json) fmt::print("{}\n", nlohmann::ordered_json{{"ustcp", document}}.dump());
}

void Nstat(const NstatOptions& options) {
  LookInto(ToolSettings(), Access::kRead, [&](View& view) { Count(options, view.host); });
}

}  // namespace

void AddNstat(CLI::App& app) {
  auto options = std::make_shared<NstatOptions>();
  CLI::App* nstat = app.add_subcommand("nstat", "the host's counters");
  nstat->add_flag("-a,--ignore,-z,--zeros", options->all, "those that are zero too");
  nstat->add_flag("-j,--json", options->json, "as JSON");
  nstat->add_option("names", options->names, "these counters only");
  nstat->callback([options] { Nstat(*options); });
}

}  // namespace ustcp::tool
