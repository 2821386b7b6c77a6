# shellcheck shell=sh
# SPDX-License-Identifier: MIT
#
# func.sh - starting and stopping blkgate for tests written in shell.
#
#   disk KIND MIB        a disk: file, file-direct, loop, loop-direct, mem.
#                        Sets $targets (words for the command line) and
#                        $disk_file (its bytes after a flush; empty for mem)
#   serve WORD...        starts the server; sets $sock, $uri and $server_pid
#   stop                 SIGTERM, and everything that has to be true afterwards
#   fail TEXT            ends the test
#
# Sourced with `set -eu`; cleans up after itself when the test ends.

# shellcheck disable=SC2034  # what disk and serve set is for the test

: "${TEST_TMP:=$(mktemp -d "${TMPDIR:-/tmp}/bgt.XXXXXX")}"
: "${BUILD:=$TESTS/../build}"
: "${BLKGATE:=$BUILD/blkgate}"
cd "$TEST_TMP" || exit 1

server_pid=
loop=
serial=0
sock='' log='' uri='' targets='' disk_file=''

fail()
{
	echo "FAIL: $*" >&2
	if [ -n "$server_pid" ]; then
		sed 's/^/  log: /' "$log" | tail -n 20 >&2
	fi
	exit 1
}

func_cleanup()
{
	if [ -n "$server_pid" ]; then
		kill -KILL "$server_pid" 2>/dev/null || :
		wait "$server_pid" 2>/dev/null || : # its status is not the test's
	fi
	if [ -n "$loop" ]; then
		losetup --detach "$loop"
	fi
}
trap func_cleanup EXIT

serve()
{
	serial=$((serial + 1))
	sock=$TEST_TMP/$serial.sock
	log=$TEST_TMP/$serial.log
	uri="nbd+unix:///?socket=$sock"
	if [ -n "${TESTS_TLS-}" ]; then
		uri="nbds+unix:///?socket=$sock&tls-certificates=$TESTS_TLS"
		set -- --tls-certificates "$TESTS_TLS" --tls-verify-peer "$@"
	fi
	# shellcheck disable=SC2086  # a wrapper may be several words
	${BLKGATE_WRAP:-} "$BLKGATE" --workers 2 --socket "$sock" "$@" 2>"$log" >/dev/null &
	server_pid=$!
	until grep -q '^info READY' "$log"; do
		kill -0 "$server_pid" 2>/dev/null || fail "the server did not start: $*"
		sleep 0.05
	done
}

stop()
{
	kill -TERM "$server_pid"
	status=0
	wait "$server_pid" || status=$?
	[ $status -eq 0 ] || fail "exit status $status"
	if grep -E 'Sanitizer|runtime error:|invariant|==[0-9]+==' "$log" >&2; then
		fail 'a report in the log'
	fi
	server_pid=
	[ ! -e "$sock" ] || fail 'the socket is still there'
}

disk()
{
	serial=$((serial + 1))
	disk_file=$TEST_TMP/$serial.disk
	targets=$disk_file
	truncate -s "$2M" "$disk_file"
	case $1 in
	mem)
		rm "$disk_file"
		disk_file=
		targets=mem:$2M ;;
	loop*)
		if ! loop=$(losetup --find --show "$disk_file" 2>&1); then
			echo "no loop device to be had: $loop"
			loop=
			exit 77
		fi
		targets=$loop ;;
	esac
	case $1 in
	*-direct) targets="--cache=none $targets" ;;
	esac
}
