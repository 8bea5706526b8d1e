#!/usr/bin/env bash
# Counts the instructions of a request's way in memory (benches/instructions.rs) and says what changed against
# benches/instructions.toml, in per cent. Ends with 1 if anything grew by more than 2 %.
#
#   scripts/bench.sh           compare
#   scripts/bench.sh --record  write today's figures into that file
#
# Needs valgrind and python3. The runner is installed below target/, in the version that Cargo.toml names.
set -euo pipefail
cd "$(dirname "$0")/.."

version=0.20.0
tools=${CARGO_TARGET_DIR:-target}/bench-tools
runner=$(realpath -m "$tools/bin/gungraun-runner")
out=$(mktemp)
trap 'rm -f "$out"' EXIT

if ! command -v valgrind >/dev/null; then
    echo "bench: valgrind is missing; with Debian: apt-get install valgrind" >&2
    exit 1
fi
if ! "$runner" --version 2>/dev/null | grep -qF "$version"; then
    cargo install gungraun-runner --version "$version" --root "$tools"
fi
GUNGRAUN_RUNNER=$runner ${CARGO:-cargo} bench --bench instructions | tee "$out" | grep '^instructions::' || true

python3 - "$out" "${1:-}" <<'PYTHON'
import re, sys

FIGURES = "benches/instructions.toml"
counted, name = {}, None
for line in open(sys.argv[1]):
    if match := re.match(r"instructions::\w+::(\w+) (\w+):\((.*)\)$", line):
        function, case, what = match.groups()
        what = what if re.fullmatch(r"\w+\([\d_]+\)", what) else case
        name = f"{function} {what}"
    elif match := re.match(r"\s+Instructions:\s+(\d+)", line):
        counted[name] = int(match.group(1))
if not counted:
    sys.exit("bench: nothing was counted")
if sys.argv[2] == "--record":
    with open(FIGURES, "w") as file:
        file.write("# Instructions, by `scripts/bench.sh --record` (callgrind, x86-64, release). Compared by `make bench`.\n")
        file.writelines(f'"{name}" = {count:_}\n' for name, count in counted.items())
before = dict(re.findall(r'^"(.*)" = ([\d_]+)$', open(FIGURES).read(), re.M))
worse = False
for name, count in counted.items():
    then = int(before.pop(name, "0").replace("_", ""))
    change = f"{100 * (count - then) / then:+7.1f} %" if then else "      new"
    worse |= bool(then) and count > then * 1.02
    print(f"{count:>10,} {change}  {name}")
for name in before:
    print(f"         -      gone  {name}")
sys.exit(1 if worse else 0)
PYTHON
