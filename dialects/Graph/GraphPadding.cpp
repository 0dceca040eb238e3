// Padded parameters: text and index arithmetic of `#graph.padding`.
#include "dialects/Graph/GraphDialect.h"

#include "mlir/IR/Builders.h"
#include "mlir/IR/DialectImplementation.h"

using namespace mlir;
using namespace galvatron::graph;

using Dim = PaddingAttr::Dim;

PaddingAttr PaddingAttr::getCanonical(MLIRContext *context, ArrayRef<Dim> dims) {
  SmallVector<int64_t> own, padding, counts;
  for (const Dim &dim : dims) {
    size_t first = own.size();
    for (Factor factor : dim) {
      if (own.size() > first && factor.padding == 0 && padding.back() == 0) {
        own.back() *= factor.own;
        continue;
      }
      own.push_back(factor.own);
      padding.push_back(factor.padding);
    }
    counts.push_back(own.size() - first);
  }
  return get(context, own, padding, counts);
}

SmallVector<Dim> PaddingAttr::getDims() const {
  SmallVector<Dim> dims;
  size_t factor = 0;
  for (int64_t count : getFactorsPerDim()) {
    Dim &dim = dims.emplace_back();
    for (int64_t i = 0; i < count; ++i, ++factor)
      dim.push_back({getOwn()[factor], getPadding()[factor]});
  }
  return dims;
}

SmallVector<int64_t> PaddingAttr::getOwnShape() const {
  SmallVector<int64_t> shape;
  for (const Dim &dim : getDims()) {
    shape.push_back(1);
    for (Factor factor : dim)
      shape.back() *= factor.own;
  }
  return shape;
}

SmallVector<int64_t> PaddingAttr::getPaddedShape() const {
  SmallVector<int64_t> shape;
  for (const Dim &dim : getDims()) {
    shape.push_back(1);
    for (Factor factor : dim)
      shape.back() *= factor.extent();
  }
  return shape;
}

/// All factors of all dimensions are one number in mixed radix.
SmallVector<int64_t> PaddingAttr::getOwnElements() const {
  SmallVector<int64_t> elements = {0};
  for (auto [own, added] : llvm::zip_equal(getOwn(), getPadding())) {
    SmallVector<int64_t> finer;
    for (int64_t element : elements)
      for (int64_t value = 0; value < own + added; ++value)
        finer.push_back(element < 0 || value >= own ? -1 : element * own + value);
    elements = std::move(finer);
  }
  return elements;
}

LogicalResult PaddingAttr::verify(function_ref<InFlightDiagnostic()> emitError, ArrayRef<int64_t> own,
                                  ArrayRef<int64_t> padding, ArrayRef<int64_t> factorsPerDim) {
  for (auto [values, added] : llvm::zip_equal(own, padding))
    if (values < 1 || added < 0)
      return emitError() << "expects factors of at least one element of their own and none or more of padding, but got "
                         << values << " pad " << added;
  return success();
}

static ParseResult parseDim(AsmParser &parser, Dim &dim) {
  do {
    PaddingAttr::Factor &factor = dim.emplace_back();
    if (parser.parseInteger(factor.own) ||
        (succeeded(parser.parseOptionalKeyword("pad")) && parser.parseInteger(factor.padding)))
      return failure();
  } while (succeeded(parser.parseOptionalStar()));
  return success();
}

Attribute PaddingAttr::parse(AsmParser &parser, Type) {
  SmallVector<Dim> dims;
  SMLoc loc = parser.getCurrentLocation();
  if (parser.parseLess() ||
      parser.parseCommaSeparatedList(AsmParser::Delimiter::Square,
                                     [&] { return parseDim(parser, dims.emplace_back()); }) ||
      parser.parseGreater())
    return {};
  SmallVector<int64_t> own, padding;
  for (const Dim &dim : dims)
    for (Factor factor : dim) {
      own.push_back(factor.own);
      padding.push_back(factor.padding);
    }
  if (failed(verify([&] { return parser.emitError(loc); }, own, padding, {})))
    return {};
  return getCanonical(parser.getContext(), dims);
}

void PaddingAttr::print(AsmPrinter &printer) const {
  raw_ostream &os = printer.getStream();
  os << "<[";
  llvm::interleaveComma(getDims(), os, [&](const Dim &dim) {
    llvm::interleave(
        dim, os,
        [&](Factor factor) {
          os << factor.own;
          if (factor.padding)
            os << " pad " << factor.padding;
        },
        " * ");
  });
  os << "]>";
}
