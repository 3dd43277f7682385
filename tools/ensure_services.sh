#!/usr/bin/env bash
# Sees to it that a PostgreSQL server, Mosquitto and Chromium are on this machine. `make check` starts throw-away
# ones of its own from them; nothing that the system already runs is touched.
set -euo pipefail

have_postgresql() {
  command -v postgres >/dev/null 2>&1 || compgen -G "/usr/lib/postgresql/*/bin/postgres" >/dev/null ||
    compgen -G "/usr/pgsql-*/bin/postgres" >/dev/null || compgen -G "/opt/homebrew/opt/postgresql*/bin/postgres" >/dev/null
}
have_mosquitto() {
  command -v mosquitto >/dev/null 2>&1 || [ -x /usr/sbin/mosquitto ] || [ -x /usr/local/sbin/mosquitto ]
}

have_chromium() {
  command -v chromium >/dev/null 2>&1 || command -v chromium-browser >/dev/null 2>&1 ||
    command -v google-chrome >/dev/null 2>&1
}

missing=()
have_postgresql || missing+=(postgresql)
have_mosquitto || missing+=(mosquitto)
have_chromium || missing+=(chromium)
[ ${#missing[@]} -eq 0 ] && exit 0

as_root=()
[ "$(id -u)" -eq 0 ] || as_root=(sudo -n)
if command -v apt-get >/dev/null 2>&1 && { [ "$(id -u)" -eq 0 ] || sudo -n true 2>/dev/null; }; then
  echo "check: installing ${missing[*]} with apt"
  # Nothing is to be started by the packages: the tests start their own.
  install_them() {
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 \
      apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
  }
  install_them 2>/dev/null || { "${as_root[@]}" apt-get update -qq && install_them; } || true
  have_postgresql && have_mosquitto && have_chromium && exit 0
fi

cat >&2 <<TXT
check: ${missing[*]} missing, and this script cannot install it here. Install it and try again:
  Debian, Ubuntu   sudo apt-get install ${missing[*]}
  Fedora           sudo dnf install ${missing[*]/postgresql/postgresql-server}
  macOS            brew install ${missing[*]}
Or run 'make check-embedded', which needs none of them.
TXT
exit 1
