# Shared by the scripts of this folder; sourced, not run. Leaves the caller in the root of the tree.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
readonly USTCP_ROOT=$PWD
# Debian's interpreter, whatever else PATH may offer: the tests preload it.
readonly PYTHON=/usr/bin/python3
# Clones at different places share what the compiler cache holds.
export CCACHE_BASEDIR=$USTCP_ROOT CCACHE_NOHASHDIR=1

say() { printf '== %s\n' "$*"; }

die() {
  printf '%s: %s\n' "${0##*/}" "$*" >&2
  exit 1
}

need_root() {
  [ "$(id -u)" = 0 ] || die "needs root (network namespaces, TAP interfaces); run it with sudo"
}

# For what runs in network namespaces; said before minutes of building.
need_namespaces() {
  need_root
  mountpoint -q / || die "/ is no mount point, which \`ip netns\` needs; before chroot: mount --bind DIR DIR"
}

# build_preset PRESET [TARGET...]: configures and builds; the log is shown when it fails.
build_preset() {
  local preset=$1 log
  shift
  log=$(mktemp)
  say "building preset $preset${*:+: $*}"
  local begun=$SECONDS
  if ! { cmake --preset "$preset" && cmake --build --preset "$preset" ${1:+--target "$@"} -- --quiet; } >"$log" 2>&1; then
    tail -n 80 "$log" >&2
    rm -f "$log"
    die "the build of preset $preset failed"
  fi
  rm -f "$log"
  say "preset $preset built in $((SECONDS - begun)) s"
}
