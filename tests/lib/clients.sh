# shellcheck shell=sh
# SPDX-License-Identifier: MIT
#
# clients.sh - what real NBD clients do to one disk: clients_on KIND.
#
# Each client starts on a server of its own; what it wrote is compared with the
# bytes of the disk itself, read past the server, after the server has stopped
# (and before, where the client has flushed).

# shellcheck disable=SC2154  # uri, sock, targets, log and disk_file are func.sh's

mib=64

# same_as FILE: the disk holds exactly the bytes of FILE.
same_as()
{
	if [ -n "$disk_file" ]; then
		cmp "$1" "$disk_file" || fail "$client: the disk differs from $1"
	fi
}

need()
{
	for tool in "$@"; do
		command -v "$tool" >/dev/null || {
			echo "$tool is not installed"
			exit 77
		}
	done
}

# A disk's worth of data: random parts, zeroes and repeated text in turn.
make_image()
{
	truncate -s ${mib}M "$1"
	dd if=/dev/urandom of="$1" bs=1M count=12 conv=notrunc status=none
	yes 'the same line again and again' | dd of="$1" bs=1M seek=20 count=8 iflag=fullblock \
		conv=notrunc status=none
	dd if=/dev/urandom of="$1" bs=4096 seek=10001 count=77 conv=notrunc status=none
	dd if=/dev/urandom of="$1" bs=512 seek=131071 count=1 conv=notrunc status=none
}

client_nbdinfo()
{
	nbdinfo --json "$uri" >info.json
	/usr/bin/python3 - info.json $mib <<-'END'
		import json, sys
		with open(sys.argv[1], encoding="utf-8") as f:
		    info = json.load(f)
		assert info["protocol"] == "newstyle-fixed", info
		export, = info["exports"]
		assert export["export-size"] == int(sys.argv[2]) << 20, export
		assert export["is_read_only"] is False, export
		for can in ("can_cache", "can_flush", "can_fua", "can_multi_conn", "can_trim", "can_zero"):
		    assert export[can] is True, (can, export)
		assert export["can_df"] is True, export
		assert "base:allocation" in export["contexts"], export
		assert export["block_size_minimum"] >= 1, export
		assert export["block_size_maximum"] == 32 << 20, export
	END
	[ "$(nbdinfo --size "$uri")" = $((mib << 20)) ] || fail 'nbdinfo --size'
	nbdinfo --can write "$uri" || fail 'nbdinfo --can write'
	nbdinfo --list "$uri" >list.txt
	grep -q 'export=""' list.txt || fail "nbdinfo --list: $(cat list.txt)"
	nbdinfo "$uri" >/dev/null
}

client_nbdcopy()
{
	make_image source
	nbdcopy --flush source "$uri"
	same_as source
	nbdcopy "$uri" copy
	cmp source copy || fail 'read back by nbdcopy'
	# Many connections, many requests, zeroes written out.
	nbdcopy --connections=4 --requests=64 --destination-is-zero "$uri" copy2
	cmp source copy2 || fail 'read back over four connections'
	nbdcopy --allocated --connections=4 --request-size=$((1 << 20)) --flush source "$uri"
	same_as source
	nbdcopy --synchronous "$uri" - | cmp - source || fail 'read back synchronously'
}

client_nbdkit()
{
	make_image source
	# nbdkit as a client of ours, on behalf of others.
	if [ -n "${TESTS_TLS-}" ]; then
		set -- socket="$sock" tls=require tls-certificates="$TESTS_TLS"
	else
		set -- uri="$uri"
	fi
	nbdkit -U - nbd "$@" --run "nbdcopy --flush source \"\$uri\""
	same_as source
	nbdkit -U - nbd "$@" --run "nbdcopy \"\$uri\" copy"
	cmp source copy || fail 'read back through nbdkit'
}

# qemu_names: the disk as QEMU's clients want it, and the object that they need for it.
qemu_names()
{
	qemu_disk=$uri
	qemu_object=
	if [ -n "${TESTS_TLS-}" ]; then
		qemu_disk='{"driver":"nbd","server":{"type":"unix","path":"'$sock'"},'
		qemu_disk=$qemu_disk'"tls-creds":"tls","tls-hostname":"localhost"}'
		qemu_disk='json:{"driver":"raw","file":'$qemu_disk'}'
		qemu_object="--object tls-creds-x509,id=tls,endpoint=client,dir=$TESTS_TLS"
	fi
}

qemu_img()
{
	command=$1
	shift
	# shellcheck disable=SC2086  # two words, or none
	qemu-img "$command" $qemu_object "$@"
}

client_qemu_img()
{
	qemu_names
	make_image source
	qemu_img info "$qemu_disk" | grep -q "virtual size: 64 MiB" || fail 'qemu-img info'
	qemu_img convert -n -f raw -O raw source "$qemu_disk"
	same_as source
	qemu_img compare -f raw -F raw source "$qemu_disk" || fail 'qemu-img compare'
	qemu_img convert -f raw -O raw "$qemu_disk" copy
	cmp source copy || fail 'read back by qemu-img'
	# Out of order, 16 coroutines, through a qcow2 image and back.
	qemu_img convert -f raw -O qcow2 -m 16 -W "$qemu_disk" copy.qcow2
	qemu_img convert -n -f qcow2 -O raw -m 16 -W copy.qcow2 "$qemu_disk"
	same_as source
	# They can tell a difference.
	printf X | dd of=copy bs=1 seek=33333333 conv=notrunc status=none
	if qemu_img compare -q -f raw -F raw copy "$qemu_disk"; then
		fail 'qemu-img compare sees no difference'
	fi
}

client_qemu_io()
{
	qemu_names
	# shellcheck disable=SC2086  # $qemu_object: two words, or none
	# Unaligned requests too: where the device cannot, qemu-io pads them.
	qemu-io $qemu_object -f raw \
		-c 'write -P 0x11 0 64M' \
		-c 'write -P 0x22 4096 8192' \
		-c 'write -P 0x33 1000 3000' \
		-c 'write -f -P 0x44 1048576 65536' \
		-c 'write -z 2M 1M' \
		-c 'write -z -u 4M 1M' \
		-c 'write -z 6291461 7' \
		-c 'discard 8M 1M' \
		-c 'write -P 0x55 67108352 512' \
		-c 'aio_write -P 0x66 10M 1M' \
		-c 'aio_write -P 0x77 12M 1M' \
		-c 'aio_flush' \
		-c 'flush' \
		"$qemu_disk" >qemu-io.txt 2>&1 || { cat qemu-io.txt; fail 'qemu-io writes'; }
	# -P reads compare, and say so; the exit status of 7.2 alone does not tell.
	# shellcheck disable=SC2086
	qemu-io $qemu_object -f raw -r \
		-c 'read -P 0x11 0 1000' -c 'read -P 0x33 1000 3000' -c 'read -P 0x11 4000 96' \
		-c 'read -P 0x22 4096 8192' -c 'read -P 0x11 12288 1036288' \
		-c 'read -P 0x44 1M 64k' -c 'read -P 0 2M 1M' -c 'read -P 0x11 3M 1M' \
		-c 'read -P 0 4M 1M' -c 'read -P 0x11 5M 1M' -c 'read -P 0x11 6M 5' \
		-c 'read -P 0 6291461 7' -c 'read -P 0x11 6291468 1000' -c 'read -P 0x11 9M 1M' \
		-c 'read -P 0x66 10M 1M' -c 'read -P 0x77 12M 1M' -c 'read -P 0x55 67108352 512' \
		"$qemu_disk" >qemu-io.txt 2>&1 || { cat qemu-io.txt; fail 'qemu-io reads'; }
	if grep -iE 'fail|error|invalid' qemu-io.txt; then
		fail 'qemu-io read something else'
	fi
	if [ -n "$disk_file" ]; then
		[ "$(od -An -tx1 -j 1000 -N 1 "$disk_file")" = ' 33' ] || fail 'the disk at 1000'
		[ "$(od -An -tx1 -j 6291468 -N 1 "$disk_file")" = ' 11' ] || fail 'the disk at 6291468'
	fi
}

client_fio()
{
	fio --name=verify --ioengine=nbd --uri="$uri" --rw=randrw --rwmixread=40 \
		--bssplit=512/10:4k/40:12k/10:64k/30:256k/10 --iodepth=32 \
		--numjobs=4 --size=$((mib / 4))M --offset_increment=$((mib / 4))M \
		--verify=crc32c --verify_fatal=1 --do_verify=1 --verify_state_save=0 \
		--fsync=64 --randseed=7 --group_reporting --output=fio.txt ||
		{ cat fio.txt; fail 'fio'; }
	grep -q 'err= 0' fio.txt || { cat fio.txt; fail 'fio: errors'; }
	fio --name=seq --ioengine=nbd --uri="$uri" --rw=write --bs=1M --iodepth=8 --size=${mib}M \
		--verify=crc32c --verify_fatal=1 --do_verify=1 --verify_state_save=0 \
		--output=fio.txt || { cat fio.txt; fail 'fio: sequential'; }
	fio --name=trim --ioengine=nbd --uri="$uri" --rw=randtrim --bs=64k --iodepth=16 \
		--size=${mib}M --io_size=16M --randseed=9 --output=fio.txt ||
		{ cat fio.txt; fail 'fio: trim'; }
}

# excused: the lines that the log may have about this client.
excused()
{
	case $client${TESTS_TLS:+ over TLS} in
	# It has been seen to end before its plugin has; TLS makes that worth a line.
	'nbdkit over TLS') echo 'dropped .* during=transmission error="Connection reset' ;;
	*)	echo '^$' ;;
	esac
}

clients_on()
{
	need nbdinfo nbdcopy nbdkit qemu-img qemu-io fio
	clients='nbdinfo nbdcopy nbdkit qemu_img qemu_io'
	# fio takes no certificates.
	[ -n "${TESTS_TLS-}" ] || clients="$clients fio"
	for client in $clients; do
		disk "$1" $mib
		# shellcheck disable=SC2086  # a list of words
		serve $targets
		"client_$client"
		if grep -E '^(error|warning)' "$log" | grep -v "$(excused)"; then
			fail "$client: complaints in the log"
		fi
		stop
		if [ -n "$loop" ]; then
			losetup --detach "$loop"
			loop=
		fi
		rm -f source copy copy2 copy.qcow2 "$disk_file"
		echo "ok   $client"
	done
}
