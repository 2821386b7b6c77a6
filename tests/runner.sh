#!/bin/sh
# SPDX-License-Identifier: MIT
#
# runner.sh - runs suites of tests against one build.
#
# usage: tests/runner.sh -o BUILDDIR [-j N] [-f FILTER] [-l LABEL] [-t SECONDS]
#                        [-r FILE] SUITE...
#
#   -o  build directory (holds blkgate and tests/unit/*)
#   -j  tests at a time (default 1)
#   -f  only tests whose SUITE/NAME contains this text
#   -l  label printed before each name, for runs of several builds
#   -t  hang guard in seconds (default 300): no test needs a fraction of it
#   -r  append the totals, failures and skips to FILE as records:
#       "total PASSED FAILED SKIPPED", "fail NAME", "skip NAME REASON"
#
# The suite "unit" is the programs BUILDDIR/tests/unit/*; every other suite is
# the executable files in tests/SUITE. SUITE@tls is the same once more, each test
# with all its connections over TLS, but those that say "Not over TLS: REASON" in
# a line of their own at their head. A test finds BLKGATE (the server), BUILD,
# TESTS (this directory), TEST_TMP (a directory of its own, removed afterwards)
# and, where it is to use TLS, TESTS_TLS (a directory of certificates for both
# sides) in its environment. Exit status 0 is a pass, 77 a skip whose last line
# says why, anything else a failure - and so is a process left behind.

set -u

tests=$(cd "$(dirname "$0")" && pwd) || exit 2

# --- One test (the script calls itself with --one) --------------------------

# show_tail FILE: the end of a failed test's output, indented.
show_tail()
{
	tail -n 40 "$1" | cut -c 1-2000 | sed 's/^/    | /'
}

# stop_left SID: kills what is left of a session; prints the names.
stop_left()
{
	left=$(pgrep -s "$1" 2>/dev/null) || return 0
	for pid in $left; do
		printf '%s(%s) ' "$(cat "/proc/$pid/comm" 2>/dev/null)" "$pid"
		kill -KILL "$pid" 2>/dev/null
	done
}

one()
{
	name=$1 program=$2
	work=$(mktemp -d "${TMPDIR:-/tmp}/bgt.XXXXXX") || exit 1
	mkdir "$work/t"
	suite=${name%%/*}
	case $name in
	*@tls)	suite=$suite@tls
		export TESTS_TLS="$PKI" ;; # all tests have the same
	esac
	start=$(date +%s)
	# A session of its own: what survives the test can be found by it.
	# shellcheck disable=SC2016
	BLKGATE=$BUILD/blkgate TEST_TMP=$work/t \
	setsid -w sh -c 'echo $$ >"$1/sid"; exec timeout -k 10 "$2" "$3"' \
		sh "$work" "$GUARD" "$program" >"$work/out" 2>&1 </dev/null
	status=$?
	took=$(($(date +%s) - start))
	left=$(stop_left "$(cat "$work/sid")")

	verdict='' reason=''
	case $status in
	0)	verdict=ok ;;
	77)	verdict=skip
		reason=$(tail -n 1 "$work/out")
		[ -n "$reason" ] || reason='no reason given' ;;
	124|137)
		verdict=FAIL reason="hung: killed by the ${GUARD}s hang guard" ;;
	*)	verdict=FAIL reason="exit status $status" ;;
	esac
	if [ -n "$left" ] && [ $verdict != FAIL ]; then
		verdict=FAIL reason="left behind: $left"
	fi

	{
		case $verdict in
		ok)	printf 'ok   %s (%ss)\n' "$LABEL$name" "$took" ;;
		skip)	printf 'skip %s: %s\n' "$LABEL$name" "$reason" ;;
		FAIL)	printf 'FAIL %s: %s\n' "$LABEL$name" "$reason"
			show_tail "$work/out"
			printf '    repeat: %s%s -o %s -f %s %s\n' "$PREFIX" \
				"$tests/runner.sh" "$BUILD" "$name" "$suite" ;;
		esac
	} >"$work/report"
	printf '%s\t%s\t%s\n' "$verdict" "$LABEL$name" "$reason" >"$work/record"
	(
		flock 9
		cat "$work/report"
		cat "$work/record" >>"$RECORDS"
	) 9>"$RECORDS.lock"
	chmod -R u+rwX "$work" 2>/dev/null
	rm -rf "$work"
}

if [ "${1-}" = --one ]; then
	one "$2" "$3"
	exit 0
fi

# --- All of them ------------------------------------------------------------

usage()
{
	sed -n '/^# usage:/,/^$/s/^# \{0,1\}//p' "$0" >&2
	exit 2
}

build='' jobs=1 filter='' label='' guard=300 results=''
while getopts o:j:f:l:t:r: opt; do
	case $opt in
	o)	build=$OPTARG ;;
	j)	jobs=$OPTARG ;;
	f)	filter=$OPTARG ;;
	l)	label=$OPTARG ;;
	t)	guard=$OPTARG ;;
	r)	results=$OPTARG ;;
	*)	usage ;;
	esac
done
shift $((OPTIND - 1))
if [ -z "$build" ] || [ $# -eq 0 ]; then
	usage
fi
# The Makefile names the build directory as seen from the top.
case $build in
/*)	;;
*)	[ -d "$build" ] || build=$tests/../$build ;;
esac
BUILD=$(cd "$build" && pwd) || exit 2

for tool in setsid flock timeout pgrep; do
	command -v $tool >/dev/null || {
		echo "runner.sh: needs $tool (tests/run.sh installs it)" >&2
		exit 2
	}
done

TESTS=$tests GUARD=$guard LABEL=${label:+$label/}
RECORDS=$(mktemp "${TMPDIR:-/tmp}/bgt-records.XXXXXX") || exit 1
trap 'rm -rf "$RECORDS" "$RECORDS.lock" "$RECORDS.list" "$RECORDS.pki"' EXIT
trap 'exit 1' HUP INT TERM

# A sanitizer's verdict has to reach the exit status, with a readable stack.
ASAN_OPTIONS=${ASAN_OPTIONS:-detect_leaks=1:exitcode=99:abort_on_error=0:allocator_may_return_null=1}
UBSAN_OPTIONS=${UBSAN_OPTIONS:-print_stacktrace=1:halt_on_error=1:exitcode=99}
TSAN_OPTIONS=${TSAN_OPTIONS:-exitcode=99:halt_on_error=0:second_deadlock_stack=1}
PREFIX=${RUNNER_PREFIX:+$RUNNER_PREFIX }
export BUILD TESTS GUARD LABEL RECORDS PREFIX ASAN_OPTIONS UBSAN_OPTIONS TSAN_OPTIONS
unset TESTS_TLS PKI

# suite_dir SUITE: the folder that holds its programs.
suite_dir()
{
	case $1 in
	unit)	echo "$BUILD/tests/unit" ;;
	*)	echo "$tests/${1%@tls}" ;;
	esac
}

# belongs SUITE PROGRAM: a test may have its reasons not to be over TLS.
belongs()
{
	case $1 in
	*@tls)	! grep -q '^\(# \)\{0,1\}Not over TLS: .' "$2" ;;
	esac
}

for suite in "$@"; do
	dir=$(suite_dir "$suite")
	[ -d "$dir" ] || {
		echo "runner.sh: no suite '$suite': there is no folder $dir" >&2
		exit 2
	}
	case $suite in
	*@tls)	PKI=$RECORDS.pki ;;
	esac
done
if [ -n "${PKI-}" ]; then
	export PKI
	mkdir "$PKI" || exit 1
	PKI=$(TEST_TMP=$PKI "$tests/lib/pki.py") || exit 1
fi

for suite in "$@"; do
	dir=$(suite_dir "$suite")
	tls=${suite#"${suite%@tls}"}	# "@tls", or nothing
	for program in "$dir"/*; do
		if [ -f "$program" ] && [ -x "$program" ] && belongs "$suite" "$program"; then
			printf '%s\n%s\n' "${suite%@tls}/${program##*/}$tls" "$program"
		fi
	done
done | if [ -n "$filter" ]; then
	while read -r name && read -r program; do
		case $name in
		*"$filter"*) printf '%s\n%s\n' "$name" "$program" ;;
		esac
	done
else
	cat
fi >"$RECORDS.list"

xargs -d '\n' -r -n 2 -P "$jobs" sh "$0" --one <"$RECORDS.list"

expected=$(($(wc -l <"$RECORDS.list") / 2))
awk -F '\t' -v expected="$expected" -v results="$results" '
	{ n[$1]++ }
	results && $1 == "FAIL" { print "fail " $2 >>results }
	results && $1 == "skip" { print "skip " $2 " " $3 >>results }
	END {
		# A test without a record is a failure of the runner.
		lost = expected - NR
		if (lost > 0)
			printf "FAIL %d tests ended without a record\n", lost
		failed = n["FAIL"] + lost
		printf "%d passed, %d failed", n["ok"], failed
		if (n["skip"])
			printf ", %d skipped", n["skip"]
		print ""
		if (results)
			print "total " n["ok"] + 0, failed, n["skip"] + 0 >>results
		exit failed > 0
	}' "$RECORDS"
