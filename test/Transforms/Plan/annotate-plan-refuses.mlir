// What lib/Search refuses reaches the user as one error; its own tests go through every key.
// RUN: not galvatron-opt %S/../Inputs/three-layers.mlir --galvatron-annotate-plan=plan=%t.none.json 2>&1 | FileCheck %s --check-prefix=MISSING
// MISSING: error: cannot read the plan '{{.*}}.none.json': No such file or directory
// RUN: not galvatron-opt %S/../Inputs/three-layers.mlir --galvatron-annotate-plan="ranks=8 plan=%S/../Inputs/plan-own.json" 2>&1 | FileCheck %s --check-prefix=RANKS
// RANKS: error: plan key 'ranks' expects the cluster's 8 ranks, but got 4
// RUN: echo '{"units": [' > %t.json
// RUN: not galvatron-opt %S/../Inputs/three-layers.mlir --galvatron-annotate-plan=plan=%t.json 2>&1 | FileCheck %s --check-prefix=SYNTAX
// SYNTAX: error: plan is not valid JSON
// RUN: echo '{"ranks":2,"micro_batches":1,"units":[{"path":"embed"},{"path":"h.0"},{"path":"h.1"},{"path":"h.2"},{"path":"head"}],"zeor":1}' > %t.json
// RUN: not galvatron-opt %S/../Inputs/three-layers.mlir --galvatron-annotate-plan=plan=%t.json 2>&1 | FileCheck %s --check-prefix=KEY
// KEY: error: plan has an unknown key 'zeor' with value 1; known keys are
// RUN: echo '{"ranks":2,"micro_batches":1,"units":[{"path":"embed"},{"path":"h.0","strategy":{"tensor":2}},{"path":"h.1"},{"path":"h.2"},{"path":"head"}]}' > %t.json
// RUN: not galvatron-opt %S/../Inputs/three-layers.mlir --galvatron-annotate-plan=plan=%t.json 2>&1 | FileCheck %s --check-prefix=STRATEGYKEY
// STRATEGYKEY: error: plan layer 'h.0' strategy has an unknown key 'tensor'
// RUN: echo '{"ranks":2,"micro_batches":1,"units":[{"path":"embed"},{"path":"h.0"},{"path":"h.1"},{"path":"h.2"}]}' > %t.json
// RUN: not galvatron-opt %S/../Inputs/three-layers.mlir --galvatron-annotate-plan=plan=%t.json 2>&1 | FileCheck %s --check-prefix=LACKS
// LACKS: error: plan lacks a layer 'head' (the model has 5 layers, the plan 4); add it to 'units'
// RUN: echo '{"ranks":2,"micro_batches":1,"units":[{"path":"embed"},{"path":"h.0"},{"path":"h.1"},{"path":"h.2"},{"path":"head"},{"path":"h.3"}]}' > %t.json
// RUN: not galvatron-opt %S/../Inputs/three-layers.mlir --galvatron-annotate-plan=plan=%t.json 2>&1 | FileCheck %s --check-prefix=EXTRA
// EXTRA: error: plan names a layer 'h.3' that the model does not have; remove it, or did you mean 'h.0' or 'h.1' or 'h.2'?
// RUN: echo '{"ranks":4,"micro_batches":1,"units":[{"path":"embed"},{"path":"h.0","strategy":{"tp":3}},{"path":"h.1"},{"path":"h.2"},{"path":"head"}]}' > %t.json
// RUN: not galvatron-opt %S/../Inputs/three-layers.mlir --galvatron-annotate-plan=plan=%t.json 2>&1 | FileCheck %s --check-prefix=DEGREE
// DEGREE: error: plan layer 'h.0' (stage 0) expects tp x ulysses x cp to divide the stage's 4 ranks, but got 3 x 1 x 1; lower a degree or the pipeline degree
// RUN: echo '{"ranks":4,"micro_batches":4,"units":[{"path":"embed"},{"path":"h.0"},{"path":"h.1"},{"path":"h.2"},{"path":"head"}]}' > %t.json
// RUN: not galvatron-opt %S/../Inputs/three-layers.mlir --galvatron-annotate-plan=plan=%t.json 2>&1 | FileCheck %s --check-prefix=BATCH
// BATCH: error: plan layer 'embed' (stage 0) expects dp to divide the micro-batch of 2 samples (global batch 8 / micro-batches 4), but got dp 4; use fewer micro-batches or a smaller dp
// RUN: echo '{"ranks":2,"micro_batches":3,"units":[{"path":"embed"},{"path":"h.0"},{"path":"h.1"},{"path":"h.2"},{"path":"head"}]}' > %t.json
// RUN: not galvatron-opt %S/../Inputs/three-layers.mlir --galvatron-annotate-plan=plan=%t.json 2>&1 | FileCheck %s --check-prefix=MICRO
// MICRO: error: plan expects a number of micro-batches that divides the global batch of 8, but got 3
// RUN: echo '{"ranks":2,"micro_batches":1,"units":[{"path":"embed"},{"path":"h.0"},{"path":"h.1"},{"path":"h.2"},{"path":"head"}],"global_batch":16}' > %t.json
// RUN: not galvatron-opt %S/../Inputs/three-layers.mlir --galvatron-annotate-plan=plan=%t.json 2>&1 | FileCheck %s --check-prefix=GLOBAL
// GLOBAL: error: plan key 'global_batch' expects the global batch 8 that was asked for, but got 16
// RUN: echo '{"ranks":2,"micro_batches":1,"units":[{"path":"embed"},{"path":"h.0","strategy":{"tp":2,"zero":3}},{"path":"h.1"},{"path":"h.2"},{"path":"head"}]}' > %t.json
// RUN: not galvatron-opt %S/../Inputs/three-layers.mlir --galvatron-annotate-plan=plan=%t.json 2>&1 | FileCheck %s --check-prefix=ZERO
// ZERO: error: plan layer 'h.0' (stage 0) key 'zero' expects 0 where dp x ulysses x cp is 1, but got 3, which would share states among one rank; use zero 0
// RUN: echo '{"ranks":2,"micro_batches":1,"units":[{"path":"embed"},{"path":"h.0","strategy":{"tp":2,"reduce_every_micro_batch":false}},{"path":"h.1"},{"path":"h.2"},{"path":"head"}]}' > %t.json
// RUN: not galvatron-opt %S/../Inputs/three-layers.mlir --galvatron-annotate-plan=plan=%t.json 2>&1 | FileCheck %s --check-prefix=REDUCE
// REDUCE: error: plan layer 'h.0' (stage 0) key 'reduce_every_micro_batch' expects gradients that ranks have parts of, but dp x ulysses x cp is 1; remove it
// RUN: echo '{"ranks":2,"micro_batches":1,"units":[{"path":"embed"},{"path":"h.0","strategy":{"ep":2}},{"path":"h.1"},{"path":"h.2"},{"path":"head"}]}' > %t.json
// RUN: not galvatron-opt %S/../Inputs/three-layers.mlir --galvatron-annotate-plan=plan=%t.json 2>&1 | FileCheck %s --check-prefix=EXPERT
// EXPERT: error: plan layer 'h.0' (stage 0) key 'ep' is not supported by the lowering yet
// RUN: echo '{"pp_deg":1,"tp_sizes_enc":"1,1","world_size":1,"global_bsz":8}' > %t.json
// RUN: not galvatron-opt %S/../Inputs/three-layers.mlir --galvatron-annotate-plan=plan=%t.json 2>&1 | FileCheck %s --check-prefix=LAYERS
// LAYERS: error: plan key 'tp_sizes_enc' expects 3 entries, one for each layer, but got 2
// RUN: echo '{"pp_deg":2,"tp_sizes_enc":"1,1,1","pp_division":"2,2","world_size":2,"global_bsz":8,"chunks":2}' > %t.json
// RUN: not galvatron-opt %S/../Inputs/three-layers.mlir --galvatron-annotate-plan=plan=%t.json 2>&1 | FileCheck %s --check-prefix=STAGES
// STAGES: error: plan key 'pp_division' expects 2 counts (pp_deg) that add up to the model's 3 layers, but got 2 counts with the sum 4
// Degrees that do not divide what a layer would cut; KV heads that do not are no odd size, nor is a width that Ulysses leaves whole.
// RUN: echo '{"ranks":8,"units":[{"path":"embedding","strategy":{}},{"path":"layers.0","strategy":{"tp":8}},{"path":"layers.1"},{"path":"head","strategy":{}}]}' > %t.json
// RUN: not galvatron-opt %inputs/llama.mlir --galvatron-annotate-plan=plan=%t.json 2>&1 | FileCheck %s --check-prefix=HEADS
// HEADS: error: layer 'decoder' cannot use tp = 8: expects it to divide 4 (a factor of dimension 0 of self_attn.q_proj.weight); use a degree that does
// RUN: echo '{"ranks":8,"units":[{"path":"embedding","strategy":{}},{"path":"layers.0","strategy":{"ulysses":8}},{"path":"layers.1"},{"path":"head","strategy":{}}]}' > %t.json
// RUN: not galvatron-opt %inputs/llama.mlir --galvatron-annotate-plan=plan=%t.json 2>&1 | FileCheck %s --check-prefix=ULYSSES
// ULYSSES: error: layer 'decoder' cannot use ulysses = 8: expects it to divide 4 (a factor of dimension 0 of self_attn.q_proj.weight); use a degree that does
// RUN: echo '{"ranks":8,"units":[{"path":"embedding","strategy":{}},{"path":"layers.0","strategy":{"ulysses":4,"tp":2}},{"path":"layers.1"},{"path":"head","strategy":{}}]}' > %t.json
// RUN: not galvatron-opt %inputs/llama.mlir --galvatron-annotate-plan=plan=%t.json 2>&1 | FileCheck %s --check-prefix=BOTH
// BOTH: error: layer 'decoder' cannot use tp = 2: expects it to divide 4 (a factor of dimension 0 of self_attn.q_proj.weight), which is cut into 4 already; use a degree that does
// RUN: echo '{"ranks":3,"units":[{"path":"embedding","strategy":{"cp":3}},{"path":"layers.0","strategy":{"cp":3}},{"path":"layers.1","strategy":{"cp":3}},{"path":"head","strategy":{"cp":3}}]}' > %t.json
// RUN: not galvatron-opt %inputs/llama.mlir --galvatron-annotate-plan=plan=%t.json 2>&1 | FileCheck %s --check-prefix=CONTEXT
// CONTEXT: error: layer 'embedding' cannot use cp = 3: expects it to divide 16 positions; use a degree that does, or say "pad": true in its strategy
// RUN: echo '{"ranks":16,"units":[{"path":"embedding","strategy":{"cp":16,"cp_zigzag":true}},{"path":"layers.0","strategy":{"cp":16}},{"path":"layers.1","strategy":{"cp":16}},{"path":"head","strategy":{"cp":16}}]}' > %t.json
// RUN: not galvatron-opt %inputs/llama.mlir --galvatron-annotate-plan=plan=%t.json 2>&1 | FileCheck %s --check-prefix=ZIGZAG
// ZIGZAG: error: layer 'embedding' cannot use cp_zigzag = true with cp = 16: expects 2 x cp to divide 16 positions; use cp_zigzag false or another cp, or say "pad": true in its strategy
// RUN: echo '{"ranks":3,"units":[{"path":"embedding","strategy":{"tp":3}},{"path":"layers.0","strategy":{"tp":3}},{"path":"layers.1","strategy":{"tp":3}},{"path":"head","strategy":{"tp":3}}]}' > %t.json
// RUN: not galvatron-opt %inputs/llama.mlir --galvatron-annotate-plan=plan=%t.json 2>&1 | FileCheck %s --check-prefix=VOCABULARY
// VOCABULARY: error: layer 'embedding' cannot use tp = 3: expects it to divide 32 (dimension 0 of weight); use a degree that does
// Positions from both ends where a plan leaves it open, but not where that would cut too many pieces.
// RUN: echo '{"ranks":4,"units":[{"path":"embedding","strategy":{"cp":4}},{"path":"layers.0","strategy":{"cp":4}},{"path":"layers.1","strategy":{"cp":4}},{"path":"head","strategy":{"cp":4}}]}' > %t.json
// RUN: galvatron-opt %inputs/llama.mlir --galvatron-annotate-plan=plan=%t.json 2>&1 | FileCheck %s --check-prefix=BOTHENDS
// BOTHENDS-COUNT-4: plan.strategy = #plan.strategy<cp = 4, cp_zigzag = true>
// RUN: echo '{"ranks":16,"units":[{"path":"embedding","strategy":{"cp":8,"tp":2,"sequence_parallel":true}},{"path":"layers.0","strategy":{"cp":8,"tp":2,"sequence_parallel":true}},{"path":"layers.1","strategy":{"cp":8,"tp":2,"sequence_parallel":true}},{"path":"head","strategy":{"cp":8,"tp":2,"sequence_parallel":true}}]}' > %t.json
// RUN: galvatron-opt %inputs/llama.mlir --galvatron-annotate-plan=plan=%t.json 2>&1 | FileCheck %s --check-prefix=STRETCHES
// STRETCHES-NOT: cp_zigzag
// STRETCHES: plan.strategy = #plan.strategy<tp = 2, sequence_parallel = true, cp = 8>
// STRETCHES-NOT: cp_zigzag
// Padding is offered where the plan's format has a word for it, and where it would help.
// HEADS-SAME: , or say "pad": true in its strategy
// ULYSSES-NOT: pad
// RUN: echo '{"pp_deg":1,"tp_sizes_enc":"8,1","world_size":8,"global_bsz":8}' > %t.json
// RUN: not galvatron-opt %inputs/llama.mlir --galvatron-annotate-plan=plan=%t.json 2>&1 | FileCheck %s --check-prefix=FLAT
// FLAT: error: layer 'decoder' cannot use tp = 8: expects it to divide 4 (a factor of dimension 0 of self_attn.q_proj.weight); use a degree that does, or write the plan in this project's format (docs/plans.md), whose "pad" pads it
// RUN: echo '{"ranks":8,"units":[{"path":"embedding"},{"path":"layers.0","strategy":{"ulysses":8,"pad":true}},{"path":"layers.1"},{"path":"head"}]}' > %t.json
// RUN: not galvatron-opt %inputs/llama.mlir --galvatron-annotate-plan=plan=%t.json 2>&1 | FileCheck %s --check-prefix=BEYOND
// BEYOND: error: layer 'decoder' cannot use ulysses = 8: expects at most its query heads, 4 (a factor of dimension 0 of self_attn.q_proj.weight), as ranks beyond them would have padding alone; use a smaller ulysses, and cp or dp for the rest
// What layers with a tied parameter must say alike.
// RUN: echo '{"ranks":2,"units":[{"path":"embedding","strategy":{"zero":2}},{"path":"layers.0"},{"path":"layers.1"},{"path":"head"}]}' > %t.json
// RUN: not galvatron-opt %inputs/gpt2.mlir --galvatron-annotate-plan=plan=%t.json 2>&1 | FileCheck %s --check-prefix=TIED
// TIED: error: plan expects one level of ZeRO of the tied parameter transformer.wte.weight, but its layers 'transformer.wte' and 'lm_head' have zero 2 and 0; give them the same one
// RUN: echo '{"ranks":2,"micro_batches":2,"units":[{"path":"embedding"},{"path":"layers.0"},{"path":"layers.1"},{"path":"head","strategy":{"reduce_every_micro_batch":true}}]}' > %t.json
// RUN: not galvatron-opt %inputs/gpt2.mlir --galvatron-annotate-plan=plan=%t.json 2>&1 | FileCheck %s --check-prefix=TIEDSUMS
// TIEDSUMS: error: plan expects the gradient of the tied parameter transformer.wte.weight to be reduced once a step or after each micro-batch, but its layers 'transformer.wte' and 'lm_head' say both; give them the same reduce_every_micro_batch
