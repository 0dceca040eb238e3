// What makes two layers one to galvatron-profile, and what does not.
#include "galvatron/Costs/LayerHash.h"
#include "../Reference/Program.h"

using namespace galvatron;

namespace {

struct Shape {
  int samples = 4, positions = 8, width = 16, layers = 1;
  std::string op = "tanh", path = "model.layers";
};

/// Of a layer that takes its input times a weight through `op`; called once or several times.
std::string hashOf(const Shape &shape) {
  std::string rows = std::to_string(shape.samples) + "x" + std::to_string(shape.positions) + "x";
  std::string x = "tensor<" + rows + "16xf32>", y = "tensor<" + rows + std::to_string(shape.width) + "xf32>";
  std::string w = "tensor<" + std::to_string(shape.width) + "x16xf32>", calls, last = "x";
  for (int layer = 0; layer < shape.layers; ++layer) {
    std::string number = std::to_string(layer);
    calls += "    %" + number + " = graph.call @layer(%" + last + ") parameters [\"w" + number + "\"] path \"" +
             shape.path + "." + number + "\" : (" + x + ") -> " + x + "\n";
    last = number;
  }
  reference::Program program(
      "module attributes {graph.batch = " + std::to_string(shape.samples) + " : i64} {\n  graph.layer @layer(%x: " + x +
      ", %w: " + w + " {graph.parameter = \"w\"}) -> " + x + " {\n    %0 = graph.einsum %x, %w \"abc,dc->abd\" : (" +
      x + ", " + w + ") -> " + y + "\n    %1 = math." + shape.op + " %0 : " + y +
      "\n    %2 = graph.einsum %1, %w \"abd,dc->abc\" : (" + y + ", " + w + ") -> " + x +
      "\n    graph.return %2 : " + x + "\n  }\n  func.func @step(%x: " + x + ") -> " + x + " {\n" + calls +
      "    return %" + last + " : " + x + "\n  }\n}");
  return hashLayers(*program.module)["layer"];
}

TEST(LayerHash, SamplesDepthAndNamesDoNotCount) {
  std::string hash = hashOf({});
  EXPECT_EQ(hash.size(), 16u);
  EXPECT_EQ(hashOf({.samples = 6}), hash);
  EXPECT_EQ(hashOf({.layers = 3}), hash);
  EXPECT_EQ(hashOf({.path = "transformer.h"}), hash);
}

TEST(LayerHash, WidthAndCodeDo) {
  std::string hash = hashOf({});
  EXPECT_NE(hashOf({.width = 32}), hash);
  EXPECT_NE(hashOf({.op = "exp"}), hash);
}

} // namespace
