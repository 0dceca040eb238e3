//===- Processes.cpp - what Linux says of other processes of this machine -----------------------===//
#include "runtime/core/Processes.h"

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <unistd.h>

namespace fs = std::filesystem;

namespace galvatron {

static std::string textOf(const fs::path &path) {
  std::ifstream file(path);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

static fs::path folderOf(int pid) { return fs::path("/proc") / std::to_string(pid); }

Process Process::read(int pid) {
  Process process;
  std::string text = textOf(folderOf(pid) / "stat");
  // The name, in parentheses, may hold any of the marks around it.
  size_t open = text.find('('), close = text.rfind(')');
  if (open == std::string::npos || close == std::string::npos)
    return process;
  process.pid = pid;
  process.name = text.substr(open + 1, close - open - 1);
  std::istringstream rest(text.substr(close + 1));
  constexpr int kUserTicks = 14, kSystemTicks = 15; // proc(5) counts from 1
  std::string word;
  rest >> process.state >> process.parent;
  for (int field = 5; field <= kSystemTicks && rest >> word; ++field)
    if (field >= kUserTicks)
      process.ticks += std::atoll(word.c_str());
  return process;
}

std::vector<int> childrenOf(int pid) {
  std::vector<int> children;
  std::error_code error;
  for (const fs::directory_entry &thread : fs::directory_iterator(folderOf(pid) / "task", error)) {
    std::ifstream file(thread.path() / "children");
    for (int child; file >> child;)
      children.push_back(child);
  }
  return children;
}

std::string environmentOf(int pid, const std::string &variable) {
  std::ifstream file(folderOf(pid) / "environ");
  for (std::string entry; std::getline(file, entry, '\0');)
    if (entry.starts_with(variable + "="))
      return entry.substr(variable.size() + 1);
  return "";
}

bool hasThread(int pid, const std::string &name) {
  std::error_code error;
  for (const fs::directory_entry &thread : fs::directory_iterator(folderOf(pid) / "task", error))
    if (textOf(thread.path() / "comm") == name + "\n")
      return true;
  return false;
}

std::string hostName() {
  char name[256] = "";
  gethostname(name, sizeof name - 1);
  return name;
}

int64_t fileBytes() {
  std::ifstream file("/proc/self/io");
  int64_t bytes = 0, value;
  for (std::string key; file >> key >> value;)
    if (key == "wchar:" || key == "read_bytes:")
      bytes += value;
  return bytes;
}

} // namespace galvatron
