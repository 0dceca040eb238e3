# lit: every .mlir below test/ is a test whose RUN lines are shell commands.
import os
import subprocess

import lit.formats

config.name = "galvatron"
config.test_format = lit.formats.ShTest(execute_external=False)
config.suffixes = [".mlir", ".test"]
config.excludes = ["Inputs", "unit", "EndToEnd", "python", "Conventions", "corpus"]
config.test_source_root = os.path.join(config.galvatron_source_dir, "test")
config.test_exec_root = os.path.join(config.galvatron_binary_dir, "test")

# Tools are found by name, ours before LLVM's (FileCheck, not, split-file).
config.environment["PATH"] = os.pathsep.join(
    [os.path.join(config.galvatron_binary_dir, "bin"), config.llvm_tools_dir, os.environ["PATH"]]
)
for name in ("HOME", "TMPDIR", "ASAN_OPTIONS", "UBSAN_OPTIONS", "LSAN_OPTIONS"):
    if name in os.environ:
        config.environment[name] = os.environ[name]
config.environment["FILECHECK_OPTS"] = "--enable-var-scope --dump-input=fail"
for name, value in (
    ("OMPI_ALLOW_RUN_AS_ROOT", "1"),
    ("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1"),
    ("OMPI_MCA_rmaps_base_oversubscribe", "1"),
    ("OMPI_MCA_mpi_yield_when_idle", "1"),
):
    config.environment[name] = value

config.substitutions.append(("%python", config.galvatron_python))
config.substitutions.append(("%inputs", os.path.join(config.test_source_root, "Inputs")))

# File systems of one's own, full or read-only, which nobody else sees.
try:
    words = ["unshare", "--mount", "sh", "-c", "mount -t tmpfs -o size=4k none /mnt"]
    if subprocess.run(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0:
        config.available_features.add("mounts")
except FileNotFoundError:
    pass

if config.galvatron_has_import:
    config.available_features.add("import")
if config.galvatron_has_cuda:
    config.available_features.add("cuda")
