// The placement attribute: canonical form, text and checks.
#include "dialects/Dist/Dist.h"

#include "mlir/IR/Builders.h"
#include "mlir/IR/DialectImplementation.h"
#include "llvm/ADT/SmallSet.h"
#include "llvm/ADT/StringSwitch.h"
#include "llvm/ADT/TypeSwitch.h"

#define GET_ATTRDEF_CLASSES
#include "dialects/Dist/DistAttributes.cpp.inc"

using namespace mlir;
using namespace galvatron;
using namespace galvatron::dist;

void DistDialect::registerAttributes() {
  addAttributes<
#define GET_ATTRDEF_LIST
#include "dialects/Dist/DistAttributes.cpp.inc"
      >();
}

//===----------------------------------------------------------------------===//
// Canonical form
//===----------------------------------------------------------------------===//

static DimSubAxes canonicalize(ArrayRef<SubAxis> subAxes) {
  DimSubAxes merged;
  for (SubAxis subAxis : subAxes) {
    bool local = subAxis.meshAxis == PlacementAttr::kLocal;
    if (local && subAxis.extent == 1)
      continue;
    if (local && !merged.empty() && merged.back().meshAxis == PlacementAttr::kLocal)
      merged.back().extent *= subAxis.extent;
    else
      merged.push_back(subAxis);
  }
  if (merged.empty())
    merged.push_back({1, PlacementAttr::kLocal});
  return merged;
}

PlacementAttr PlacementAttr::getCanonical(MLIRContext *context, ArrayRef<DimSubAxes> dims, ArrayRef<Partial> partials) {
  SmallVector<int64_t> extents, meshAxes, subAxesPerDim, mirroredAxes, partialAxes, partialKinds;
  for (const DimSubAxes &dim : dims) {
    DimSubAxes subAxes = canonicalize(dim);
    subAxesPerDim.push_back(subAxes.size());
    for (SubAxis subAxis : subAxes) {
      extents.push_back(subAxis.extent);
      meshAxes.push_back(subAxis.meshAxis);
      if (subAxis.mirrored)
        mirroredAxes.push_back(subAxis.meshAxis);
    }
  }
  llvm::sort(mirroredAxes);
  SmallVector<Partial> sorted(partials);
  llvm::sort(sorted, [](const Partial &a, const Partial &b) { return a.meshAxis < b.meshAxis; });
  for (Partial partial : sorted) {
    partialAxes.push_back(partial.meshAxis);
    partialKinds.push_back(int64_t(partial.kind));
  }
  return get(context, extents, meshAxes, subAxesPerDim, mirroredAxes, partialAxes, partialKinds);
}

PlacementAttr PlacementAttr::getReplicated(RankedTensorType type) {
  SmallVector<DimSubAxes> dims;
  for (int64_t extent : type.getShape())
    dims.push_back({{extent, kLocal}});
  return getCanonical(type.getContext(), dims);
}

SmallVector<DimSubAxes> PlacementAttr::getDims() const {
  SmallVector<DimSubAxes> dims;
  size_t next = 0;
  for (int64_t count : getSubAxesPerDim()) {
    DimSubAxes &dim = dims.emplace_back();
    for (int64_t i = 0; i < count; ++i, ++next)
      dim.push_back(
          {getExtents()[next], getMeshAxes()[next], llvm::is_contained(getMirroredAxes(), getMeshAxes()[next])});
  }
  return dims;
}

SmallVector<Partial> PlacementAttr::getPartials() const {
  SmallVector<Partial> partials;
  for (auto [meshAxis, kind] : llvm::zip(getPartialAxes(), getPartialKinds()))
    partials.push_back({meshAxis, graph::ReduceKind(kind)});
  return partials;
}

PlacementAttr PlacementAttr::withPartials(ArrayRef<Partial> partials) const {
  return getCanonical(getContext(), getDims(), partials);
}

PlacementAttr PlacementAttr::withoutMirrors() const {
  return get(getContext(), getExtents(), getMeshAxes(), getSubAxesPerDim(), {}, getPartialAxes(), getPartialKinds());
}

std::optional<Mirror> PlacementAttr::getMirror(int64_t meshAxis) const {
  for (auto [index, dim] : llvm::enumerate(getDims())) {
    Mirror mirror{int64_t(index), 0, 0};
    int64_t stride = 1;
    for (SubAxis subAxis : llvm::reverse(dim)) {
      if (subAxis.meshAxis == meshAxis && subAxis.mirrored)
        mirror.stride = stride;
      else if (mirror.stride && !subAxis.mirrored) {
        mirror.parity = stride;
        return mirror;
      }
      stride *= subAxis.extent;
    }
  }
  return std::nullopt;
}

PlacementAttr PlacementAttr::withoutPartialTime() const {
  SmallVector<Partial> partials = getPartials();
  llvm::erase_if(partials, [](const Partial &partial) { return partial.meshAxis == kTime; });
  return withPartials(partials);
}

static SmallVector<int64_t> getShape(const PlacementAttr &placement, bool onlyLocal) {
  SmallVector<int64_t> shape;
  for (const DimSubAxes &dim : placement.getDims()) {
    int64_t extent = 1;
    for (SubAxis subAxis : dim)
      if (!onlyLocal || subAxis.meshAxis == PlacementAttr::kLocal)
        extent *= subAxis.extent;
    shape.push_back(extent);
  }
  return shape;
}

SmallVector<int64_t> PlacementAttr::getLocalShape() const { return getShape(*this, /*onlyLocal=*/true); }
SmallVector<int64_t> PlacementAttr::getGlobalShape() const { return getShape(*this, /*onlyLocal=*/false); }

//===----------------------------------------------------------------------===//
// Checks
//===----------------------------------------------------------------------===//

static std::string printMeshAxis(int64_t meshAxis) {
  return meshAxis == PlacementAttr::kTime ? "@t" : "@g" + std::to_string(meshAxis);
}

LogicalResult PlacementAttr::verify(function_ref<InFlightDiagnostic()> emitError, ArrayRef<int64_t> extents,
                                    ArrayRef<int64_t> meshAxes, ArrayRef<int64_t> subAxesPerDim,
                                    ArrayRef<int64_t> mirroredAxes, ArrayRef<int64_t> partialAxes,
                                    ArrayRef<int64_t> partialKinds) {
  assert(extents.size() == meshAxes.size() && partialAxes.size() == partialKinds.size());
  llvm::SmallSet<int64_t, 8> seen;
  for (auto [extent, meshAxis] : llvm::zip(extents, meshAxes)) {
    if (extent < 1)
      return emitError() << "expects sub-axes of extent at least 1, but got " << extent;
    if (meshAxis != kLocal && !seen.insert(meshAxis).second)
      return emitError() << "expects each mesh axis at most once, but got " << printMeshAxis(meshAxis) << " twice";
  }
  size_t next = 0;
  for (int64_t count : subAxesPerDim) {
    int64_t before = 1; // extent of the local sub-axis that mirrored ones follow
    for (size_t end = next + count; next < end; ++next) {
      bool mirrored = llvm::is_contained(mirroredAxes, meshAxes[next]);
      if (mirrored && before % 2 != 0)
        return emitError() << "expects a mirrored sub-axis after a local one of even extent, but got " << before
                           << " before " << printMeshAxis(meshAxes[next]);
      if (!mirrored)
        before = meshAxes[next] == kLocal ? extents[next] : 1;
    }
  }
  for (int64_t meshAxis : partialAxes)
    if (!seen.insert(meshAxis).second)
      return emitError() << "expects each mesh axis at most once, but got " << printMeshAxis(meshAxis) << " twice";
  return success();
}

LogicalResult PlacementAttr::verifyEncoding(ArrayRef<int64_t> shape, Type,
                                            function_ref<InFlightDiagnostic()> emitError) const {
  SmallVector<int64_t> global = getGlobalShape();
  if (ArrayRef<int64_t>(global) == shape)
    return success();
  return emitError() << "expects placement of a tensor of shape [" << shape << "], but got one of [" << global << "]";
}

//===----------------------------------------------------------------------===//
// Text: <[4@t * 2@g0, 16, 64] partial [sum@g1]>
//===----------------------------------------------------------------------===//

static FailureOr<int64_t> readMeshAxis(AsmParser &parser, SMLoc loc, StringAttr name) {
  int64_t axis;
  StringRef text = name.getValue();
  if (text == "t")
    return PlacementAttr::kTime;
  if (text.consume_front("g") && !text.getAsInteger(10, axis) && axis >= 0)
    return axis;
  return parser.emitError(loc, "expects mesh axis @t or @g<axis>, but got @") << name.getValue();
}

static ParseResult parseDim(AsmParser &parser, DimSubAxes &dim) {
  do {
    SubAxis &subAxis = dim.emplace_back(SubAxis{1, PlacementAttr::kLocal});
    if (parser.parseInteger(subAxis.extent))
      return failure();
    StringAttr name;
    SMLoc loc = parser.getCurrentLocation();
    if (failed(parser.parseOptionalSymbolName(name)))
      continue;
    subAxis.mirrored = name.getValue().starts_with("mg");
    if (subAxis.mirrored)
      name = StringAttr::get(name.getContext(), name.getValue().drop_front());
    FailureOr<int64_t> meshAxis = readMeshAxis(parser, loc, name);
    if (failed(meshAxis))
      return failure();
    subAxis.meshAxis = *meshAxis;
  } while (succeeded(parser.parseOptionalStar()));
  return success();
}

static ParseResult parsePartial(AsmParser &parser, Partial &partial) {
  StringRef kind;
  StringAttr name;
  SMLoc loc = parser.getCurrentLocation();
  if (parser.parseKeyword(&kind))
    return failure();
  std::optional<graph::ReduceKind> parsed = graph::symbolizeReduceKind(kind);
  if (!parsed)
    return parser.emitError(loc, "expects reduction sum or max, but got ") << kind;
  loc = parser.getCurrentLocation();
  if (parser.parseSymbolName(name))
    return failure();
  FailureOr<int64_t> meshAxis = readMeshAxis(parser, loc, name);
  if (failed(meshAxis))
    return failure();
  partial = {*meshAxis, *parsed};
  return success();
}

Attribute PlacementAttr::parse(AsmParser &parser, Type) {
  SmallVector<DimSubAxes> dims;
  SmallVector<Partial> partials;
  SMLoc loc = parser.getCurrentLocation();
  auto square = AsmParser::Delimiter::Square;
  if (parser.parseLess() ||
      parser.parseCommaSeparatedList(square, [&] { return parseDim(parser, dims.emplace_back()); }))
    return {};
  if (succeeded(parser.parseOptionalKeyword("partial")) &&
      parser.parseCommaSeparatedList(square, [&] { return parsePartial(parser, partials.emplace_back()); }))
    return {};
  if (parser.parseGreater())
    return {};
  // `get` asserts what text may get wrong, so check first.
  SmallVector<int64_t> extents, meshAxes, count, mirrored, partialMeshAxes, kinds;
  for (const DimSubAxes &dim : dims) {
    count.push_back(dim.size());
    for (SubAxis subAxis : dim) {
      extents.push_back(subAxis.extent);
      meshAxes.push_back(subAxis.meshAxis);
      if (subAxis.mirrored)
        mirrored.push_back(subAxis.meshAxis);
    }
  }
  for (Partial partial : partials) {
    partialMeshAxes.push_back(partial.meshAxis);
    kinds.push_back(int64_t(partial.kind));
  }
  if (failed(verify([&] { return parser.emitError(loc); }, extents, meshAxes, count, mirrored, partialMeshAxes, kinds)))
    return {};
  return getCanonical(parser.getContext(), dims, partials);
}

void PlacementAttr::print(AsmPrinter &printer) const {
  raw_ostream &os = printer.getStream();
  os << "<[";
  llvm::interleaveComma(getDims(), os, [&](const DimSubAxes &dim) {
    llvm::interleave(
        dim, os,
        [&](SubAxis subAxis) {
          os << subAxis.extent;
          if (subAxis.meshAxis != kLocal)
            os << (subAxis.mirrored ? "@m" : "@") << printMeshAxis(subAxis.meshAxis).substr(1);
        },
        " * ");
  });
  os << "]";
  if (isPartial()) {
    os << " partial [";
    llvm::interleaveComma(getPartials(), os, [&](Partial partial) {
      os << graph::stringifyReduceKind(partial.kind) << printMeshAxis(partial.meshAxis);
    });
    os << "]";
  }
  os << ">";
}

//===----------------------------------------------------------------------===//
// Text of an order: <F0, F1.1, B0>
//===----------------------------------------------------------------------===//

llvm::hash_code galvatron::dist::hash_value(const Instruction &instruction) {
  return llvm::hash_combine(char(instruction.computation), instruction.chunk, instruction.microBatch);
}

raw_ostream &galvatron::dist::operator<<(raw_ostream &out, const Instruction &instruction) {
  out << char(instruction.computation) << instruction.microBatch;
  return instruction.chunk ? out << "." << instruction.chunk : out;
}

static std::optional<Instruction> readInstruction(StringRef word) {
  Instruction instruction;
  std::optional<Computation> computation = llvm::StringSwitch<std::optional<Computation>>(word.take_front())
                                               .Case("F", Computation::Forward)
                                               .Case("B", Computation::Backward)
                                               .Case("W", Computation::Weight)
                                               .Default(std::nullopt);
  auto [microBatch, chunk] = word.drop_front().split('.');
  auto isNumber = [](StringRef subAxes, int64_t &number) { return !subAxes.getAsInteger(10, number) && number >= 0; };
  if (!computation || !isNumber(microBatch, instruction.microBatch) ||
      (word.contains('.') && !isNumber(chunk, instruction.chunk)))
    return std::nullopt;
  instruction.computation = *computation;
  return instruction;
}

Attribute OrderAttr::parse(AsmParser &parser, Type) {
  SmallVector<Instruction> instructions;
  auto parseInstruction = [&]() -> ParseResult {
    SMLoc loc = parser.getCurrentLocation();
    StringRef word;
    if (parser.parseKeyword(&word))
      return failure();
    std::optional<Instruction> instruction = readInstruction(word);
    if (!instruction)
      return parser.emitError(loc, "expects F, B or W with a micro-batch, and a part after a dot, but got ") << word;
    instructions.push_back(*instruction);
    return success();
  };
  if (parser.parseCommaSeparatedList(AsmParser::Delimiter::LessGreater, parseInstruction))
    return {};
  return get(parser.getContext(), instructions);
}

void OrderAttr::print(AsmPrinter &printer) const {
  printer << "<";
  llvm::interleaveComma(getInstructions(), printer.getStream());
  printer << ">";
}
