// Convolutions, in one and two dimensions (any number), as products of patches: the windows that a kernel sees are laid
// out along dimensions of their own, then contracted with it, so that all gradients are those of `graph.einsum`.
#include "Formula.h"

#include "llvm/ADT/STLExtras.h"

using namespace galvatron::importer;
using llvm::SmallVector;
using Results = SmallVector<Value, 1>;

namespace {

/// One spatial dimension.
struct Window {
  int64_t extent, kernel, stride, padding, dilation;

  int64_t reach() const { return dilation * (kernel - 1) + 1; }
  int64_t count() const { return (extent + 2 * padding - reach()) / stride + 1; }
  /// Windows lie side by side, and nothing is added.
  bool isTiling() const { return padding == 0 && (kernel == 1 || dilation == 1) && stride == kernel; }
};

struct Convolution {
  Call &call;
  Importer &importer = call.importer;
  Tensor x = call.tensor("input"),
         weight = call.tensor("weight"); // [batch, channels, …], [results, channels / groups, …]
  int64_t groups = call.integer("groups", 1);
  SmallVector<Window> windows;

  /// A list with a number for each spatial dimension, or with one for all.
  Shape sizes(llvm::StringRef name, int64_t least) const {
    Shape list = call.has(name) ? call.integers(name) : Shape{name == "padding" ? 0 : 1};
    if (list.size() == 1)
      list = Shape(windows.size(), list[0]);
    if (list.size() != windows.size() || llvm::any_of(list, [&](int64_t size) { return size < least; }))
      throw ImportError("expects " + name.str() + " of " + std::to_string(windows.size()) + " numbers from " +
                        std::to_string(least) + " on, but got " + describe(list));
    return list;
  }

  void check() {
    int64_t rank = x.rank() - 2;
    if (rank < 1 || weight.rank() != x.rank() || !isFloat(x.type) || x.type != weight.type)
      throw ImportError("expects an input [batch, channels, ...] and a weight of its rank and type, but got " +
                        describe(x.shape) + " and " + describe(weight.shape));
    if (call.flag("transposed", false))
      throw ImportError("transposed convolutions are unsupported; write it as a convolution of an upsampled input");
    if (groups < 1 || x.shape[1] % groups || weight.shape[0] % groups || weight.shape[1] != x.shape[1] / groups)
      throw ImportError("expects a weight [results, channels / groups, ...] to fit the input, but got " +
                        describe(weight.shape) + " for " + describe(x.shape) + " in " + std::to_string(groups) +
                        " groups");
    windows.resize(rank);
    Shape stride = sizes("stride", 1), padding = sizes("padding", 0), dilation = sizes("dilation", 1);
    for (auto [d, window] : llvm::enumerate(windows)) {
      window = {x.shape[d + 2], weight.shape[d + 2], stride[d], padding[d], dilation[d]};
      if (window.extent + 2 * window.padding < window.reach())
        throw ImportError("the kernel reaches over " + std::to_string(window.reach()) + " places of dimension " +
                          std::to_string(d + 2) + ", but the input has " +
                          std::to_string(window.extent + 2 * window.padding));
    }
  }

  Tensor padded(const Tensor &from, int64_t dim, int64_t before, int64_t after) const {
    SmallVector<Tensor> parts;
    auto zeros = [&](int64_t count) {
      Shape shape = from.shape;
      shape[dim] = count;
      if (count > 0)
        parts.push_back(Tensor::of(call.expressions.splat(from.type, shape, 0)));
    };
    zeros(before);
    parts.push_back(from);
    zeros(after);
    return parts.size() == 1 ? from : importer.concat(parts, dim);
  }

  Tensor cut(const Tensor &from, int64_t dim, int64_t begin, int64_t count) const {
    Shape at(from.rank(), 0), shape = from.shape;
    at[dim] = begin;
    shape[dim] = count;
    return importer.slice(from, at, shape);
  }

  /// Dimension `dim` [extent] becomes [windows, kernel].
  Tensor spread(Tensor from, int64_t dim, const Window &window) const {
    int64_t count = window.count();
    Shape shape = from.shape;
    shape.insert(shape.begin() + dim + 1, window.kernel);
    shape[dim] = count;
    if (window.isTiling())
      return importer.reshape(cut(from, dim, 0, count * window.kernel), shape);
    // Enough for each place of the kernel to be the first of `count` strides.
    int64_t needed = window.dilation * (window.kernel - 1) + count * window.stride;
    from = padded(from, dim, window.padding, std::max<int64_t>(0, needed - window.extent - window.padding));
    SmallVector<Tensor> places;
    Shape one = shape, strided = from.shape;
    one[dim + 1] = 1;
    strided[dim] = count;
    strided.insert(strided.begin() + dim + 1, window.stride);
    for (int64_t place = 0; place < window.kernel; ++place) {
      Tensor seen = cut(from, dim, place * window.dilation, count * window.stride);
      places.push_back(importer.reshape(cut(importer.reshape(seen, strided), dim + 1, 0, 1), one));
    }
    return importer.concat(places, dim + 1);
  }

  Tensor result() {
    check();
    Tensor patches = x; // [batch, channels, windows, kernel, windows, kernel, …]
    for (auto [d, window] : llvm::enumerate(windows))
      patches = spread(patches, 2 + 2 * int64_t(d), window);
    // b batch, g groups, c channels of a group, o results of a group, then window and place of each dimension.
    std::string left = "bgc", right = "goc", result = "bgo", letters = "hiwjdktl";
    auto grouped = [&](const Tensor &from, int64_t dim) {
      Shape shape = from.shape;
      shape.insert(shape.begin() + dim, groups);
      shape[dim + 1] /= groups;
      return importer.reshape(from, shape);
    };
    patches = grouped(patches, 1);
    Tensor kernel = grouped(weight, 0);
    Shape shape = {patches.shape[0], groups, kernel.shape[1]}, flat = {patches.shape[0], weight.shape[0]};
    assert(windows.size() * 2 <= letters.size() && "torch has them of up to three dimensions");
    for (auto [d, window] : llvm::enumerate(windows)) {
      left += letters.substr(2 * d, 2);
      right += letters[2 * d + 1];
      result += letters[2 * d];
      shape.push_back(window.count());
      flat.push_back(window.count());
    }
    if (groups == 1) { // no dimension of one
      auto without = [](std::string text) { return text.erase(text.find('g'), 1), text; };
      left = without(left), right = without(right), result = without(result);
      patches = importer.reshape(patches, dropped(patches.shape, 1));
      kernel = weight;
      shape = flat;
    }
    Tensor product = Tensor::of(call.emitter.einsum(importer.force(patches), importer.force(kernel),
                                                    left + "," + right + "->" + result, shape, x.type),
                                x.type);
    product = importer.reshape(product, flat);
    if (!call.has("bias"))
      return product;
    Shape column(x.rank() - 1, 1);
    column[0] = weight.shape[0];
    return importer.elementwise(Operator::Add, {product, importer.reshape(call.tensor("bias"), column)}, x.type,
                                x.type);
  }

  static Shape dropped(Shape shape, int64_t dim) {
    shape.erase(shape.begin() + dim);
    return shape;
  }
};

/// Means of equal pieces of the last dimensions, as many as `output_size` has numbers.
Results adaptiveAverage(Call &call) {
  Tensor x = call.tensor("self");
  Shape sizes = call.integers("output_size");
  Formula f{call, x.type};
  int64_t first = x.rank() - int64_t(sizes.size());
  assert(first >= 0 && isFloat(x.type) && "torch pools no others");
  Shape pieces(x.shape.begin(), x.shape.begin() + first), shape = pieces;
  SmallVector<int64_t> dims;
  double count = 1;
  for (auto [d, size] : llvm::enumerate(sizes)) {
    int64_t extent = x.shape[first + d];
    if (size < 1 || extent % size)
      throw ImportError("expects an output size that divides the input, but got " + std::to_string(size) + " for " +
                        std::to_string(extent) + "; pieces of unequal sizes are unsupported");
    pieces.append({size, extent / size});
    shape.push_back(size);
    dims.push_back(int64_t(pieces.size()) - 1);
    count *= double(extent / size);
  }
  Tensor sum = f.sum(call.importer.reshape(x, pieces), dims);
  return {Value(call.importer.reshape(f.multiply(sum, 1 / count), shape))};
}

Results convolution(Call &call) { return {Value(Convolution{call}.result())}; }

} // namespace

void galvatron::importer::addConvolutionRules(RuleTable &table) {
  for (const char *name : {"aten::_convolution", "aten::convolution", "aten::conv1d", "aten::conv2d", "aten::conv3d"})
    table.add(name, convolution);
  for (const char *name : {"aten::adaptive_avg_pool1d", "aten::adaptive_avg_pool2d", "aten::adaptive_avg_pool3d"})
    table.add(name, adaptiveAverage);
}
