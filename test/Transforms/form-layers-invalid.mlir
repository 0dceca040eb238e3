// RUN: galvatron-opt --galvatron-form-layers -split-input-file -verify-diagnostics %s

// expected-error @+1 {{expects a function @step with a body; write one with galvatron-import}}
module {
}
