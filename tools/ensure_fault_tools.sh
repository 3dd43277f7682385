#!/usr/bin/env bash
# Sees to it that the tools with which `make faults` breaks things are on this machine, if it may (apt).
# What is missing all the same is not passed over: the suite says so, fault by fault, and ends with 3.
set -euo pipefail

missing=()
command -v strace >/dev/null 2>&1 || missing+=(strace)
command -v gcc >/dev/null 2>&1 || command -v cc >/dev/null 2>&1 || missing+=(gcc libc6-dev)
command -v fusermount >/dev/null 2>&1 || missing+=(fuse3)
/usr/bin/python3 -c 'import fuse' >/dev/null 2>&1 || missing+=(python3-fuse)
[ ${#missing[@]} -eq 0 ] && exit 0

as_root=()
[ "$(id -u)" -eq 0 ] || as_root=(sudo -n)
if command -v apt-get >/dev/null 2>&1 && { [ "$(id -u)" -eq 0 ] || sudo -n true 2>/dev/null; }; then
  echo "faults: installing ${missing[*]} with apt"
  install_them() {
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
      apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
  }
  install_them 2>/dev/null || { "${as_root[@]}" apt-get update -qq && install_them; } || true
fi
