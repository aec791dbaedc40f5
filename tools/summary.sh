#!/usr/bin/env bash
# The last lines of `make test`: what the test runner said of every package, and the count.
set -euo pipefail
cd "$(dirname "$0")/.."
passed=$(grep -c '^ok ' bin/unit.log || true)
failed=$(grep -c '^FAIL	' bin/unit.log || true)
grep -E '^(ok|FAIL|\?) ' bin/unit.log || true
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
