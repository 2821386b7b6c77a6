#!/bin/sh
# SPDX-License-Identifier: MIT
#
# quickstart.sh - blkgate from nothing, on a fresh Debian 12, as root:
# installs what it needs, builds, serves a disk on a Unix socket, shows real
# clients reading and writing it, and stops. Ends with status 0 only if all of
# it worked. Everything it makes lies in one temporary directory (but for the
# build, which goes to build/).
#
# usage: sh examples/quickstart.sh

set -eu

top=$(cd "$(dirname "$0")/.." && pwd)
server=
work=

step()
{
	printf '\n== %s\n' "$*"
}

# show COMMAND...: prints a command as one would type it, then runs it.
show()
{
	printf '$'
	for word in "$@"; do
		case $word in
		*[!A-Za-z0-9_./:=,+-]*) printf " '%s'" "$word" ;;
		*)	printf ' %s' "$word" ;;
		esac
	done
	echo
	"$@"
}

cleanup()
{
	status=$?
	trap - EXIT
	if [ -n "$server" ]; then
		kill "$server" 2>/dev/null && wait "$server"
	fi
	if [ -n "$work" ]; then
		rm -rf "$work"
	fi
	if [ $status -ne 0 ]; then
		echo 'quickstart: FAILED' >&2
	fi
	exit $status
}
trap cleanup EXIT
trap 'exit 1' HUP INT TERM

# --- 1. What it needs -------------------------------------------------------

step 'Packages'
build_needs='gcc libc6-dev make pkg-config liburing-dev libgnutls28-dev libseccomp-dev libnbd-dev'
client_needs='libnbd-bin qemu-utils'
missing=
for package in $build_needs $client_needs; do
	if [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" != installed ]; then
		missing="$missing $package"
	fi
done
if [ -z "$missing" ]; then
	echo 'all there'
elif [ "$(id -u)" -ne 0 ]; then
	echo "quickstart: as root, first: apt-get install --no-install-recommends$missing" >&2
	exit 1
else
	echo "installing:$missing"
	export DEBIAN_FRONTEND=noninteractive
	apt-get update -qq
	# shellcheck disable=SC2086  # a list of package names
	apt-get install -qq -y --no-install-recommends $missing >/dev/null
fi

# --- 2. Build ---------------------------------------------------------------

step 'Build'
show make -s -C "$top" -j "$(nproc)"
blkgate=$top/build/blkgate
show "$blkgate" --version

# --- 3. Serve a disk --------------------------------------------------------

step 'Serve a disk of 256 MiB on a Unix socket'
work=$(mktemp -d "${TMPDIR:-/tmp}/blkgate-quickstart.XXXXXX")
disk=$work/disk.img
sock=$work/disk.sock
uri="nbd+unix:///?socket=$sock"
truncate -s 256M "$disk"
printf '$ %s\n' "blkgate --socket $sock $disk &"
"$blkgate" --socket "$sock" "$disk" 2>"$work/log" &
server=$!
until grep -q '^info READY' "$work/log"; do
	kill -0 "$server" 2>/dev/null || { cat "$work/log" >&2; exit 1; }
	sleep 0.05
done
cat "$work/log"

# --- 4. Use it --------------------------------------------------------------

step 'What a client sees'
show "$blkgate" probe "$uri"
show nbdinfo --list "$uri"

step 'Write and read it'
show qemu-io -f raw -c 'write -P 0xab 1M 4M' -c 'flush' -c 'read -P 0xab 1M 4M' "$uri"

step 'Copy an image in and out'
dd if=/dev/urandom of="$work/image" bs=1M count=64 status=none
truncate -s 256M "$work/image"
show nbdcopy --flush "$work/image" "$uri"
show nbdcopy "$uri" "$work/copy"
show cmp "$work/image" "$work/copy"
show qemu-img compare -f raw -F raw "$work/image" "$uri"

step 'The same bytes are in the file'
show cmp "$work/image" "$disk"

# --- 5. Stop ----------------------------------------------------------------

step 'Stop'
printf '$ kill %s\n' "$server"
kill "$server"
wait "$server"
server=
cat "$work/log"
if [ -e "$sock" ]; then
	echo 'quickstart: the socket is still there' >&2
	exit 1
fi

printf '\nquickstart: everything worked. Next: man %s/man/blkgate.8 (installed: man blkgate)\n' "$top"
