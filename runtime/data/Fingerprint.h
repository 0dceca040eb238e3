//===- Fingerprint.h - the identity of a file of data, whatever it is called --------------------===//
#ifndef GALVATRON_RUNTIME_DATA_FINGERPRINT_H
#define GALVATRON_RUNTIME_DATA_FINGERPRINT_H

#include <string>
#include <vector>

namespace galvatron {

/// 16 hexadecimal digits of the files' sizes and of up to 32 pieces of each, spread evenly over it, its begin and end
/// among them; a piece is 4 KiB. Empty where a file cannot be read.
std::string fingerprint(const std::vector<std::string> &paths);

} // namespace galvatron

#endif
