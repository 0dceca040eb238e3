//===- ModelFile.h - A Transformer's shape from its config ------*- C++ -*-===//
#ifndef GALVATRON_SEARCH_FORMATS_MODELFILE_H
#define GALVATRON_SEARCH_FORMATS_MODELFILE_H

#include "galvatron/Search/Model/Result.h"
#include "galvatron/Search/Model/TransformerModel.h"

#include <cstdint>
#include <string_view>

namespace galvatron::search {

/// Reads a Hugging Face `config.json` (hidden_size, num_hidden_layers,
/// num_attention_heads, num_key_value_heads, intermediate_size, vocab_size,
/// tie_word_embeddings; GPT-2's n_embd, n_layer, n_head, n_inner) with its own
/// many other keys. `sequence` 0 takes max_position_embeddings.
Result<TransformerShape> parseTransformerShape(std::string_view json, std::int64_t sequence, int bytesPerElement);

} // namespace galvatron::search

#endif // GALVATRON_SEARCH_FORMATS_MODELFILE_H
