#!/bin/sh
# SPDX-License-Identifier: MIT
#
# bench.sh - blkgate beside nbdkit and qemu-nbd: operations per second and
# server CPU time (user + system, all threads) per operation.
#
# usage: bench.sh -o BUILDDIR [-q] [-t] [-C CIPHERS] [-r ROUNDS] [-s SECONDS] [-d DIR]
#                 [-f FILTER] [-S 'SERVER...'] [-B OTHERBUILD] [-a 'BLKGATE OPTION...']
#
#   -q  quick: 2 rounds of 0.4 s
#   -t  over TLS, and TCP on the loopback interface, as that is what TLS is for; with
#       certificates on both sides; the table tells what was agreed on
#   -C  with -t: what the client offers, as GnuTLS has it (TLS 1.3 with AES-256-GCM and
#       P-256 alone, so that it is the same for all servers)
#   -r  rounds (5); every round runs all servers, odd ones forwards, even ones
#       backwards; the table shows medians over the rounds
#   -s  seconds per measurement (1.5)
#   -d  directory for the 1 GiB disk (TMPDIR, /tmp); it stays in the page cache
#   -f  only workloads whose name contains FILTER
#   -S  servers: blkgate nbdkit qemu-threads qemu-uring (all that work here)
#   -B  blkgate of another build, as one more server "other": before and after
#   -a  more options for blkgate
#
# Without -t everything goes over Unix sockets. Not a test: nothing passes or fails.

set -u

build='' rounds=5 seconds=1.5 warmup=0.3 dir=${TMPDIR:-/tmp} filter=''
servers='blkgate nbdkit qemu-threads qemu-uring' blkgate_args='' other='' tls=
ciphers=NORMAL:-VERS-ALL:+VERS-TLS1.3:-CIPHER-ALL:+AES-256-GCM:-GROUP-ALL:+GROUP-SECP256R1
while getopts o:qtC:r:s:d:f:S:B:a: opt; do
	case $opt in
	o)	build=$OPTARG ;;
	q)	rounds=2 seconds=0.4 warmup=0.1 ;;
	t)	tls=yes ;;
	C)	ciphers=$OPTARG ;;
	r)	rounds=$OPTARG ;;
	s)	seconds=$OPTARG ;;
	d)	dir=$OPTARG ;;
	f)	filter=$OPTARG ;;
	S)	servers=$OPTARG ;;
	B)	other=$OPTARG ;;
	a)	blkgate_args=$OPTARG ;;
	*)	sed -n '/^# usage:/,/^$/s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
	esac
done
[ -z "$other" ] || servers="$servers other"
nbdload=$build/tests/bench/nbdload
if [ -z "$build" ] || [ ! -x "$nbdload" ]; then
	echo "bench.sh: no $nbdload; use 'make bench', or -o with a build directory" >&2
	exit 2
fi

# name: nbdload options. 4 KiB unless -b says else.
workloads='
randread-d1      -m randread -d 1
randread-d32     -m randread -d 32
randread-d1-c4   -m randread -d 1 -c 4
randread-d32-c4  -m randread -d 32 -c 4
randwrite-d1     -m randwrite -d 1
randwrite-d32    -m randwrite -d 32
randwrite-d1-c4  -m randwrite -d 1 -c 4
randwrite-d32-c4 -m randwrite -d 32 -c 4
read-256k-d8     -m read -b 262144 -d 8
write-256k-d8    -m write -b 262144 -d 8
'

work=$(mktemp -d "$dir/bgbench.XXXXXX") || exit 1
pids=
cleanup()
{
	# shellcheck disable=SC2086  # a list of numbers
	[ -z "$pids" ] || kill $pids 2>/dev/null
	wait
	rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 1' HUP INT TERM

disk=$work/disk.img
echo "preparing $disk" >&2
dd if=/dev/urandom of="$disk" bs=1M count=1024 status=none || exit 1
# Nothing of the preparation is still being written back while we measure.
sync "$disk"

# An authority, and what it signs, in $work/pki. Both sides find their own by its name.
certificates()
{
	mkdir "$work/pki" && cd "$work/pki" || exit 1
	printf '%s\n' 'cn = "bench"' ca cert_signing_key >ca.cfg
	printf '%s\n' 'cn = "localhost"' 'dns_name = "localhost"' tls_www_server signing_key \
		>server.cfg
	printf '%s\n' 'cn = "bench"' tls_www_client signing_key >client.cfg
	for who in ca server client; do
		certtool --generate-privkey --key-type=ecdsa --outfile=$who-key.pem
		chmod 0600 $who-key.pem
	done
	certtool --generate-self-signed --load-privkey=ca-key.pem --template=ca.cfg \
		--outfile=ca-cert.pem
	for who in server client; do
		certtool --generate-certificate --load-ca-certificate=ca-cert.pem \
			--load-ca-privkey=ca-key.pem --load-privkey=$who-key.pem \
			--template=$who.cfg --outfile=$who-cert.pem
	done
	cd - >/dev/null || exit 1
}

blkgate_tls='' nbdkit_tls='' qemu_tls='' nbdload_tls=''
if [ -n "$tls" ]; then
	if ! command -v certtool >/dev/null; then
		echo 'bench.sh: -t: certtool is missing (package gnutls-bin)' >&2
		exit 2
	fi
	certificates >"$work/certtool.log" 2>&1
	pki=$work/pki
	blkgate_tls="--tls-certificates=$pki --tls-verify-peer"
	nbdkit_tls="--tls=require --tls-verify-peer --tls-certificates=$pki"
	qemu_tls="--object tls-creds-x509,id=tls,endpoint=server,dir=$pki --tls-creds tls"
	nbdload_tls="-T $pki -C $ciphers"
fi

# The value of KEY in a line of key=value words.
value()
{
	printf '%s\n' "$2" | tr ' ' '\n' | sed -n "s/^$1=//p"
}

# Below what the kernel gives to clients; each server takes the next one.
port=$((20000 + $$ % 10000))

# start SERVER: in the background; sets $pid. Fails if it does not serve. How nbdload gets
# there is in $work/SERVER.where, what TLS came to in $work/SERVER.tls.
start()
{
	sock=$work/$1.sock
	if [ -n "$tls" ]; then
		port=$((port + 1))
		blkgate_where="--bind 127.0.0.1 --port $port"
		nbdkit_where="-i 127.0.0.1 -p $port"
		qemu_where="-b 127.0.0.1 -p $port"
		where="-H 127.0.0.1 -P $port"
	else
		blkgate_where="--socket $sock"
		nbdkit_where="-U $sock"
		qemu_where="-k $sock"
		where="-u $sock"
	fi
	echo "$where" >"$work/$1.where"
	# shellcheck disable=SC2086  # lists of options
	case $1 in
	blkgate)
		"$build/blkgate" --workers 2 $blkgate_where $blkgate_tls $blkgate_args "$disk" ;;
	other)
		"$other/blkgate" --workers 2 $blkgate_where $blkgate_tls $blkgate_args "$disk" ;;
	nbdkit)
		nbdkit -f $nbdkit_where $nbdkit_tls file "$disk" ;;
	qemu-threads)
		qemu-nbd -f raw $qemu_where -e 8 -t --cache=writeback --aio=threads $qemu_tls \
			"$disk" ;;
	qemu-uring)
		qemu-nbd -f raw $qemu_where -e 8 -t --cache=writeback --aio=io_uring $qemu_tls \
			"$disk" ;;
	*)	echo "bench.sh: no server '$1'" >&2; exit 2 ;;
	esac >"$work/$1.log" 2>&1 &
	pid=$!
	tries=100
	# shellcheck disable=SC2086  # lists of options
	until line=$("$nbdload" $where $nbdload_tls -n 1 -w 0 2>>"$work/$1.log"); do
		tries=$((tries - 1))
		[ $tries -gt 0 ] && kill -0 $pid 2>/dev/null || return 1
		sleep 0.05
	done
	value tls "$line" >"$work/$1.tls"
}

# blkgate alone: how soon it listens, and what it weighs when idle.
start_and_weight()
{
	mkfifo "$work/log"
	for _ in 1 2 3 4 5 6 7 8 9; do
		begin=$(date +%s%N)
		"$build/blkgate" --workers 2 --socket "$work/idle.sock" "$disk" 2>"$work/log" &
		child=$!
		rss=
		while read -r line; do
			case $line in
			'info READY'*)
				end=$(date +%s%N)
				rss=$(awk '/^VmRSS/ { print $2 }' "/proc/$child/status")
				kill $child ;;
			esac
		done <"$work/log"
		wait $child
		[ -n "$rss" ] && echo "$(((end - begin) / 1000)) $rss"
	done | sort -n | awk '{ us[NR] = $1; rss[NR] = $2 }
		END {
			if (NR)
				printf "blkgate start to READY: %.1f ms; RSS when idle, " \
					"2 workers: %d KiB\n", us[int((NR + 1) / 2)] / 1000,
					rss[int((NR + 1) / 2)]
		}'
}

works=
for server in $servers; do
	if start "$server" 2>/dev/null; then
		works="$works $server"
		pids="$pids $pid"
		eval "pid_$(echo "$server" | tr - _)=$pid"
	else
		echo "bench.sh: $server does not work here:" >&2
		tail -n 3 "$work/$server.log" >&2
		kill "$pid" 2>/dev/null
	fi
done
reversed=
for server in $works; do
	reversed="$server $reversed"
done

round=1
while [ "$round" -le "$rounds" ]; do
	echo "round $round of $rounds" >&2
	order=$works
	[ $((round % 2)) -eq 1 ] || order=$reversed
	echo "$workloads" | while read -r name args; do
		case $name in
		'')		continue ;;
		*"$filter"*)	;;
		*)		continue ;;
		esac
		for server in $order; do
			eval "target=\$pid_$(echo "$server" | tr - _)"
			# shellcheck disable=SC2046,SC2086,SC2154  # options; set by eval
			line=$("$nbdload" $(cat "$work/$server.where") -p "$target" -s "$seconds" \
				-w "$warmup" -S "$round" $nbdload_tls $args) || continue
			echo "$name $server $(value ops_per_s "$line")" \
				"$(value cpu_us_per_op "$line")" \
				"$(value lat_us_p50 "$line") $(value lat_us_p99 "$line")"
		done
	done >>"$work/results"
	round=$((round + 1))
done

# The same for all, or each with its own.
if [ -n "$tls" ]; then
	for server in $works; do
		cat "$work/$server.tls"
	done | sort -u >"$work/tls"
	echo
	if [ "$(wc -l <"$work/tls")" -eq 1 ]; then
		echo "all over TLS: $(cat "$work/tls")"
	else
		for server in $works; do
			echo "$server over TLS: $(cat "$work/$server.tls")"
		done
	fi
fi

awk -v servers="$works" '
	function median(key, field,    n, i, j, t, list) {
		n = count[key]
		for (i = 1; i <= n; i++)
			list[i] = data[key, i, field]
		for (i = 2; i <= n; i++)
			for (j = i; j > 1 && list[j] < list[j - 1]; j--) {
				t = list[j]; list[j] = list[j - 1]; list[j - 1] = t
			}
		if (n == 0)
			return 0
		return n % 2 ? list[(n + 1) / 2] : (list[n / 2] + list[n / 2 + 1]) / 2
	}
	function table(title, field, format,    w, i, key) {
		printf "\n%-18s", title
		for (i = 1; i <= ns; i++)
			printf " %12s", name[i]
		if (peers)
			for (i = 2; i <= ns; i++)
				printf " %12s", "/" name[i]
		print ""
		for (w = 1; w <= nw; w++) {
			printf "%-18s", order[w]
			for (i = 1; i <= ns; i++)
				printf " %12" format, median(order[w] " " name[i], field)
			if (peers)
				for (i = 2; i <= ns; i++) {
					key = median(order[w] " " name[i], field)
					if (key > 0)
						printf " %12.2f", median(order[w] " " name[1],
							field) / key
				}
			print ""
		}
	}
	{
		key = $1 " " $2
		if (!($1 in known)) { known[$1] = 1; order[++nw] = $1 }
		n = ++count[key]
		data[key, n, 1] = $3; data[key, n, 2] = $4
		data[key, n, 3] = $5; data[key, n, 4] = $6
	}
	END {
		ns = split(servers, name, " ")
		# Ratios are blkgate to each of the others.
		peers = name[1] == "blkgate"
		table("ops/s", 1, ".0f")
		table("server CPU us/op", 2, ".2f")
		table("latency p50 us", 3, ".1f")
		table("latency p99 us", 4, ".1f")
	}' "$work/results"
echo
case $works in
*blkgate*)	start_and_weight ;;
esac
