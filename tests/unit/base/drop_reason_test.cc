// D15: what is dropped is counted and traced under a name of its own.
#include "stack/base/drop_reason.h"

#include <gtest/gtest.h>

#include <set>
#include <string>

namespace ustcp {
namespace {

TEST(DropReasonD15, EveryReasonHasANameOfItsOwn) {
  std::set<std::string> names;
  for (size_t i = 0; i < kDropReasonCount; ++i) names.insert(DropReasonName(static_cast<DropReason>(i)));
  EXPECT_EQ(names.size(), kDropReasonCount);
  EXPECT_FALSE(names.contains("unknown"));
  EXPECT_STREQ(DropReasonName(DropReason::kTcpChecksum), "TCP checksum");
}

TEST(DropReasonD15, ValuesOutsideTheEnumerationAreSafe) {
  EXPECT_STREQ(DropReasonName(static_cast<DropReason>(kDropReasonCount)), "unknown");
  EXPECT_STREQ(DropReasonName(static_cast<DropReason>(255)), "unknown");
}

}  // namespace
}  // namespace ustcp
