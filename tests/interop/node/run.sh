#!/usr/bin/env bash
# kafkajs against BOOTSTRAP: the checks are in checks.js.
set -euo pipefail
source "$(dirname "$0")/../lib.sh"
here="$(cd "$(dirname "$0")" && pwd)"; mods="$INTEROP_CACHE/node"
if [ ! -f "$mods/.complete" ] || ! cmp -s "$here/package.json" "$mods/package.json"; then
  mkdir -p "$mods"; cp "$here/package.json" "$mods/"
  (cd "$mods" && npm install --no-audit --no-fund --loglevel=error) >"$INTEROP_CACHE/npm.log" 2>&1 || { tail -5 "$INTEROP_CACHE/npm.log"; echo "FAIL kafkajs is not in the cache and npm cannot fetch it"; exit 2; }
  touch "$mods/.complete"
fi
NODE_PATH="$mods/node_modules" timeout 600 node --no-deprecation "$here/checks.js"
