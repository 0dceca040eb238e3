// fuzz [--corpus DIR] [--formats A,B] [--seed S] [--first K] [--count N] [--seconds T] [--state FILE] [--write K]
//
// Reads every file of the corpus, which has to be accepted, then N inputs of each format, or as many as T seconds allow.
// --state goes on after the last input that is noted there, up to the same N. --write K prints an input instead of reading it.
#include "Fuzz.h"

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <map>
#include <unistd.h>

namespace fs = std::filesystem;
using namespace galvatron::fuzz;

extern "C" void __sanitizer_set_death_callback(void (*)()) __attribute__((weak));

namespace {

/// What is being read, for who dies over it.
char current[256] = "no input";
constexpr unsigned kMostSeconds = 20;

void tell() {
  for (const char *text : {"\nfuzz: died over ", static_cast<const char *>(current), "\n"})
    (void)!write(STDERR_FILENO, text, std::strlen(text));
}

void onSignal(int number) {
  tell();
  std::signal(number, SIG_DFL);
  raise(number);
}

std::string readAll(const fs::path &path) {
  std::ifstream file(path, std::ios::binary);
  return std::string(std::istreambuf_iterator<char>(file), {});
}

struct Options {
  fs::path corpus = "test/Fuzz/corpus";
  std::string formats, state;
  uint64_t seed = 1, first = 0, count = 1000;
  double seconds = 1e9;
  int64_t write = -1;
};

Options parse(int argc, char **argv) {
  Options options;
  for (int i = 1; i + 1 < argc; i += 2) {
    std::string name = argv[i], value = argv[i + 1];
    if (name == "--corpus")
      options.corpus = value;
    else if (name == "--formats")
      options.formats = "," + value + ",";
    else if (name == "--state")
      options.state = value;
    else if (name == "--seed")
      options.seed = std::stoull(value);
    else if (name == "--first")
      options.first = std::stoull(value);
    else if (name == "--count")
      options.count = std::stoull(value);
    else if (name == "--seconds")
      options.seconds = std::stod(value);
    else if (name == "--write")
      options.write = std::stoll(value);
    else
      std::fprintf(stderr, "fuzz: unknown option %s\n", name.c_str()), std::exit(2);
  }
  if (argc % 2 == 0)
    std::fprintf(stderr, "fuzz: expects options with a value each\n"), std::exit(2);
  return options;
}

std::vector<std::string> readCorpus(const fs::path &folder) {
  std::vector<fs::path> paths;
  for (const fs::directory_entry &entry : fs::directory_iterator(folder))
    paths.push_back(entry.path());
  std::sort(paths.begin(), paths.end());
  std::vector<std::string> corpus;
  for (const fs::path &path : paths)
    corpus.push_back(readAll(path));
  return corpus;
}

std::string makeInput(const Format &format, const std::vector<std::string> &corpus, uint64_t seed, uint64_t number) {
  Random random(seed, number);
  return format.mutate(random, random.pick(corpus));
}

/// Inputs read before, by format.
std::map<std::string, uint64_t> readState(const std::string &path) {
  std::map<std::string, uint64_t> state;
  std::ifstream file(path);
  std::string name;
  for (uint64_t next; file >> name >> next;)
    state[name] = next;
  return state;
}

void writeState(const std::string &path, const std::map<std::string, uint64_t> &state) {
  std::ofstream file(path + ".new");
  for (const auto &[name, next] : state)
    file << name << " " << next << "\n";
  file.close();
  fs::rename(path + ".new", path);
}

/// Returns whether the corpus was accepted.
bool run(const Format &format, const Options &options, std::map<std::string, uint64_t> &state) {
  std::vector<std::string> corpus = readCorpus(options.corpus / format.name);
  for (size_t i = 0; i < corpus.size(); ++i) {
    std::snprintf(current, sizeof current, "file %zu of the corpus of %s", i, format.name.c_str());
    if (std::string why = format.read(corpus[i]); !why.empty()) {
      std::fprintf(stderr, "fuzz: expects the reader to accept %s, but it says: %s\n", current, why.c_str());
      return false;
    }
  }
  using Clock = std::chrono::steady_clock;
  auto begin = Clock::now();
  auto spent = [&] { return std::chrono::duration<double>(Clock::now() - begin).count(); };
  auto known = state.find(format.name);
  uint64_t first = known == state.end() ? options.first : known->second, end = options.first + options.count;
  uint64_t number = first, accepted = 0;
  for (; number < end && spent() < options.seconds; ++number) {
    std::snprintf(current, sizeof current, "--formats %s --seed %llu --write %llu", format.name.c_str(),
                  (unsigned long long)options.seed, (unsigned long long)number);
    alarm(kMostSeconds);
    accepted += format.read(makeInput(format, corpus, options.seed, number)).empty();
    if (!options.state.empty() && number % 1024 == 1023)
      state[format.name] = number + 1, writeState(options.state, state);
  }
  alarm(0);
  state[format.name] = number;
  if (!options.state.empty())
    writeState(options.state, state);
  std::printf("%-14s %9llu inputs, %5.1f %% accepted, %7.1f s\n", format.name.c_str(),
              (unsigned long long)(number - first), number == first ? 0.0 : 100.0 * accepted / (number - first), spent());
  std::fflush(stdout);
  return true;
}

} // namespace

void galvatron::fuzz::breakPromise(const std::string &what) {
  std::fprintf(stderr, "fuzz: %s\n", what.c_str());
  std::abort();
}

int main(int argc, char **argv) {
  Options options = parse(argc, argv);
  if (__sanitizer_set_death_callback)
    __sanitizer_set_death_callback(tell);
  else
    for (int number : {SIGSEGV, SIGBUS, SIGFPE, SIGILL})
      std::signal(number, onSignal);
  for (int number : {SIGABRT, SIGALRM})
    std::signal(number, onSignal);
  fs::path folder = fs::temp_directory_path() / ("galvatron-fuzz-" + std::to_string(getpid()));
  fs::create_directory(folder);
  std::map<std::string, uint64_t> state = readState(options.state);
  bool isGood = true, isAny = false;
  for (const Format &format : makeFormats(folder)) {
    if (!options.formats.empty() && options.formats.find("," + format.name + ",") == std::string::npos)
      continue;
    isAny = true;
    if (options.write >= 0) {
      std::string input = makeInput(format, readCorpus(options.corpus / format.name), options.seed, options.write);
      std::fwrite(input.data(), 1, input.size(), stdout);
    } else {
      isGood &= run(format, options, state);
    }
  }
  fs::remove_all(folder);
  if (!isAny)
    std::fprintf(stderr, "fuzz: no format of these names\n");
  return isGood && isAny ? 0 : 1;
}
