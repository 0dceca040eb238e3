// Registration of the plan dialect.
#include "dialects/Plan/Plan.h"

#include "dialects/Plan/PlanDialect.cpp.inc"

#define GET_OP_CLASSES
#include "dialects/Plan/PlanOps.cpp.inc"

void galvatron::plan::PlanDialect::initialize() {
  addOperations<
#define GET_OP_LIST
#include "dialects/Plan/PlanOps.cpp.inc"
      >();
}
