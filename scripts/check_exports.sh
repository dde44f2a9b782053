#!/usr/bin/env bash
# Checks that the preloaded object exports exactly the calls that it says it interposes.
#   check_exports.sh OBJECT CALLS_DEF
# Every entry of CALLS_DEF is a macro whose second argument is the name: USTCP_CALL(ssize_t, read, ...).
set -euo pipefail
[ $# = 2 ] || { echo "usage: $0 OBJECT CALLS_DEF" >&2; exit 2; }

exported=$(nm -D --defined-only "$1" | awk '$2 != "A" {sub(/@.*/, "", $3); print $3}' | sort -u)
declared=$(sed -nE 's/^[A-Z][A-Z0-9_]*\([^,]+, *([A-Za-z_][A-Za-z0-9_]*) *[,)].*/\1/p' "$2" | sort -u)
[ -n "$declared" ] || { echo "$2: no calls found" >&2; exit 1; }
difference=$(diff <(echo "$declared") <(echo "$exported") || true)
if [ -n "$difference" ]; then
  echo "exports differ (< declared in $2, > exported by $1):"
  grep '^[<>]' <<<"$difference"
  exit 1
fi
echo "$(wc -l <<<"$declared") symbols, all declared"
