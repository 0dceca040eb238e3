//===- ExecOps.td - functions, buffers, calls, loops ----------------------===//
#ifndef GALVATRON_DIALECTS_EXEC_OPS
#define GALVATRON_DIALECTS_EXEC_OPS

include "ExecDialect.td"
include "mlir/IR/BuiltinAttributeInterfaces.td"
include "mlir/IR/SymbolInterfaces.td"
include "mlir/Interfaces/ControlFlowInterfaces.td"
include "mlir/Interfaces/FunctionInterfaces.td"
include "mlir/Interfaces/InferTypeOpInterface.td"
include "mlir/Interfaces/SideEffectInterfaces.td"

class Exec_Op<string mnemonic, list<Trait> traits = []> : Op<Exec_Dialect, mnemonic, traits>;

def Exec_FunctionOp : Exec_Op<"function", [FunctionOpInterface, IsolatedFromAbove, Symbol]> {
  let summary = "a body on buffers: arguments, results, scratch";
  let description = [{
    Arguments: one memref for each operand of the `dist.body`, one for each of its results, and last
    the scratch, `memref<?xi8>` of at least `exec.scratch_bytes`. Becomes an LLVM function of the
    uniform signature of `runtime/api/GalvatronRuntime.h`.

    Example:
    ```mlir
    exec.function @clear(%y: memref<4xf32>, %scratch: memref<?xi8>) attributes {exec.scratch_bytes = 0 : i64} {
      exec.call "fill_zero"(%y) {bytes = 16} : memref<4xf32>
      exec.return
    }
    ```
  }];
  let arguments = (ins SymbolNameAttr:$sym_name, TypeAttrOf<FunctionType>:$function_type,
                       OptionalAttr<StrAttr>:$sym_visibility,
                       OptionalAttr<DictArrayAttr>:$arg_attrs, OptionalAttr<DictArrayAttr>:$res_attrs);
  let regions = (region SizedRegion<1>:$body);
  let hasCustomAssemblyFormat = 1;
  let hasVerifier = 1;
  let extraClassDeclaration = [{
    ::llvm::ArrayRef<::mlir::Type> getArgumentTypes() { return getFunctionType().getInputs(); }
    ::llvm::ArrayRef<::mlir::Type> getResultTypes() { return getFunctionType().getResults(); }
    ::mlir::Region *getCallableRegion() { return &getBody(); }
  }];
}

def Exec_ReturnOp : Exec_Op<"return", [Terminator, ReturnLike, HasParent<"FunctionOp">]> {
  let summary = "ends an `exec.function`";
  let assemblyFormat = "attr-dict";
}

def Exec_BufferOp : Exec_Op<"buffer", [Pure]> {
  let summary = "a view of another buffer at a fixed offset in bytes, with the result's shape and strides";
  let arguments = (ins AnyMemRef:$base, I64Attr:$offset);
  let results = (outs AnyMemRef:$result);
  let assemblyFormat = "$base `[` $offset `]` attr-dict `:` type($base) `->` type($result)";
  let hasVerifier = 1;
}

def Exec_ConstantOp : Exec_Op<"constant", [Pure]> {
  let summary = "a small constant tensor, in the stage object";
  let arguments = (ins ElementsAttr:$value);
  let results = (outs AnyMemRef:$result);
  let assemblyFormat = "$value attr-dict `:` type($result)";
}

def Exec_CallOp : Exec_Op<"call"> {
  let summary = "calls a function of the runtime's C ABI on buffers, with constants";
  let description = [{
    `function` is a name of `runtime/api/Functions.def`, which also says the order of buffers and the names of the
    constants: numbers, f64 where it says `bits`, and lists of numbers. `present` has one entry for each buffer there:
    0 where an optional one is absent. `entry {c = w}`: constant c is not fixed, but word w of the attributes with which
    the timetable calls the function (in a backward body, whether to add to the gradient of parameter w).

    Example:
    ```mlir
    exec.call "copy"(%x, %y) {element_bytes = 4, rank = 1, extents = [4], x_strides = [1], y_strides = [1]} : memref<4xf32>, memref<4xf32>
    exec.call "norm_weight_backward"(%dy, %x, %m, %r, %dw) {type = 0, rows = 1, columns = 4, accumulate = 1} entry {accumulate = 2 : i64}
      : memref<1x4xf32>, memref<1x4xf32>, memref<1xf32>, memref<1xf32>, memref<4xf32>
    ```
  }];
  let arguments = (ins StrAttr:$function, Variadic<AnyMemRef>:$buffers, DictionaryAttr:$constants,
                       OptionalAttr<DenseI64ArrayAttr>:$present, OptionalAttr<DictionaryAttr>:$entry);
  let assemblyFormat = [{$function `(` $buffers `)` custom<Constants>($constants, ref($function))
                         (`present` $present^)? (`entry` $entry^)? attr-dict (`:` type($buffers)^)?}];
  let builders = [OpBuilder<(ins "::llvm::StringRef":$function, "::mlir::ValueRange":$buffers,
                                 "::llvm::ArrayRef<CallConstant>":$constants,
                                 CArg<"::mlir::DenseI64ArrayAttr", "{}">:$present,
                                 CArg<"::mlir::DictionaryAttr", "{}">:$entry)>];
  let extraClassDeclaration = [{
    /// All constants as the runtime reads them: words of 64 bits in the order of Functions.def.
    ::llvm::SmallVector<int64_t> getWords();
    /// Where the words of a constant begin.
    int64_t getWordIndex(::llvm::StringRef constant);
    /// The group whose ranks join the call, of a collective.
    std::optional<int64_t> getGroup();
  }];
  let hasVerifier = 1;
}

def Exec_LoopsOp : Exec_Op<"loops", [SingleBlock, AttrSizedOperandSegments]> {
  let summary = "a generated kernel: a loop nest that computes scalars from scalars";
  let description = [{
    For every index of `extents`, reads one element of each input (block argument), computes, and
    writes what `exec.yield` gives to the outputs. `strides` holds for each input, then each output,
    one stride in elements per loop: 0 broadcasts. Outputs do not alias anything but an input that is
    read at the same index.

    The innermost loop is a row. `exec.row_sum` gives a row's sum to what follows it; an output of
    stride 0 along the row takes a value that is the same everywhere in it. The last `column_sums`
    outputs, `[parts, row]` in f32, are sums over all other loops, in parts that are still to be added:
    which rows a part sums is the device's choice.

    Example:
    ```mlir
    exec.loops [8] inputs(%a, %b : memref<8xf32>, memref<8xf32>) outputs(%c : memref<8xf32>) strides [1, 1, 1] {
    ^bb0(%x: f32, %y: f32):
      %z = arith.addf %x, %y : f32
      exec.yield %z : f32
    }
    // Every row less its mean, and the mean.
    exec.loops [4, 8] inputs(%a : memref<4x8xf32>) outputs(%c, %m : memref<4x8xf32>, memref<4xf32>) strides [8, 1, 8, 1, 1, 0] {
    ^bb0(%x: f32):
      %eighth = arith.constant 0.125 : f32
      %sum = exec.row_sum %x : f32
      %mean = arith.mulf %sum, %eighth : f32
      %z = arith.subf %x, %mean : f32
      exec.yield %z, %mean : f32, f32
    }
    ```
  }];
  let arguments = (ins Variadic<AnyMemRef>:$inputs, Variadic<AnyMemRef>:$outputs,
                       DenseI64ArrayAttr:$extents, DenseI64ArrayAttr:$strides,
                       DefaultValuedAttr<I64Attr, "0">:$column_sums);
  let regions = (region SizedRegion<1>:$body);
  let assemblyFormat = [{$extents `inputs` `(` ($inputs^ `:` type($inputs))? `)`
                         `outputs` `(` $outputs `:` type($outputs) `)` `strides` $strides attr-dict-with-keyword $body}];
  let extraClassDeclaration = [{
    /// Strides of a buffer (inputs, then outputs), one for each loop.
    ::llvm::ArrayRef<int64_t> getStridesOf(size_t buffer);
    /// Inputs, then outputs.
    ::llvm::SmallVector<::mlir::Value> getBuffers();
    bool hasRowSums();
    /// Whether rows are kept as they are: something is summed over them or along them.
    bool hasRows() { return getColumnSums() > 0 || hasRowSums(); }
    /// The first of the outputs that are sums over rows.
    size_t getFirstColumnSum() { return getOutputs().size() - getColumnSums(); }
    /// Scalars of the body that are the same everywhere in a row.
    ::llvm::DenseSet<::mlir::Value> getRowValues();
  }];
  let hasVerifier = 1;
}

def Exec_RowSumOp : Exec_Op<"row_sum", [Pure, SameOperandsAndResultType, HasParent<"LoopsOp">]> {
  let summary = "the sum of a scalar over the row, at every index of it";
  let arguments = (ins F32:$value);
  let results = (outs F32:$result);
  let assemblyFormat = "$value attr-dict `:` type($value)";
}

def Exec_YieldOp : Exec_Op<"yield", [Pure, Terminator, ReturnLike, HasParent<"LoopsOp">]> {
  let summary = "what a generated kernel writes at one index";
  let arguments = (ins Variadic<AnyType>:$operands);
  let assemblyFormat = "attr-dict ($operands^ `:` type($operands))?";
}

#endif
