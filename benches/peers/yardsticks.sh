#!/usr/bin/env bash
# Stillwell beside its peers, in one run each, on 10 M readings at 1,000 a record and 2 M records of one; then the
# write side by partitions, and what its parts take.
# Usage, from the top folder after `cargo build --release -p stillwell -p stillwell-benches`:
#   benches/peers/yardsticks.sh [flags of stillwell-bench, such as --one-process]
set -euo pipefail
bench=target/release/stillwell-bench
[ -x "$bench" ] || { echo "build first: cargo build --release -p stillwell -p stillwell-benches" >&2; exit 1; }
[ -x benches/peers/.venv/bin/python ] || benches/peers/setup.sh
for measure in archive views both; do
    "$bench" "$measure" --readings 10000000 --per-record 1000 --peers --name yardsticks "$@"
    "$bench" "$measure" --readings 2000000 --per-record 1 --peers --name yardsticks "$@"
done
"$bench" write-side --peers --name yardsticks
"$bench" decode --name yardsticks
"$bench" files --name yardsticks
"$bench" dashboards --name yardsticks
