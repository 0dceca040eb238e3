# To be sourced (. scripts/env.sh), in bash, zsh, or any POSIX shell whose working directory is inside the tree:
# build/bin and .venv/bin on PATH, python/ on PYTHONPATH, and the environment that mpirun needs here.
# Another build folder: GALVATRON_BUILD_DIR=build-release . scripts/env.sh
if [ -n "${BASH_SOURCE:-}" ]; then
  _galvatron_file=$BASH_SOURCE
elif [ -n "${ZSH_VERSION:-}" ]; then
  eval '_galvatron_file=${(%):-%x}'
else
  # Such a shell does not know which file it reads: look upwards from the working directory.
  _galvatron_file=$PWD
  while [ "$_galvatron_file" != / ] && [ ! -f "$_galvatron_file/scripts/env.sh" ]; do
    _galvatron_file=$(dirname "$_galvatron_file")
  done
  _galvatron_file=$_galvatron_file/scripts/env.sh
fi
_galvatron_root=$(CDPATH= cd "$(dirname "$_galvatron_file")/.." && pwd)
if [ ! -f "$_galvatron_root/scripts/env.sh" ]; then
  echo "env.sh: this shell cannot tell where the file is; source it from inside the tree" >&2
  return 1
fi

case ${GALVATRON_BUILD_DIR:-build} in
  /*) _galvatron_build=$GALVATRON_BUILD_DIR ;;
  *) _galvatron_build=$_galvatron_root/${GALVATRON_BUILD_DIR:-build} ;;
esac

# Sourcing twice adds nothing twice.
case :$PATH: in
  *":$_galvatron_build/bin:$_galvatron_root/.venv/bin:"*) ;;
  *) PATH=$_galvatron_build/bin:$_galvatron_root/.venv/bin:$PATH ;;
esac
case :${PYTHONPATH:-}: in
  *":$_galvatron_root/python:"*) ;;
  *) PYTHONPATH=$_galvatron_root/python${PYTHONPATH:+:$PYTHONPATH} ;;
esac
export PATH PYTHONPATH

# Open MPI refuses root, and more ranks than cores, unless told otherwise; ranks that wait should yield their core
# (3 times faster when ranks share cores).
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
export OMPI_MCA_rmaps_base_oversubscribe=1 OMPI_MCA_mpi_yield_when_idle=1

unset _galvatron_file _galvatron_root _galvatron_build
