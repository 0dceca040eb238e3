// Starts the ranks of a measurement under mpirun.
//
// mpirun gets a process group of its own, so that Ctrl-C in a terminal comes here alone: the ranks are asked to end
// (SIGTERM, after which mpirun kills them two seconds later; the journal is good at any moment). When this process is
// killed, the kernel ends mpirun, and mpirun its ranks.
#include "Start.h"

#include "Gpu.h"
#include "Machine.h"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <sstream>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

namespace galvatron::profile {

namespace {

volatile std::sig_atomic_t started = 0, interrupted = 0;

void onSignal(int) {
  interrupted = interrupted + 1;
  if (started)
    kill(started, interrupted < 2 ? SIGTERM : SIGKILL);
}

std::string quote(const std::string &word) {
  std::string text = "'";
  for (char c : word)
    text += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return text + "'";
}

std::string variable(const char *name) {
  const char *value = std::getenv(name);
  return value ? value : "";
}

/// Whether flags of mpirun say where ranks run; the words are those of runtime/launch.in.
bool nameHosts(const std::string &flags) {
  std::istringstream words(flags);
  for (std::string word; words >> word;)
    for (const char *option : {"--host", "-host", "-H", "--hostfile", "-hostfile", "--machinefile", "-machinefile",
                               "--default-hostfile", "--rankfile", "-rankfile"})
      if (word == option || word.starts_with(std::string(option) + "="))
        return true;
  return false;
}

/// What a scheduler leaves open, which mpirun would tell in words of its own.
std::string whyNoJob() {
  for (auto [job, hosts] : {std::pair("PBS_JOBID", "PBS_NODEFILE"), {"SLURM_JOB_ID", "SLURM_JOB_NODELIST"}})
    if (!variable(job).empty() && variable(hosts).empty())
      return std::string(job) + " is set, but " + hosts + " is not, so the hosts of the job are not known; start it in " +
             "the job, or unset " + job + " to run on this machine";
  return "";
}

/// What a shell runs. As `launch` does: where nobody else decides on hosts all ranks run here, share cores if there are
/// too few, and are not bound, as two runs at once would share one core.
std::string commandFor(std::int64_t ranks, const std::vector<std::string> &arguments) {
  std::string flags = variable("MPIRUN_FLAGS"), command = variable("MPIRUN");
  if (command.empty())
    command = "mpirun -q";
  bool isElsewhere = nameHosts(flags) || !variable("SLURM_JOB_ID").empty() || !variable("PBS_JOBID").empty();
  if (!isElsewhere) {
    if (flags.find("bind-to") == std::string::npos)
      command += " --bind-to none";
    if (ranks > usableCores()) {
      command += " --oversubscribe";
      setenv("OMPI_MCA_mpi_yield_when_idle", "1", 1);
    }
  }
  std::error_code ignored;
  std::string self = std::filesystem::read_symlink("/proc/self/exe", ignored).string();
  command += (flags.empty() ? "" : " " + flags) + " -np " + std::to_string(ranks) + " " + quote(self);
  for (const std::string &argument : arguments)
    command += " " + quote(argument);
  return command;
}

int run(const std::string &command) {
  struct sigaction action = {};
  action.sa_handler = onSignal;
  for (int number : {SIGINT, SIGTERM, SIGHUP})
    sigaction(number, &action, nullptr);
  pid_t parent = getpid(), child = fork();
  if (child < 0) {
    std::fprintf(stderr, "error: cannot start mpirun: %s\n", std::strerror(errno));
    return 1;
  }
  if (child == 0) {
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != parent)
      _exit(1);
    for (int number : {SIGINT, SIGTERM, SIGHUP})
      std::signal(number, SIG_DFL);
    if (!std::freopen("/dev/null", "r", stdin))
      _exit(127);
    std::string line = "exec " + command;
    execl("/bin/sh", "sh", "-c", line.c_str(), nullptr);
    _exit(127);
  }
  started = child;
  if (interrupted) // before there was anything to end
    kill(child, SIGTERM);
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  started = 0;
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

} // namespace

bool isRank() {
  for (const char *name : {"OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMIX_RANK", "SLURM_PROCID"})
    if (std::getenv(name))
      return true;
  return false;
}

int startRanks(const Options &options, const std::vector<std::string> &arguments) {
  if (std::string why = whyNoJob(); !why.empty() && !nameHosts(variable("MPIRUN_FLAGS"))) {
    std::fprintf(stderr, "error: %s\n", why.c_str());
    return 1;
  }
  if (geteuid() == 0) {
    setenv("OMPI_ALLOW_RUN_AS_ROOT", "1", 0);
    setenv("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1", 0);
  }
  setenv("GALVATRON_TERMINAL", isatty(STDOUT_FILENO) ? "1" : "0", 1);
  std::int64_t devices = options.target == "cuda" ? std::max<std::int64_t>(1, countGpus()) : usableCores();
  std::string command = commandFor(options.ranks ? options.ranks : devices, arguments);
  if (!options.quiet) {
    std::printf("%s\n", command.c_str());
    std::fflush(stdout);
  }
  int code = run(command);
  if (interrupted) {
    std::fprintf(stderr, "galvatron-profile: interrupted; the same command goes on from here\n");
    return 130;
  }
  if (code == 127)
    std::fprintf(stderr,
                 "error: cannot start '%s'; install Open MPI (Debian: openmpi-bin) or name a launcher with "
                 "MPIRUN\n",
                 command.substr(0, command.find(' ')).c_str());
  else if (code > 1)
    std::fprintf(stderr, "error: the ranks ended with code %d; the same command goes on from what was measured\n",
                 code);
  return code == 0 || code == 130 ? code : 1;
}

} // namespace galvatron::profile
