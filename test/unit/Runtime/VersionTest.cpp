// The C ABI answers.
#include "runtime/api/GalvatronRuntime.h"

#include <gtest/gtest.h>

TEST(Runtime, AbiVersionIsOne) { EXPECT_EQ(gvrt_abi_version(), 1); }
