//===- GraphDialect.td - what is computed, on global shapes ---------------===//
#ifndef GALVATRON_DIALECTS_GRAPH_DIALECT
#define GALVATRON_DIALECTS_GRAPH_DIALECT

include "mlir/IR/OpBase.td"

def Graph_Dialect : Dialect {
  let name = "graph";
  let cppNamespace = "::galvatron::graph";
  let summary = "A Transformer's training step as one device would compute it";
  let description = [{
    `graph` says *what* is computed, on global shapes, and nothing about how it is divided. A module
    holds one `func.func @step`, whose body is a list of `graph.call`s, and one `graph.layer` per
    *layer type*: repeated blocks of a model share one body, so that work on bodies does not grow
    with depth. Elementwise arithmetic is upstream `arith` and `math` on tensors; only what has its
    own mathematics or a library kernel is an op here.

    Every op declares its loops (`AxisOpInterface`), how it is differentiated
    (`DifferentiableOpInterface`) and what it costs (`CostOpInterface`); passes ask these interfaces
    and never switch over op names.
  }];
  let dependentDialects = ["::mlir::arith::ArithDialect", "::mlir::math::MathDialect",
                           "::mlir::func::FuncDialect"];
  let useDefaultAttributePrinterParser = 1;
  let hasConstantMaterializer = 1;
  let hasRegionArgAttrVerify = 1;
  let hasOperationAttrVerify = 1;
  let extraClassDeclaration = [{
    /// Gives `arith` and `math` ops their gradients and costs.
    void attachArithmeticInterfaces();
    /// Each adds the ops of one family.
    void addStructureOps();
    void addProductsOps();
    void addAttentionOps();
    void addNormsOps();
    void addReductionsOps();
    void addElementwiseOps();
    void addIndexingOps();
    void addLossOps();
    void addShapesOps();
  }];
}

#endif
