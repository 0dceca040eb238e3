// Phase `import` on what galvatron-import writes. Both kinds of attention give one body.
// RUN: galvatron-opt --compile-to=import %inputs/imported/llama-eager.mlir | FileCheck --check-prefix LLAMA %s
// RUN: galvatron-opt --compile-to=import %inputs/imported/llama-sdpa.mlir | FileCheck --check-prefix LLAMA %s
// RUN: galvatron-opt --compile-to=import %inputs/imported/gpt2-eager.mlir | FileCheck --check-prefix GPT2 %s
// RUN: galvatron-opt --compile-to=import %inputs/imported/gpt2-sdpa.mlir | FileCheck --check-prefix GPT2 %s
// RUN: galvatron-opt --compile-to=import %inputs/imported/gemma2-eager.mlir | FileCheck --check-prefix GEMMA2 %s
// RUN: galvatron-opt --compile-to=import %inputs/imported/handwritten-eager.mlir | FileCheck --check-prefix HANDWRITTEN %s
// It round-trips through text:
// RUN: galvatron-opt --compile-to=import %inputs/imported/llama-sdpa.mlir -o %t
// RUN: galvatron-opt %t | diff %t -

// LLAMA: graph.vocabulary = 256 : i64
// LLAMA: graph.layer @embedding(
// LLAMA-NEXT: graph.embedding
// LLAMA-NEXT: graph.return
// LLAMA: graph.layer @decoder(%[[X:.*]]: tensor<2x16x64xf32>, %{{.*}}: tensor<64xf32> {graph.init = {constant = 1.000000e+00 : f64}, graph.parameter = "input_layernorm.weight"}
// LLAMA-NEXT: graph.norm rms %[[X]]
// LLAMA-COUNT-2: graph.rope %{{.*}} half
// LLAMA: graph.attention %{{.*}} {causal, scale = 2.500000e-01 : f64} : (tensor<2x4x16x16xf32>, tensor<2x2x16x16xf32>, tensor<2x2x16x16xf32>)
// LLAMA: arith.addf
// LLAMA: graph.norm rms
// LLAMA: graph.gated_activation silu
// LLAMA: arith.addf
// LLAMA-NEXT: graph.return
// LLAMA: graph.layer @head(
// LLAMA-NEXT: graph.norm rms
// LLAMA-NEXT: graph.einsum
// LLAMA-NEXT: graph.shift
// LLAMA-NEXT: graph.cross_entropy %{{.*}} : (tensor<2x16x256xf32>, tensor<2x16xi64>)
// LLAMA-NEXT: graph.return
// LLAMA-NOT: graph.layer
// LLAMA: graph.call @embedding({{.*}}) parameters ["model.embed_tokens.weight"] path "model.embed_tokens"
// LLAMA-NEXT: graph.call @decoder({{.*}} path "model.layers.0"
// LLAMA-NEXT: graph.call @decoder({{.*}} path "model.layers.1"
// LLAMA-NEXT: graph.call @decoder({{.*}} path "model.layers.2"
// LLAMA-NEXT: graph.call @head({{.*}}) parameters ["model.norm.weight", "lm_head.weight"] path "lm_head"
// LLAMA-NEXT: return

// One fused parameter, three products; the embedding's table is the head's.
// GPT2: graph.layer @embedding(
// GPT2: graph.slice %{{.*}} offsets [0, 0] : tensor<{{.*}}x64xf32> -> tensor<16x64xf32>
// GPT2: graph.layer @decoder(
// GPT2-NEXT: graph.norm layer
// GPT2-COUNT-3: graph.einsum %{{.*}} : (tensor<2x16x64xf32>, tensor<64x64xf32>) -> tensor<2x16x64xf32>
// GPT2: graph.attention %{{.*}} {causal
// GPT2: graph.activation gelu_tanh
// GPT2: graph.layer @head(
// GPT2: graph.call @embedding({{.*}}) parameters ["transformer.wte.weight", "transformer.wpe.weight"] path "transformer.wte"
// GPT2: graph.call @decoder({{.*}} path "transformer.h.0"
// GPT2: graph.call @decoder({{.*}} path "transformer.h.1"
// GPT2: graph.call @decoder({{.*}} path "transformer.h.2"
// GPT2: graph.call @head({{.*}}) parameters ["transformer.ln_f.weight", "transformer.ln_f.bias", "transformer.wte.weight"] path "lm_head"

// Sliding and global layers alternate.
// GEMMA2: graph.layer @decoder0(
// GEMMA2: graph.norm rms {{.*}} offset = 1.000000e+00 : f64
// GEMMA2: graph.attention {{.*}}softcap = 5.000000e+01 : f64, window =
// GEMMA2: graph.gated_activation gelu_tanh
// GEMMA2: graph.layer @decoder1(
// GEMMA2: graph.attention
// GEMMA2-SAME: softcap = 5.000000e+01 : f64}
// GEMMA2: graph.call @decoder0({{.*}} path "model.layers.0"
// GEMMA2-NEXT: graph.call @decoder1({{.*}} path "model.layers.1"
// GEMMA2-NEXT: graph.call @decoder0({{.*}} path "model.layers.2"

// Attention and MLP side by side, one norm, positions as a parameter, a mask buffer, cut logits.
// HANDWRITTEN: graph.layer @decoder(
// HANDWRITTEN: graph.norm rms
// HANDWRITTEN: graph.attention {{.*}}causal
// HANDWRITTEN: graph.layer @head(
// HANDWRITTEN: graph.shift
// HANDWRITTEN: graph.call @decoder({{.*}} path "blocks.0"
// HANDWRITTEN: graph.call @decoder({{.*}} path "blocks.1"
