//===- ElementType.h - codes of element types in functions' attributes ----------------------------===//
//
// Shared by compiler, core and devices: what `type` means in Functions.def.
//
//===----------------------------------------------------------------------------------------------------------------===//
#ifndef GALVATRON_RUNTIME_API_ELEMENTTYPE_H
#define GALVATRON_RUNTIME_API_ELEMENTTYPE_H

#include <stdint.h>

enum gvrt_type { GVRT_F32 = 0, GVRT_I64 = 1, GVRT_BF16 = 2, GVRT_F16 = 3 };

namespace galvatron {

/// Whether a type is one of the floats of 16 bits: storage of what is computed in f32.
constexpr bool isHalf(int64_t type) { return type == GVRT_BF16 || type == GVRT_F16; }

constexpr int64_t bytesOfElement(int64_t type) { return type == GVRT_F32 ? 4 : isHalf(type) ? 2 : 8; }

} // namespace galvatron

#endif
