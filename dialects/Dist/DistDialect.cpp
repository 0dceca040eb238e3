// Registration of the dist dialect.
#include "dialects/Dist/Dist.h"

#include "dialects/Dist/DistDialect.cpp.inc"

#define GET_OP_CLASSES
#include "dialects/Dist/DistOps.cpp.inc"

void galvatron::dist::DistDialect::initialize() {
  addOperations<
#define GET_OP_LIST
#include "dialects/Dist/DistOps.cpp.inc"
      >();
}
