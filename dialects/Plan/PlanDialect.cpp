// Registration and checks of the plan dialect.
#include "dialects/Plan/Plan.h"

#include "mlir/IR/Builders.h"
#include "mlir/IR/DialectImplementation.h"
#include "llvm/ADT/TypeSwitch.h"

#include "dialects/Plan/PlanDialect.cpp.inc"
#include "dialects/Plan/PlanEnums.cpp.inc"

static mlir::FailureOr<galvatron::plan::Schedule> parseSchedule(mlir::AsmParser &parser) {
  std::string name;
  llvm::SMLoc loc = parser.getCurrentLocation();
  if (parser.parseString(&name))
    return mlir::failure();
  if (std::optional<galvatron::plan::Schedule> schedule = galvatron::plan::symbolizeSchedule(name))
    return *schedule;
  return parser.emitError(loc) << "expects schedule gpipe, 1f1b, interleaved, zb-h1 or zb-v, but got '" << name << "'";
}

#define GET_ATTRDEF_CLASSES
#include "dialects/Plan/PlanAttributes.cpp.inc"

using namespace mlir;
using namespace galvatron::plan;

void PlanDialect::initialize() {
  addAttributes<
#define GET_ATTRDEF_LIST
#include "dialects/Plan/PlanAttributes.cpp.inc"
      >();
}

llvm::SmallVector<int64_t> galvatron::plan::getMesh(PipelineAttr pipeline) {
  if (!pipeline)
    return {};
  if (DenseI64ArrayAttr mesh = pipeline.getMesh())
    return llvm::to_vector(mesh.asArrayRef());
  Mesh primes = getPrimeFactors(pipeline.getDevices());
  return {primes.begin(), primes.end()};
}

int64_t galvatron::plan::getChunk(Operation *op) {
  auto chunk = op->getAttrOfType<IntegerAttr>(kChunkAttrName);
  return chunk ? chunk.getInt() : 0;
}

void galvatron::plan::setChunk(Operation *op, int64_t chunk) {
  if (chunk)
    op->setAttr(kChunkAttrName, Builder(op->getContext()).getI64IntegerAttr(chunk));
  else
    op->removeAttr(kChunkAttrName);
}

llvm::hash_code galvatron::plan::hash_value(const StrategyValues &values) {
  llvm::hash_code hash = 0;
  for (const Dimension &row : kDimensions)
    hash = llvm::hash_combine(hash, values.*row.value);
  return hash;
}

/// Of a choice, one of its words.
static ParseResult parseChoice(AsmParser &parser, const Dimension &row, StrategyValues &values) {
  SMLoc loc = parser.getCurrentLocation();
  StringRef word;
  if (parser.parseKeyword(&word))
    return failure();
  for (int64_t number = 1; number <= row.most; ++number)
    if (word == StringRef(getWord(row.word, number)))
      values.*row.value = number;
  if (row.isUsed(values))
    return success();
  return parser.emitError(loc) << "expects '" << StringRef(row.key) << "' to be one of " << StringRef(row.word)
                               << ", but got " << word;
}

/// `key = value`, a flag's value being true or false.
static ParseResult parseEntry(AsmParser &parser, StrategyValues &values, llvm::SmallDenseSet<StringRef> &seen) {
  SMLoc loc = parser.getCurrentLocation();
  StringRef key;
  if (parser.parseKeyword(&key) || parser.parseEqual())
    return failure();
  const Dimension *row = llvm::find_if(kDimensions, [&](const Dimension &row) { return key == StringRef(row.key); });
  if (row == std::end(kDimensions))
    return parser.emitError(loc) << "unknown key '" << key << "' of a strategy";
  if (!seen.insert(key).second)
    return parser.emitError(loc) << "key '" << key << "' of a strategy is given twice";
  if (row->kind == DimensionKind::Choice)
    return parseChoice(parser, *row, values);
  if (row->kind != DimensionKind::Flag)
    return parser.parseInteger(values.*row->value);
  bool on = succeeded(parser.parseOptionalKeyword("true"));
  values.*row->value = on;
  return failure(!on && failed(parser.parseKeyword("false", " or true")));
}

Attribute StrategyAttr::parse(AsmParser &parser, Type) {
  SMLoc loc = parser.getCurrentLocation();
  StrategyValues values;
  llvm::SmallDenseSet<StringRef> seen;
  auto parseOne = [&] { return parseEntry(parser, values, seen); };
  if (parser.parseCommaSeparatedList(AsmParser::Delimiter::LessGreater, parseOne, " in a strategy"))
    return {};
  return getChecked([&] { return parser.emitError(loc); }, parser.getContext(), values);
}

void StrategyAttr::print(AsmPrinter &printer) const {
  printer << '<';
  StringRef separator;
  for (const Dimension &row : kDimensions) {
    int64_t value = getValues().*row.value;
    if (!row.isUsed(getValues()))
      continue;
    printer << separator << StringRef(row.key) << " = ";
    if (row.kind == DimensionKind::Flag)
      printer << "true";
    else if (row.kind == DimensionKind::Choice)
      printer << StringRef(getWord(row.word, value));
    else
      printer << value;
    separator = ", ";
  }
  printer << '>';
}

LogicalResult StrategyAttr::verify(function_ref<InFlightDiagnostic()> emitError, StrategyValues values) {
  for (const Dimension &row : kDimensions)
    if (row.isDegree() && values.*row.value < 1)
      return emitError() << "expects degree '" << StringRef(row.key) << "' to be at least 1, but got "
                         << values.*row.value;
  if (values.zero < 0 || values.zero > 3)
    return emitError() << "expects ZeRO level from 0 to 3, but got " << values.zero;
  for (DimensionId id : kContextChoices)
    if (const Dimension &row = kDimensions[int(id)]; row.isUsed(values) && values.cp == 1)
      return emitError() << "expects '" << StringRef(row.key) << "' only with cp above 1";
  if (values.values < 0 || values.values >> 32)
    return emitError() << "expects 'recompute_values' as 32 bits, but got " << values.values;
  return success();
}

LogicalResult PipelineAttr::verify(function_ref<InFlightDiagnostic()> emitError, int64_t stages, int64_t devices,
                                   int64_t microBatches, Schedule schedule, int64_t virtualStages,
                                   DenseI64ArrayAttr mesh) {
  for (auto [name, count] : {std::pair("stages", stages), {"devices", devices}, {"micro_batches", microBatches}})
    if (count < 1)
      return emitError() << "expects '" << name << "' to be at least 1, but got " << count;
  bool isInterleaved = schedule == Schedule::Interleaved;
  int64_t parts = schedule == Schedule::ZeroBubbleV ? 2 : 1;
  if (isInterleaved ? virtualStages < 2 : virtualStages != parts)
    return emitError() << "expects 'virtual_stages' to be "
                       << (isInterleaved ? "at least 2"
                           : parts == 2  ? "2"
                                         : "1")
                       << " under schedule " << stringifySchedule(schedule) << ", but got " << virtualStages;
  if (!mesh)
    return success();
  Mesh sizes(mesh.asArrayRef().begin(), mesh.asArrayRef().end());
  std::sort(sizes.begin(), sizes.end());
  if (sizes != getPrimeFactors(devices))
    return emitError() << "expects 'mesh' to hold the prime factors of " << devices << " devices, but got " << mesh;
  return success();
}
