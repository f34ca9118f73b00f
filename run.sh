#!/bin/sh
# Sets up a virtual environment once, then runs what it is told. `make` calls this, too.
set -eu
cd "$(dirname "$0")"

usage() {
    cat <<'TEXT'
./run.sh demo [ARGS]   compare Lion and AdamW on a small proxy (about 130 core-seconds)
./run.sh report [ARGS] write results/report/: claims, figures, sweeps as offline pages
./run.sh test [ARGS]   run the tests (pytest arguments may follow)
./run.sh lint          check style and types
./run.sh figures [ARGS]    rebuild results/figures/ (--only NAME, --check)
./run.sh notebooks [NAME]  execute the notebooks again and write their outputs
./run.sh setup         only set up .venv with everything the above need

The first call sets up .venv (about 2 minutes and 6 GB); later calls do not.
PYTHON=/path/to/python chooses the interpreter (3.10 or newer).
TEXT
}

fail() {
    echo "error: $*" >&2
    exit 1
}

is_new_enough() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null
}

find_python() {
    if [ -n "${PYTHON:-}" ]; then
        is_new_enough "$PYTHON" || fail "PYTHON=$PYTHON is no Python 3.10 or newer"
        echo "$PYTHON"
        return
    fi
    for candidate in python3 python3.14 python3.13 python3.12 python3.11 python3.10 python; do
        if command -v "$candidate" >/dev/null 2>&1 && is_new_enough "$candidate"; then
            echo "$candidate"
            return
        fi
    done
    fail "no Python 3.10 or newer found: install one (Debian, Ubuntu: apt-get install python3 python3-venv) or set PYTHON="
}

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null 2>&1; then
        sudo "$@"
    else
        return 1
    fi
}

make_venv() {
    python=$(find_python)
    if ! "$python" -m venv .venv 2>/dev/null || [ ! -x .venv/bin/pip ]; then
        rm -rf .venv
        version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
        echo "Python's venv module is missing; installing Debian's package for it ..." >&2
        { as_root apt-get update -qq && as_root apt-get install -y -qq "python$version-venv"; } >&2 ||
            fail "cannot make a virtual environment: install the package python$version-venv"
        "$python" -m venv .venv
    fi
}

# Runs a command; says now and then what is being waited for.
patiently() {
    what=$1
    shift
    "$@" &
    job=$!
    (
        waited=0
        while sleep 15 >/dev/null 2>&1; do
            waited=$((waited + 15))
            echo "... $what ($waited s so far)" >&2
        done
    ) 9<&- & # its last sleep outlives it, and must not hold the lock
    ticker=$!
    trap 'kill $job $ticker 2>/dev/null; exit 130' INT TERM
    code=0
    wait $job || code=$?
    kill $ticker 2>/dev/null || true
    trap - INT TERM
    return $code
}

is_installed() {
    [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ]
}

# Lets one call set up .venv at a time; the lock goes with its process.
one_at_a_time() {
    command -v flock >/dev/null 2>&1 || return 0
    flock -n 9 || {
        echo "Another call is setting up .venv; waiting for it ..." >&2
        flock 9
    }
}

# Installs a requirements file unless exactly it was installed before.
install() {
    stamp=".venv/installed-$1"
    wanted=$(cat requirements.txt "$1" | cksum)
    is_installed && return
    exec 9<run.sh
    one_at_a_time
    is_installed || really_install "$1"
    exec 9<&-
}

really_install() {
    if [ ! -x .venv/bin/python ] || ! is_new_enough .venv/bin/python; then
        rm -rf .venv
        make_venv
    elif ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
        .venv/bin/python -m ensurepip >&2 # killed while it was made
    fi
    echo "Installing $1 into .venv (once, about 2 minutes) ..." >&2
    patiently "pip downloads and unpacks $1" \
        .venv/bin/python -m pip install --quiet --disable-pip-version-check -r "$1" >&2
    echo "$wanted" >"$stamp"
}

task=${1:-help}
[ $# -gt 0 ] && shift
case $task in
demo)
    install requirements.txt
    echo "First Python imports torch and timm; then two workers do, and build Lion's kernel (once" >&2
    echo "a machine); then the first run shows up." >&2
    exec .venv/bin/python scripts/demo.py "$@"
    ;;
report)
    install requirements-dev.txt
    exec .venv/bin/python scripts/report.py "$@"
    ;;
test)
    install requirements-dev.txt
    # One more than there are cores: tests also wait, for processes and disks.
    workers=$(($(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1) + 1))
    [ "$workers" -le 4 ] || workers=4
    exec .venv/bin/python -m pytest -n "$workers" --dist loadfile "$@"
    ;;
lint)
    install requirements-dev.txt
    .venv/bin/ruff check .
    .venv/bin/ruff format --check .
    exec .venv/bin/pyright
    ;;
figures)
    install requirements.txt
    exec .venv/bin/python scripts/figures.py "$@"
    ;;
notebooks)
    install requirements-dev.txt
    exec .venv/bin/python scripts/notebooks.py "$@"
    ;;
setup)
    install requirements-dev.txt
    ;;
help | -h | --help)
    usage
    ;;
*)
    usage >&2
    exit 2
    ;;
esac
