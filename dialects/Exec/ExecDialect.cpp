// Registration of the exec dialect.
#include "dialects/Exec/Exec.h"

#include "dialects/Exec/ExecDialect.cpp.inc"

#define GET_OP_CLASSES
#include "dialects/Exec/ExecOps.cpp.inc"

void galvatron::exec::ExecDialect::initialize() {
  addOperations<
#define GET_OP_LIST
#include "dialects/Exec/ExecOps.cpp.inc"
      >();
}
