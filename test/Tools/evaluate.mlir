// What the program computes is the same before and after it is divided: losses of the evaluator, to 6 digits.
// RUN: galvatron-opt --compile-to=differentiate %S/../Inputs/llama.mlir -o %t.mlir
// RUN: galvatron-opt --evaluate %t.mlir --optimizer sgd --lr 0.1 --steps 2 > %t.csv
// RUN: FileCheck %s < %t.csv
// RUN: galvatron-opt %t.mlir --galvatron-annotate-plan="dp=2 tp=2 micro-batches=2" --galvatron-phase-shard -o %t.shard.mlir
// RUN: galvatron-opt --evaluate %t.shard.mlir --optimizer sgd --lr 0.1 --steps 2 > %t.shard.csv
// RUN: cut -c1-8 %t.csv > %t.short && cut -c1-8 %t.shard.csv > %t.shard.short && diff %t.short %t.shard.short
// The timetables of all ranks, bodies as they are after phase stage or kept in the lowered program: the same again.
// RUN: galvatron-opt --compile-to=stage %t.shard.mlir -o %t.stage.mlir && galvatron-opt --evaluate %t.stage.mlir --optimizer sgd --lr 0.1 --steps 2 > %t.stage.csv
// RUN: cut -c1-8 %t.stage.csv | diff %t.short -
// RUN: galvatron-opt --compile-to=lower --keep-bodies %t.stage.mlir -o %t.lower.mlir && galvatron-opt --evaluate %t.lower.mlir --optimizer sgd --lr 0.1 --steps 2 | diff %t.stage.csv -
// RUN: galvatron-opt --compile-to=lower %t.stage.mlir -o %t.bare.mlir && not galvatron-opt --evaluate %t.bare.mlir 2>&1 | FileCheck --check-prefix=BARE %s
// RUN: not galvatron-opt --compile-to=stage --keep-bodies %t.shard.mlir 2>&1 | FileCheck --check-prefix=KEEP %s
// A program that has no gradients yet gets them: the same losses, and they fall.
// RUN: galvatron-opt --evaluate %S/../Inputs/llama.mlir --optimizer sgd --lr 0.1 --steps 2 | diff %t.csv -
// RUN: not galvatron-opt < /dev/null 2>&1 | FileCheck --check-prefix=NOTHING %s
// RUN: galvatron-opt < %S/../Inputs/llama.mlir | FileCheck --check-prefix=FILTER %s
// RUN: not galvatron-opt --evaluate %t.mlir --optimizer adam 2>&1 | FileCheck --check-prefix=OPTIMIZER %s
// RUN: not galvatron-opt --evaluate --search %t.mlir 2>&1 | FileCheck --check-prefix=ALONE %s

// CHECK: step,loss,grad_norm
// CHECK: {{^}}1,{{[0-9.]+}},{{[0-9.]+}}
// CHECK: {{^}}2,
// OPTIMIZER: expects --optimizer adamw or sgd, but got 'adam'
// ALONE: expects --evaluate alone; first write the program of a phase with --compile-to
// BARE: expects a lowered program that says what its bodies compute; compile it with --keep-bodies, or evaluate the program after phase stage
// KEEP: expects --keep-bodies with --compile-to=lower, whose program then says what its bodies compute
// NOTHING: error: expects a program: galvatron-opt --search --lower model.mlir, or MLIR on standard input; --help tells the rest
// FILTER: func.func @step
