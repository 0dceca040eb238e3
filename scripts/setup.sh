#!/usr/bin/env bash
# Installs what is missing, asks nothing, and does nothing when all is there (0.5 s): Debian packages through apt, Python
# packages into .venv of this tree. With --cuda also what the cuda device is built with: compiler, headers and libraries
# from PyPI (1.5 GB), no GPU or driver needed.
set -euo pipefail
case $* in '') cuda=no ;; --cuda) cuda=yes ;; *) echo "usage: $0 [--cuda]" >&2; exit 2 ;; esac
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

say() { printf '\033[1m[setup]\033[0m %s\n' "$*"; }
die() { printf '[setup] error: %s\n' "$*" >&2; exit 1; }

as_root() {
  if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo -n "$@"; fi
}

is_installed() { [ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null || true)" = installed ]; }

# apt_install PACKAGE...: one update before the first installation of this run.
apt_updated=no
apt_install() {
  command -v apt-get >/dev/null || die "these Debian packages are needed, but there is no apt-get here: $*"
  if [ "$(id -u)" -ne 0 ] && ! sudo -n true 2>/dev/null; then
    die "these packages need root, and sudo asks for a password; run this by hand and start again:
  sudo apt-get update && sudo apt-get install -y --no-install-recommends $*"
  fi
  # A lock held by another apt (unattended upgrades of a fresh machine) is waited for.
  local options=(-qq -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3)
  if [ "$apt_updated" = no ]; then
    say "apt-get update"
    as_root apt-get "${options[@]}" update || say "apt-get update failed in part; going on with what is known"
    apt_updated=yes
  fi
  say "apt-get install $*"
  as_root env DEBIAN_FRONTEND=noninteractive apt-get "${options[@]}" install -y --no-install-recommends "$@" \
    </dev/null >/dev/null ||
    die "apt-get install failed. LLVM and MLIR 22 are in Debian 12's security suite (bookworm-security main);
  see that the sources of apt have it."
}

install_debian_packages() {
  local missing=() package
  while read -r package _; do
    case $package in '' | '#'*) continue ;; esac
    is_installed "$package" || missing+=("$package")
  done <"$root/scripts/apt-packages.txt"
  [ ${#missing[@]} -eq 0 ] || apt_install "${missing[@]}"
}

# Prints the first Python that is new enough for torch and can make virtual environments.
find_python() {
  local python
  for python in python3 /usr/bin/python3 python3.13 python3.12 python3.11; do
    if "$python" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      "$python" -c 'import sys; print(sys.executable)'
      return
    fi
  done
  return 1
}

# pip_install FILE OPTION...: unless just this file was installed before.
pip_install() {
  local file=$1 stamp=$root/.venv/installed-$1
  shift
  if ! cmp -s "$root/$file" "$stamp"; then
    say "pip install -r $file"
    "$root/.venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-input --retries 5 "$@" \
      -r "$root/$file" </dev/null || die "pip install -r $file failed"
    cp "$root/$file" "$stamp"
  fi
}

make_venv() {
  local python
  if [ -e "$root/.venv" ] && ! "$root/.venv/bin/python" -m pip --version >/dev/null 2>&1; then
    say ".venv does not start (moved, or its Python is gone): making it anew"
    rm -rf "$root/.venv"
  fi
  if [ ! -e "$root/.venv" ]; then
    if ! python=$(find_python); then
      apt_install python3 python3-venv
      python=$(find_python) || die "Python 3.11 or newer with venv is needed, but none was found"
    fi
    say "virtual environment .venv with $("$python" --version)"
    "$python" -m venv "$root/.venv"
  fi
  pip_install requirements.txt
}

install_debian_packages
make_venv
[ "$cuda" = no ] || pip_install requirements-cuda.txt --no-deps
say "everything is installed"
