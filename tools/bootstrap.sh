#!/bin/sh
# Makes .venv from requirements.lock: `make setup`. Needs Python 3.11 or newer, no compiler, no root.
# Does nothing when the environment already matches. Every package is checked against its hash.
set -eu
cd "$(dirname "$0")/.."

VENV=.venv
STAMP=$VENV/timeloom-setup
# Published as source only; pure Python, so they build without a compiler. All others are wheels.
FROM_SOURCE="nkeys strict-rfc3339"

fail() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}

# What the environment is made from.
wanted() {
  printf '%s\n' "$PWD"
  cat requirements.lock tools/bootstrap.lock tools/bootstrap.sh
}

usable() {
  "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

# Whether .venv is an environment of its own here: nothing may ever be installed anywhere else.
intact() {
  usable "$VENV/bin/python" &&
    "$VENV/bin/python" -c 'import os, sys; sys.exit(os.path.realpath(sys.prefix) != sys.argv[1])' \
      "$(pwd -P)/$VENV" >/dev/null 2>&1
}

# Scripts in .venv name the folder it was made in.
moved() {
  [ -f "$STAMP" ] && [ "$(head -n 1 "$STAMP")" != "$PWD" ]
}

find_python() {
  for candidate in ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11}; do
    if command -v "$candidate" >/dev/null 2>&1 && usable "$candidate"; then
      printf '%s\n' "$candidate"
      return
    fi
  done
  found=$("${PYTHON:-python3}" -V 2>&1) || found="no ${PYTHON:-python3}"
  fail "Timeloom needs Python 3.11 or newer and found $found." \
    "Install one (Debian: apt install python3.11 python3.11-venv) and run: make setup PYTHON=python3.11"
}

make_venv() {
  python=$(find_python)
  version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
  "$python" -c 'import venv, ensurepip' >/dev/null 2>&1 ||
    fail "$python cannot make virtual environments." \
      "Install the missing part (Debian: apt install python$version-venv) and run: make setup"
  rm -rf "$VENV"
  "$python" -m venv "$VENV"
}

with_uv() {
  # uv keeps a cache below HOME; an account without a home of its own does without.
  mkdir -p "${HOME:-/nonexistent}/.cache" 2>/dev/null || export UV_NO_CACHE=1
  set --
  for name in $FROM_SOURCE; do set -- "$@" --no-binary "$name"; done
  # The machine's own certificates, so that a company's proxy works as it does for pip.
  "$VENV/bin/python" -m uv pip sync --quiet --python "$VENV/bin/python" --system-certs \
    --require-hashes --only-binary :all: "$@" --no-build-isolation --compile-bytecode \
    requirements.lock
}

with_pip() {
  # The lock is complete, and overrides what two packages say of a third: pip must not look.
  "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps \
    --only-binary :all: --no-binary "$(printf '%s' "$FROM_SOURCE" | tr ' ' ',')" \
    --no-build-isolation --use-pep517 -r requirements.lock
}

if [ -f "$STAMP" ] && wanted | cmp -s - "$STAMP" && intact; then
  exit 0
fi
if moved || ! intact || ! "$VENV/bin/python" -m pip --version >/dev/null 2>&1; then
  make_venv
fi
rm -f "$STAMP"
printf 'installing the packages of requirements.lock into %s\n' "$VENV"
"$VENV/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes \
  --only-binary :all: -r tools/bootstrap.lock
with_uv || {
  printf 'uv could not install them; trying pip\n' >&2
  with_pip || fail "the packages could not be installed; is the package index reachable?"
}
wanted >"$STAMP"
