//===- ModelFile.cpp - A Transformer's shape from its config --------------===//

#include "galvatron/Search/Formats/ModelFile.h"

#include "JsonReader.h"

namespace galvatron::search {

Result<TransformerShape> parseTransformerShape(std::string_view text, std::int64_t sequence, int bytesPerElement) {
  Result<Json> json = parseJson(text, "model config");
  if (!json)
    return json.error();
  // A model config has many keys that say nothing about cost: not strict.
  JsonReader reader(*json, "model config");
  TransformerShape shape;
  auto either = [&](const char *name, const char *gpt2, std::optional<std::int64_t> fallback) {
    const char *key = reader.has(gpt2) && !reader.has(name) ? gpt2 : name;
    const Json *member = reader.member(key);
    if (member && member->is_null() && fallback)
      return *fallback;
    return reader.integer(key, fallback, 1);
  };
  shape.name = reader.text("model_type", "transformer");
  shape.hidden = either("hidden_size", "n_embd", {});
  shape.layers = either("num_hidden_layers", "n_layer", {});
  shape.heads = either("num_attention_heads", "n_head", {});
  shape.kvHeads = either("num_key_value_heads", "num_kv_heads", shape.heads);
  shape.ffn = either("intermediate_size", "n_inner", 4 * shape.hidden);
  shape.vocab = either("vocab_size", "vocab_size", {});
  shape.tiedEmbedding = reader.flag("tie_word_embeddings", reader.has("n_embd"));
  for (const char *key : {"num_local_experts", "num_experts", "n_routed_experts"})
    if (!shape.experts && reader.has(key))
      shape.experts = reader.integer(key, {}, 1);
  if (shape.experts) {
    shape.expertsPerToken = reader.integer("num_experts_per_tok", {}, 1);
    shape.ffn = reader.integer("moe_intermediate_size", shape.ffn, 1);
    if (!reader.failed() && shape.expertsPerToken > shape.experts)
      reader.fail("key 'num_experts_per_tok' expects at most the " + std::to_string(shape.experts) +
                  " experts, but got " + std::to_string(shape.expertsPerToken));
  }
  std::string activation = reader.text("hidden_act", "");
  shape.gatedMlp = activation == "silu" || activation == "swiglu";
  std::int64_t positions = either("max_position_embeddings", "n_positions", 0);
  shape.sequence = sequence ? sequence : positions;
  shape.bytesPerElement = bytesPerElement;
  if (!reader.failed() && shape.sequence < 1)
    reader.fail("has no max_position_embeddings; give --seq");
  if (reader.failed())
    return *reader.finish();
  return shape;
}

} // namespace galvatron::search
