#!/bin/sh
# Create a virtual environment with the exact packages of a lock and this checkout (editable). Where that is done already, do nothing.
#   PYTHON=python3.12 tools/setup/install.sh [LOCK [VENV]]
set -eu
cd "$(dirname "$0")/../.."
python=${PYTHON:-python3}
lock=${1:-requirements/lock.txt}
venv=${2:-.venv}
uv=$venv/bin/uv
say() { echo "install: $*"; }
fail() { echo "install: $*" >&2; exit 1; }

# The folder is part of the key: an editable install points to it, and a copied or moved checkout must not use the old one.
stamp=$venv/.installed-$(cat "$lock" pyproject.toml setup.py | { cat; pwd; } | cksum | cut -d ' ' -f 1)
[ -f "$stamp" ] && exit 0

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
    fail "needs Python 3.10 or newer, found '$("$python" --version 2>&1)'; name another one: make PYTHON=python3.12"
# Two makes at once: the second waits, then finds the stamp.
if command -v flock > /dev/null; then
    mkdir -p "$(dirname "$venv")"
    exec 9> "$venv.lock"
    flock -n 9 || { say 'another installation is running, waiting for it'; flock 9; }
    [ -f "$stamp" ] && exit 0
fi

uv_pin=$(grep '^uv==' "$lock")
if ! "$uv" --version > /dev/null 2>&1; then
    say "creating $venv"
    if "$python" -m venv --clear "$venv" > /dev/null 2>&1; then
        "$venv/bin/python" -m pip install --quiet "$uv_pin" || fail "could not install $uv_pin from the package index; is it reachable?"
    # Debian's python3 has no ensurepip unless python3-venv is installed.
    elif "$python" -m venv --clear --without-pip "$venv" && "$python" -m pip --version > /dev/null 2>&1; then
        "$python" -m pip install --quiet --target "$venv"/bootstrap "$uv_pin" ||
            fail "could not install $uv_pin from the package index; is it reachable?"
        uv=$venv/bootstrap/bin/uv
    else
        fail "'$python' has neither venv (with ensurepip) nor pip; install one of them, e.g. apt install python3-venv"
    fi
fi

say "installing $lock"
# --no-deps: the lock is complete, and leaves out opencv-python on purpose.
"$uv" pip install --python "$venv/bin/python" --no-deps --requirements "$lock"
"$uv" pip install --python "$venv/bin/python" --no-deps --no-build-isolation --quiet --editable .
rm -rf "$venv"/bootstrap "$venv"/.installed-*
touch "$stamp"
say "done: $venv"
