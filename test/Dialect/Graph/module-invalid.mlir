// What a module says of files and of its step.
// RUN: galvatron-opt %s -split-input-file -verify-diagnostics

// expected-error @below {{expects graph.weights to be the name of a file beside the program, but "../../x" names a folder}}
module attributes {graph.weights = "../../x"} {}

// -----

// expected-error @below {{expects graph.weights to be the name of a file beside the program, but "/etc/passwd" names a folder}}
module attributes {graph.weights = "/etc/passwd"} {}

// -----

// expected-error @below {{expects graph.buffers to be the name of a file beside the program, but "evil/launch" names a folder}}
module attributes {graph.buffers = "evil/launch"} {}

// -----

// expected-error @below {{expects graph.weights to be the name of a file beside the program, but "stage0" ends in neither .safetensors nor .weights}}
module attributes {graph.weights = "stage0"} {}

// -----

// expected-error @below {{but "launch" ends in neither}}
module attributes {graph.weights = "launch"} {}

// -----

// expected-error @below {{but "libgalvatron_rt.so" ends in neither}}
module attributes {graph.weights = "libgalvatron_rt.so"} {}

// -----

// expected-error @below {{but "plan.json" ends in neither}}
module attributes {graph.buffers = "plan.json"} {}

// -----

// expected-error @below {{but "" is empty}}
module attributes {graph.weights = ""} {}

// -----

// expected-error @below {{but ".safetensors" begins with a dot}}
module attributes {graph.weights = ".safetensors"} {}

// -----

// expected-error @below {{but "a\0A.safetensors" has a control character}}
module attributes {graph.weights = "a\0A.safetensors"} {}

// -----

// expected-error @below {{but "\FF.safetensors" is not UTF-8}}
module attributes {graph.weights = "\FF.safetensors"} {}

// -----

// expected-error @below {{expects graph.weights to be the name of a file}}
module attributes {graph.weights = 3} {}

// -----

// expected-error @below {{expects graph.batch 16 to be dimension 0 of the step's inputs, but input 0 has 8}}
module attributes {graph.batch = 16 : i64} {
  func.func @step(%ids: tensor<8x16xi64>) -> tensor<8x16xi64> {
    return %ids : tensor<8x16xi64>
  }
}

// -----

// expected-error @below {{expects graph.seq 8 to be dimension 1 of the step's inputs, but input 1 has 16}}
module attributes {graph.batch = 8 : i64, graph.seq = 8 : i64} {
  func.func @step(%ids: tensor<8x8xi64>, %labels: tensor<8x16xi64>) -> tensor<8x16xi64> {
    return %labels : tensor<8x16xi64>
  }
}

// -----

// expected-error @below {{expects graph.batch to be an integer of at least 1, but got 0 : i64}}
module attributes {graph.batch = 0 : i64} {}

// -----

// expected-error @below {{expects graph.vocabulary to be an integer of at least 0, but got -1 : i64}}
module attributes {graph.vocabulary = -1 : i64} {}

// -----

// Rows that are the same for all samples.
module attributes {graph.batch = 8 : i64, graph.seq = 16 : i64, graph.weights = "a b.safetensors", graph.buffers = "a.weights"} {
  func.func @step(%ids: tensor<8x16xi64>, %positions: tensor<1x16xi64>) -> tensor<8x16xi64> {
    return %ids : tensor<8x16xi64>
  }
}
