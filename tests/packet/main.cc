// ustcp_packet [--verbose] [--ip=4|6] FILE|DIR...: runs packet scripts (README.md).
#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "tests/packet/runner.h"

namespace {

using namespace ustcp::packet;

void CollectScripts(const std::filesystem::path& path, std::vector<std::string>* out) {
  if (!std::filesystem::is_directory(path)) {
    out->push_back(path.string());
    return;
  }
  for (auto& entry : std::filesystem::recursive_directory_iterator(path))
    if (entry.path().extension() == ".pkt") out->push_back(entry.path().string());
}

}  // namespace

int main(int argc, char** argv) {
  bool verbose = false;
  int only = 0;
  std::vector<std::string> files;
  for (int i = 1; i < argc; ++i) {
    std::string a = argv[i];
    if (a == "--verbose" || a == "-v")
      verbose = true;
    else if (a == "--ip=4" || a == "--ip=6")
      only = a.back() - '0';
    else if (a.compare(0, 2, "--") == 0 || !std::filesystem::exists(a)) {
      std::fprintf(stderr, "usage: ustcp_packet [--verbose] [--ip=4|6] FILE|DIR...   (no %s)\n", a.c_str());
      return 2;
    } else
      CollectScripts(a, &files);
  }
  std::sort(files.begin(), files.end());
  if (files.empty()) {
    std::fprintf(stderr, "ustcp_packet: no script given\n");
    return 2;
  }
  int runs = 0, failures = 0;
  for (const std::string& file : files) {
    std::ifstream in(file);
    std::stringstream text;
    text << in.rdbuf();
    std::string error;
    auto script = ParseScript(file, text.str(), &error);
    if (!script) {
      std::printf("%s: %s\n", file.c_str(), error.c_str());
      ++failures;
      continue;
    }
    for (int ip : {4, 6}) {
      if ((only != 0 && only != ip) || !RunsOver(*script, ip == 6)) continue;
      ++runs;
      Verdict v = RunScript(*script, ip == 6);
      if (v.ok && !verbose) continue;
      if (v.ok)
        std::printf("%s: IPv%d: ok\n", file.c_str(), ip);
      else
        std::printf("%s:%d: IPv%d: %s\n", file.c_str(), v.line, ip, v.what.c_str());
      for (const std::string& line : v.trace) std::printf("    %s\n", line.c_str());
      failures += v.ok ? 0 : 1;
    }
  }
  std::printf("%d runs of %zu scripts, %d failed\n", runs, files.size(), failures);
  return failures == 0 ? 0 : 1;
}
