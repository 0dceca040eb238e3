//===- Result.h - A value or one error message ------------------*- C++ -*-===//
//
// The search library has no MLIR and throws nothing at its callers: whatever
// can fail because of input returns a Result. An error is one message that
// names the thing that is wrong, both values and the remedy, so that a caller
// (a pass, a tool) can print it as it is.
//
//===----------------------------------------------------------------------===//

#ifndef GALVATRON_SEARCH_MODEL_RESULT_H
#define GALVATRON_SEARCH_MODEL_RESULT_H

#include <cassert>
#include <string>
#include <utility>
#include <variant>

namespace galvatron::search {

/// Why something failed: lower-case start, no final period, in the form
/// "expects X, but got Y; remedy".
struct Error {
  std::string message;
  /// The key that a file lacks, if that is what is wrong: a caller may know
  /// another way to say it.
  std::string missingKey = {};
};

/// A `Value`, or the Error that prevented it. Test it before use.
template <typename Value> class [[nodiscard]] Result {
public:
  Result(Value value) : content(std::move(value)) {}
  Result(Error error) : content(std::move(error)) {}

  explicit operator bool() const { return content.index() == 0; }

  Value &operator*() {
    assert(*this && "result holds an error");
    return *std::get_if<0>(&content);
  }
  const Value &operator*() const {
    assert(*this && "result holds an error");
    return *std::get_if<0>(&content);
  }
  Value *operator->() { return &**this; }
  const Value *operator->() const { return &**this; }

  /// The error; only when the result is false.
  const Error &error() const {
    assert(!*this && "result holds a value");
    return *std::get_if<1>(&content);
  }

private:
  std::variant<Value, Error> content;
};

} // namespace galvatron::search

#endif // GALVATRON_SEARCH_MODEL_RESULT_H
