//===- BodyWorkJson.cpp - What a body calls, as JSON ----------------------===//

#include "BodyWorkJson.h"

#include "galvatron/Search/Model/MachineTables.h"

namespace galvatron::search {

using OrderedJson = nlohmann::ordered_json;

/// Nothing that one call computes or moves comes near.
static constexpr double kMostAmount = 1e24;

static constexpr CollectiveKind kKinds[] = {CollectiveKind::AllReduce, CollectiveKind::AllGather,
                                            CollectiveKind::ReduceScatter, CollectiveKind::AllToAll,
                                            CollectiveKind::SendReceive};

template <typename Value> static void put(OrderedJson &json, const char *key, Value value, Value unless) {
  if (value != unless)
    json[key] = value;
}

OrderedJson writeWork(const BodyWork &work) {
  OrderedJson kernels = OrderedJson::array(), messages = OrderedJson::array();
  for (const auto &[count, of] : work.kernels) {
    OrderedJson json = OrderedJson::object();
    put<std::int64_t>(json, "count", count, 1);
    put(json, "flops", of.flops, 0.0), put(json, "bytes", of.bytes, 0.0), put(json, "pairs", of.pairs, 0.0);
    put(json, "product", of.isProduct, false), put(json, "backward", of.isBackward, false);
    kernels.push_back(std::move(json));
  }
  for (const BodyWork::Message &of : work.messages) {
    OrderedJson json = {{"kind", measuredName(of.kind)}};
    put<std::int64_t>(json, "count", of.count, 1);
    json["bytes"] = of.bytes, json["ranks"] = of.ranks;
    messages.push_back(std::move(json));
  }
  return {{"kernels", kernels}, {"messages", messages}};
}

static double readAmount(JsonReader &reader, const char *key) {
  double value = reader.number(key, 0.0);
  if (value < 0 || value > kMostAmount)
    reader.fail("key '" + std::string(key) + "' expects a number from 0 to " + Json(kMostAmount).dump() + ", but got " +
                Json(value).dump());
  return value;
}

static std::int64_t readCount(JsonReader &reader) { return reader.integer("count", 1, 1, kMostOfAnything); }

static BodyWork::Kernel readKernel(JsonReader &reader) {
  BodyWork::Kernel kernel;
  kernel.count = readCount(reader);
  KernelAmounts &of = kernel.amounts;
  of.flops = readAmount(reader, "flops"), of.bytes = readAmount(reader, "bytes"),
  of.pairs = readAmount(reader, "pairs");
  of.isProduct = reader.flag("product", false), of.isBackward = reader.flag("backward", false);
  return kernel;
}

static BodyWork::Message readMessage(JsonReader &reader) {
  BodyWork::Message message;
  std::string kind = reader.text("kind"), list;
  bool isKnown = false;
  for (CollectiveKind each : kKinds) {
    list += (list.empty() ? "" : ", ") + std::string(measuredName(each));
    if (kind == measuredName(each))
      message.kind = each, isKnown = true;
  }
  if (!isKnown)
    reader.fail("key 'kind' expects one of " + list + ", but got '" + kind + "'");
  message.count = readCount(reader), message.bytes = readAmount(reader, "bytes");
  message.ranks = reader.integer("ranks", {}, 1, kMostOfAnything);
  return message;
}

BodyWork readWork(JsonReader &parent, const char *key) {
  BodyWork work;
  const Json *member = parent.member(key), none = Json::object();
  std::string where = "key '" + std::string(key) + "'";
  JsonReader reader(member ? *member : none, where);
  auto readList = [&](const char *name, auto read) {
    const Json *list = reader.member(name);
    if (!list || !list->is_array())
      return reader.fail("key '" + std::string(name) + "' expects a list, but got " +
                         (list ? describeJson(*list) : "nothing"));
    for (std::size_t index = 0; index < list->size(); ++index) {
      JsonReader entry((*list)[index], where + " " + name + "[" + std::to_string(index) + "]");
      read(entry);
      if (auto error = entry.finish())
        return parent.fail(error->message);
    }
  };
  readList("kernels", [&](JsonReader &entry) { work.kernels.push_back(readKernel(entry)); });
  readList("messages", [&](JsonReader &entry) { work.messages.push_back(readMessage(entry)); });
  if (auto error = reader.finish())
    parent.fail(error->message);
  return work;
}

} // namespace galvatron::search
