// The main function of a fuzz target that is built without libFuzzer: runs the target on every file of a corpus folder,
// and on a fixed number of seeded mutations of each, so that the ordinary test run keeps what the fuzzers found and
// still looks a little beyond it. Deterministic: the same corpus gives the same inputs.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace {

using Input = std::vector<uint8_t>;

constexpr int kMutationsPerInput = 100;
constexpr size_t kLongestInput = 1 << 16;

Input ReadFile(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return Input(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
}

// One to four small changes: a flipped bit, a replaced byte, a removed, doubled or appended run.
Input Mutate(Input input, std::mt19937& rng) {
  const auto below = [&rng](size_t limit) { return limit == 0 ? size_t{0} : rng() % limit; };
  for (size_t changes = 1 + below(4); changes > 0; --changes) {
    const size_t at = below(input.size());
    const auto position = input.begin() + static_cast<std::ptrdiff_t>(at);
    const size_t run = std::min<size_t>(1 + below(16), input.size() - at);
    const auto end = position + static_cast<std::ptrdiff_t>(run);
    switch (input.empty() ? 4 : below(5)) {
      case 0: input[at] = static_cast<uint8_t>(input[at] ^ (1U << below(8))); break;
      case 1: input[at] = static_cast<uint8_t>(rng()); break;
      case 2: input.erase(position, end); break;
      case 3: {
        const Input copy(position, end);
        input.insert(position, copy.begin(), copy.end());
        break;
      }
      default:
        for (size_t count = 1 + below(8); count > 0; --count) input.push_back(static_cast<uint8_t>(rng()));
    }
  }
  if (input.size() > kLongestInput) input.resize(kLongestInput);
  return input;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: %s CORPUS_DIRECTORY\n", argv[0]);
    return 2;
  }
  try {
    std::vector<std::filesystem::path> paths;
    for (const auto& entry : std::filesystem::directory_iterator(argv[1])) {
      if (entry.is_regular_file()) paths.push_back(entry.path());
    }
    if (paths.empty()) {
      std::fprintf(stderr, "no corpus in %s\n", argv[1]);
      return 1;
    }
    std::sort(paths.begin(), paths.end());
    std::mt19937 rng(1);
    for (const auto& path : paths) {
      const Input original = ReadFile(path);
      LLVMFuzzerTestOneInput(original.data(), original.size());
      for (int i = 0; i < kMutationsPerInput; ++i) {
        const Input mutated = Mutate(original, rng);
        LLVMFuzzerTestOneInput(mutated.data(), mutated.size());
      }
    }
    std::printf("%zu inputs, %d mutations of each\n", paths.size(), kMutationsPerInput);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
  return 0;
}
