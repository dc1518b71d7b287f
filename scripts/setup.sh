#!/usr/bin/env bash
# What `make` needs before there is a virtual environment.
#   setup.sh tools     say which of Python, venv and the C++ compiler is missing, and how to get it
#   setup.sh sanitize  the same for the sanitizers' libraries
#   setup.sh arm       the same for a cross compiler and an emulator of 64-bit ARM
#   setup.sh torch     install PyTorch into the virtual environment, the CPU build unless pip is told where to look
set -euo pipefail

python=${PYTHON:-python3}
venv=${VENV:-.venv}
torch=${TORCH:-torch==2.13.0}
cpu_index=https://download.pytorch.org/whl/cpu
missing=0

# say WHAT DEBIAN FEDORA MACOS
say() {
  missing=1
  printf 'Missing: %s\n' "$1" >&2
  printf '    Debian, Ubuntu:  sudo apt-get install -y %s\n' "$2" >&2
  printf '    Fedora, RHEL:    sudo dnf install -y %s\n' "$3" >&2
  printf '    macOS:           %s\n' "$4" >&2
}

compiles() {
  local folder
  folder=$(mktemp -d)
  printf '#include <span>\nint main() { int n[1]{}; return static_cast<int>(std::span{n}.size()) - 1; }\n' >"$folder/probe.cpp"
  "${CXX:-c++}" -std=c++20 "$@" "$folder/probe.cpp" -o "$folder/probe" >/dev/null 2>&1
  local result=$?
  rm -r "$folder"
  return $result
}

check_tools() {
  if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    say "Python 3.11 or later ($python is $("$python" --version 2>/dev/null || echo absent)); if it has another name: make PYTHON=python3.12" \
      "python3 python3-venv python3-dev" "python3 python3-devel" "brew install python@3.12"
  elif ! "$python" -c 'import venv, ensurepip' 2>/dev/null; then
    say "Python's venv module" "python3-venv" "python3" "brew install python@3.12"
  elif ! "$python" -c 'import pathlib, sys, sysconfig; sys.exit(not (pathlib.Path(sysconfig.get_path("include")) / "Python.h").is_file())'; then
    say "Python's headers" "python3-dev" "python3-devel" "brew install python@3.12"
  fi
  if ! compiles; then
    say "a C++20 compiler (${CXX:-c++} builds none; another one: make CXX=clang++)" "g++" "gcc-c++" "xcode-select --install"
  fi
  return $missing
}

check_sanitizers() {
  if ! compiles -fsanitize=address,undefined; then
    say "the address and undefined-behaviour sanitizers of ${CXX:-c++}" "g++" "libasan libubsan" "xcode-select --install"
  fi
  if ! compiles -fsanitize=thread; then
    say "the thread sanitizer of ${CXX:-c++}" "g++" "libtsan" "xcode-select --install"
  fi
  return $missing
}

check_arm() {
  if ! command -v aarch64-linux-gnu-g++ >/dev/null; then
    say "a cross compiler for 64-bit ARM (aarch64-linux-gnu-g++)" "g++-aarch64-linux-gnu" "gcc-c++-aarch64-linux-gnu" "run it in a Debian container"
  fi
  if ! command -v qemu-aarch64-static >/dev/null; then
    say "an emulator of 64-bit ARM (qemu-aarch64-static)" "qemu-user-static" "qemu-user-static" "run it in a Debian container"
  fi
  return $missing
}

install_torch() {
  local where=() configured
  configured=$("$venv/bin/python" -m pip config list)
  # PyPI's Linux wheels carry CUDA, several gigabytes. Whoever configured pip has chosen already.
  if [ "$(uname -s)" = Linux ] && [[ ! $configured =~ (index-url|find-links|no-index) ]]; then
    where=(--index-url "${TORCH_INDEX:-$cpu_index}")
  fi
  "$venv/bin/python" -m pip install --quiet --no-compile --disable-pip-version-check ${where[@]+"${where[@]}"} "$torch"
}

case "${1:-}" in
  tools) check_tools ;;
  sanitize) check_sanitizers ;;
  arm) check_arm ;;
  torch) install_torch ;;
  *) echo "usage: setup.sh tools|sanitize|arm|torch" >&2; exit 2 ;;
esac
