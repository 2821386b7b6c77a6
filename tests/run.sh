#!/bin/sh
# SPDX-License-Identifier: MIT
#
# run.sh - everything one landing has to pass, on a Debian 12 with nothing but
# apt: installs what is missing (as root), builds, runs, and prints the totals.
#
# usage: sh tests/run.sh [STAGE...]
#
#   plain     warnings are errors; unit, func, conform, fault, regress and lint tests,
#             those of func, fault and regress once more over TLS
#   peers     the newest clients, on the build of plain
#   asan      the same as plain under ASAN and UBSAN, without lint and func over TLS
#   tsan      unit tests under TSAN
#   ucontext  unit tests of blk/ with coroutines on ucontext
#   tsa       clang's proof of which functions may yield
#   valgrind  start, serve, stop
#   aarch64   the coroutine test as a static program under an emulator
#   mutants   the server with one defect at a time, which the tests must notice
#   fuzz      half a minute of libFuzzer for each harness
#
# Without a STAGE: all of them. Builds go to build-test/STAGE, so a second run
# is incremental. Exit status 0 only if nothing failed; every skip is printed
# again at the end; the last line is the totals.

set -u

top=$(cd "$(dirname "$0")/.." && pwd) || exit 2
out=${BLKGATE_TEST_BUILD:-$top/build-test}
jobs=$(nproc)

# shellcheck disable=SC2034  # chosen by name in stage_packages
{
pkgs_base='gcc libc6-dev make pkg-config liburing-dev libgnutls28-dev libseccomp-dev check procps util-linux'
pkgs_func='binutils file fio gnutls-bin iproute2 libnbd-bin libnbd-dev mount nbdkit openssl python3 python3-libnbd qemu-utils strace'
pkgs_lint='git mandoc shellcheck systemd'
pkgs_peers='gnutls-bin mount python3'
pkgs_newroot='mmdebstrap'
pkgs_tsa='clang libnbd-dev'
pkgs_valgrind='valgrind'
pkgs_fuzz='clang libclang-rt-dev python3'
pkgs_aarch64='gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user-static'
}

# stage_packages STAGE: the packages that a stage needs.
stage_packages()
{
	case $1 in
	plain)		echo "$pkgs_base $pkgs_func $pkgs_lint" ;;
	peers)		echo "$pkgs_base $pkgs_peers"
			# For others than root it is a skip.
			[ "$(id -u)" -ne 0 ] || echo "$pkgs_newroot" ;;
	asan)		echo "$pkgs_base $pkgs_func" ;;
	tsan|ucontext)	echo "$pkgs_base" ;;
	tsa)		echo "$pkgs_base $pkgs_tsa" ;;
	valgrind)	echo "$pkgs_base $pkgs_func $pkgs_valgrind" ;;
	aarch64)	echo "$pkgs_base $pkgs_aarch64" ;;
	mutants)	echo "$pkgs_base python3" ;;
	fuzz)		echo "$pkgs_base $pkgs_fuzz" ;;
	esac
}

# install_missing PACKAGE...: leaves the network alone if all are there.
install_missing()
{
	missing=
	for pkg in "$@"; do
		state=$(dpkg-query -W -f '${db:Status-Status}' "$pkg" 2>/dev/null)
		case " $missing " in
		*" $pkg "*) continue ;;
		esac
		[ "$state" = installed ] || missing="$missing $pkg"
	done
	[ -n "$missing" ] || return 0
	if [ "$(id -u)" -ne 0 ]; then
		echo "run.sh: packages are missing, and only root can install them:" >&2
		echo "  apt-get install --no-install-recommends$missing" >&2
		return 1
	fi
	echo "== installing:$missing"
	export DEBIAN_FRONTEND=noninteractive
	log=$out/apt.log
	# shellcheck disable=SC2086  # a list of package names
	if ! { apt-get update && apt-get install -y --no-install-recommends $missing; } \
		>"$log" 2>&1; then
		tail -n 20 "$log" >&2
		echo "run.sh: apt-get could not install:$missing" >&2
		return 1
	fi
}

# record VERDICT NAME [REASON]: one check that is not a test of runner.sh.
record()
{
	case $1 in
	ok)	echo "ok   $2"; echo 'total 1 0 0' >>"$records" ;;
	FAIL)	echo "FAIL $2: $3"
		{ echo "fail $2"; echo 'total 0 1 0'; } >>"$records" ;;
	skip)	echo "skip $2: $3"
		{ echo "skip $2 $3"; echo 'total 0 0 1'; } >>"$records" ;;
	esac
}

# build STAGE MAKE-ARGUMENT...: a build is a test too.
build()
{
	stage=$1
	shift
	log=$out/$stage.log
	if make -C "$top" -k -j "$jobs" O="$out/$stage" "$@" >"$log" 2>&1; then
		record ok "$stage/build"
		return 0
	fi
	record FAIL "$stage/build" "make O=build-test/$stage $*"
	grep -E '(error|warning): |undefined reference|\*\*\*' "$log" | head -n 40 | sed 's/^/    | /'
	return 1
}

# check NAME COMMAND...: a command that passes or fails as a whole.
check()
{
	name=$1
	shift
	log=$out/${name%%/*}.log
	if timeout 900 "$@" >"$log" 2>&1; then
		record ok "$name"
	else
		record FAIL "$name" "exit status $?: $*"
		tail -n 40 "$log" | sed 's/^/    | /'
	fi
}

# run STAGE 'SUITE...' [WRAPPER...]: the tests of one build. The sanitizers
# need a WRAPPER that switches address randomisation off.
run()
{
	stage=$1 suites=$2
	shift 2
	# shellcheck disable=SC2086  # a list of words
	RUNNER_PREFIX="$*" "$@" sh "$top/tests/runner.sh" -o "$out/$stage" -j "$jobs" \
		-l "$stage" -r "$records" $suites
	[ $? -le 1 ] || record FAIL "$stage/runner" 'the runner itself failed'
}

stage_plain()
{
	build plain DEVELOPER=1 all unit-tests sim-server bench-tools
	run plain 'unit func func@tls conform fault fault@tls regress regress@tls lint'
}

# The clients are of a newer Debian than this one, in a root tree of their own.
stage_peers()
{
	build plain DEVELOPER=1 all
	log=$out/peers.log
	"$top/tests/lib/newroot" make >"$log" 2>&1
	case $? in
	0)	record ok peers/newroot
		run plain peers ;;
	77)	record skip peers "$(tail -n 1 "$log")" ;;
	*)	record FAIL peers/newroot 'the root tree could not be made'
		tail -n 40 "$log" | sed 's/^/    | /' ;;
	esac
}

stage_asan()
{
	build asan DEVELOPER=1 SANITIZE=address,undefined all unit-tests sim-server bench-tools
	run asan 'unit func conform fault fault@tls regress regress@tls' setarch -R
}

stage_tsan()
{
	build tsan DEVELOPER=1 SANITIZE=thread unit-tests
	run tsan unit setarch -R
}

stage_ucontext()
{
	build ucontext DEVELOPER=1 UCONTEXT=1 unit-tests
	run ucontext '-f unit/blk_ unit'
}

stage_tsa()
{
	build tsa CC=clang TSA=1 DEVELOPER=1 all
}

stage_valgrind()
{
	build valgrind all
	run valgrind valgrind
}

stage_aarch64()
{
	check aarch64/blk_co make -C "$top" O="$out/aarch64" check-aarch64
}

stage_mutants()
{
	check mutants/caught "$top/tests/mutants.py" --landing
}

stage_fuzz()
{
	check fuzz/short make -C "$top" O="$out/fuzz" FUZZ_SECONDS=30 fuzz
}

# --- All stages -------------------------------------------------------------

[ $# -gt 0 ] || set -- plain peers asan tsan ucontext tsa valgrind aarch64 mutants fuzz

packages=
for stage in "$@"; do
	list=$(stage_packages "$stage")
	if [ -z "$list" ]; then
		echo "run.sh: no stage '$stage'" >&2
		sed -n '/^# usage:/,/^# Without/s/^# \{0,1\}//p' "$0" >&2
		exit 2
	fi
	packages="$packages $list"
done

mkdir -p "$out" || exit 1
records=$(mktemp "${TMPDIR:-/tmp}/bgt-run.XXXXXX") || exit 1
trap 'rm -f "$records"' EXIT
trap 'exit 1' HUP INT TERM

# shellcheck disable=SC2086  # a list of package names
install_missing $packages || exit 1

for stage in "$@"; do
	echo "== $stage"
	"stage_$stage"
done

grep '^skip ' "$records" | sed 's/^skip \([^ ]*\) /skipped: \1: /'
grep '^fail ' "$records" | sed 's/^fail /failed: /'
awk '$1 == "total" { passed += $2; failed += $3; skipped += $4 }
	END {
		printf "%d passed, %d failed", passed, failed
		if (skipped)
			printf ", %d skipped", skipped
		print ""
		exit failed > 0 || passed == 0
	}' "$records"
