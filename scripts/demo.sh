#!/usr/bin/env bash
# Serves the example policies by two instances that share their counters in a Redis, behind a real Envoy
# (deploy/envoy/demo.yaml), and prints what to try. Ctrl-C stops all of it.
#
#   RATEKEEPER_BINARY=path scripts/demo.sh      takes that binary instead of building one
set -euo pipefail
cd "$(dirname "$0")/.."

envoy=target/envoy-venv/bin/envoy
log_dir=target/demo
redis_port=6390
# gRPC, HTTP and debug ports of the two instances; demo.yaml names the first of each.
first='8081 8080 6070'
second='8091 8090 6080'

# Whether someone listens on a port of this machine.
taken() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# A port that someone else answers on would make the waits below succeed for the wrong process.
for port in $redis_port $first $second 10000 10001 9901; do
    if taken "$port"; then
        printf 'port %s of this machine is taken; the demo needs %s\n' "$port" \
            "$redis_port (Redis), ${first// /, }, ${second// /, } (Ratekeeper), 10000, 10001, 9901 (Envoy)" >&2
        exit 1
    fi
done

scripts/install-test-tools.sh redis envoy
binary=${RATEKEEPER_BINARY:-}
if [ -z "$binary" ]; then
    "${CARGO:-cargo}" build --release
    binary=${CARGO_TARGET_DIR:-target}/release/ratekeeper
fi
mkdir -p "$log_dir"

# A list in a string: an empty array is an error in the old bash of macOS.
pids=''
stop() {
    trap - EXIT INT TERM
    # A frozen process, as one of the lines below leaves it, would not notice the other signal.
    for pid in $pids; do kill -TERM "$pid" 2>/dev/null && kill -CONT "$pid" 2>/dev/null || true; done
    for pid in $pids; do wait "$pid" 2>/dev/null || true; done
}
trap stop EXIT
trap 'stop; exit 0' INT TERM

# start NAME CHECK COMMAND...: starts the command and waits until the check, a command in one word list, succeeds.
start() {
    local name=$1 check=$2
    shift 2
    "$@" >"$log_dir/$name.log" 2>&1 &
    pid=$!
    pids="$pids $pid"
    for _ in $(seq 100); do
        kill -0 "$pid" 2>/dev/null || break
        $check && return
        sleep 0.1
    done
    printf '%s did not start; the end of %s:\n' "$name" "$log_dir/$name.log" >&2
    tail -n 20 "$log_dir/$name.log" >&2
    exit 1
}

answers() { curl -fs -o /dev/null "$1"; }

# instance NAME GRPC_PORT HTTP_PORT DEBUG_PORT
instance() {
    start "$1" "answers localhost:$3/readyz" \
        env REDIS_URL="localhost:$redis_port" RATEKEEPER_INSTANCES=2 GRPC_PORT="$2" PORT="$3" DEBUG_PORT="$4" \
        RATEKEEPER_SHUTDOWN_DRAIN_DELAY=0s "$binary" serve --policies examples/policies
}

start redis "taken $redis_port" \
    redis-server --bind 127.0.0.1 --port "$redis_port" --save '' --appendonly no --maxmemory-policy noeviction
redis_pid=$pid
# shellcheck disable=SC2086 # three ports, three words
instance first $first
# shellcheck disable=SC2086
instance second $second
start envoy 'answers localhost:9901/ready' \
    "$envoy" --config-path deploy/envoy/demo.yaml --concurrency 2 --disable-hot-restart --log-level warning

cat <<TEXT

Envoy listens on localhost:10000 and asks two instances of Ratekeeper in turn; both count in one Redis. In another terminal:

  # five requests a minute for each user, whichever instance is asked: five times 200, then 429
  for i in 1 2 3 4 5 6; do curl -s -o /dev/null -w '%{http_code}\n' -H 'x-user: alice' localhost:10000/; done

  # the headers: x-ratelimit-limit, -remaining, -reset, and retry-after on a denial
  curl -si -H 'x-user: alice' localhost:10000/ | grep -i -e http/ -e limit -e retry

  # bob has a counter of his own; admin is unlimited, so only the limit of the address counts
  curl -si -H 'x-user: bob' localhost:10000/ | grep -i -e http/ -e limit
  curl -si -H 'x-user: admin' localhost:10000/ | grep -i -e http/ -e limit

  # a token bucket: ten at once, then two a second
  for i in \$(seq 14); do curl -s -o /dev/null -w '%{http_code} ' -H 'x-api-key: k1' localhost:10000/api/items; done; echo

  # the same question without Envoy, to either instance: they count together
  for port in 8080 8090 8080 8090 8080 8090; do
    curl -s -o /dev/null -w '%{http_code}\n' localhost:\$port/json -d '{"domain":"demo","descriptors":[{"entries":[{"key":"user","value":"carol"}]}]}'
  done

  # the counters
  redis-cli -p $redis_port --scan

  # freeze Redis: after a wait of 10 ms at most, each instance goes on with its share of a limit, here 5 / 2 = 2
  kill -STOP $redis_pid
  for i in \$(seq 14); do curl -s -o /dev/null -w '%{http_code} %{time_total}\n' -H 'x-user: dave' localhost:10000/; done
  curl -s 'localhost:8080/readyz?verbose'
  kill -CONT $redis_pid

  # edit examples/policies/demo.yaml while this runs; the new limits hold within a second or two
TEXT
printf '\nLogs: %s/*.log. Ctrl-C stops everything.\n' "$log_dir"

# Until one of them ends; the trap then stops the others.
while true; do
    for pid in $pids; do
        kill -0 "$pid" 2>/dev/null || {
            printf 'one of the processes ended; see %s\n' "$log_dir" >&2
            exit 1
        }
    done
    sleep 1
done
