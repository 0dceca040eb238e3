// RUN: galvatron-opt %s -split-input-file -verify-diagnostics -galvatron-schedule-microbatches

// expected-error @below {{expects the attribute plan.pipeline; run galvatron-annotate-plan or galvatron-search-plan first}}
module {
}
