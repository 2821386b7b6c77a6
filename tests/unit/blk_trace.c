/* SPDX-License-Identifier: MIT */
/*
 * blk_trace.c - which calls of the driver a request becomes, to the byte.
 *
 * A row is a device, requests one after the other, and all that the driver was
 * asked for. The device, what is not said being the plainest: align= (request
 * alignment) max= (max-transfer) segs= (max-segments) mem= (buf-alignment)
 * opt= (optimal-io-size) zalign= zmax= (zeroes) dalign= dmax= (discards)
 * zeroes=none|slow discards=none|units cap= tail= (x-tail-start) fua noflush regions
 * cache=wt|sync|unsafe nodiscard detect=on|unmap ro.
 * A request: what, where, flags; zero (its data is), mem+N (its memory is so
 * far off a page), iov=A,B (its first segments). "= N" is a result but 0.
 *
 * Covers: R-100 R-101 R-107 R-110 BL-4 BL-5 BL-6 BL-7 BL-8 BL-12
 */
#include <errno.h>
#include <sys/mman.h>

#include "base/range.h"
#include "tests/lib/simdev.h"
#include "tests/lib/unit.h"
#include "tests/lib/unit_disk.h"

#define MIB (1024ull * 1024)
#define DATA_BYTES (4 * MIB)

struct row {
	const char *device, *requests, *calls;
};

/* --- Rows ------------------------------------------------------------------- */

static const struct row whole[] = {
	{ "", "read 0+4096; write 0+4096; read 1+1; write 777+1",
	  "read 0+4096, write 0+4096, read 1+1, write 777+1, " },
	{ "", "write 0+4096 iov=1,2,3", "write 0+4096, " },
	{ "align=512", "read 512+512; write 512+1024", "read 512+512, write 512+1024, " },
	{ "align=4096", "write 4096+8192 iov=100,5000", "write 4096+8192, " },
	{ "align=65536", "write 65536+65536", "write 65536+65536, " },
	{ "align=512 cap=4096", "read 3584+512; write 0+4096", "read 3584+512, write 0+4096, " },
	{ "align=512", "read 0+0; write 5+0; zeroes 9+0; discard 3+0", "" },
	{ "", "write 0+0 fua", "flush, " },
	{ "align=512", "zeroes 1+0 fua", "flush, " },
	{ "align=512", "discard 1+0 fua", "flush, " },
	{ "cap=4096", "read 4096+1; write 4095+2; zeroes 0+4097; discard 4097+0",
	  " = -5 = -5 = -5 = -5" },
	{ "ro", "write 0+512; zeroes 0+512; discard 0+512; flush; write 0+0 fua; read 0+512",
	  " = -1 = -1 = -1 = -1read 0+512, " },
};

static const struct row padding[] = {
	/* The contract's own. */
	{ "align=512", "write 100+1000", "read 0+512, read 1024+512, write 0+1536, " },
	{ "align=512", "write 600+10", "read 512+512, write 512+512, " },
	/* Reads: one, of all the blocks. */
	{ "align=512", "read 100+10", "read 0+512, " },
	{ "align=512", "read 100+1000", "read 0+1536, " },
	{ "align=512", "read 511+2", "read 0+1024, " },
	{ "align=512", "read 0+100", "read 0+512, " },
	{ "align=512", "read 512+513", "read 512+1024, " },
	{ "align=4096", "read 1+8191", "read 0+8192, " },
	{ "align=65536", "read 65535+2", "read 0+131072, " },
	/* Writes inside one block. */
	{ "align=512", "write 0+1", "read 0+512, write 0+512, " },
	{ "align=512", "write 511+1", "read 0+512, write 0+512, " },
	{ "align=4096", "write 4097+4094", "read 4096+4096, write 4096+4096, " },
	/* One end. */
	{ "align=512", "write 0+513", "read 512+512, write 0+1024, " },
	{ "align=512", "write 511+513", "read 0+512, write 0+1024, " },
	{ "align=512", "write 0+5000", "read 4608+512, write 0+5120, " },
	{ "align=4096", "write 4095+8193", "read 0+4096, write 0+12288, " },
	/* Both. Blocks that lie together are one read. */
	{ "align=512", "write 511+2", "read 0+1024, write 0+1024, " },
	{ "align=512", "write 1+1022", "read 0+1024, write 0+1024, " },
	{ "align=512", "write 1+1534", "read 0+512, read 1024+512, write 0+1536, " },
	{ "align=4096", "write 4000+9000", "read 0+4096, read 12288+4096, write 0+16384, " },
	{ "align=65536", "write 65000+1000", "read 0+131072, write 0+131072, " },
	{ "align=512 cap=2048", "write 1537+511", "read 1536+512, write 1536+512, " },
	{ "align=16", "write 15+2; read 15+2", "read 0+32, write 0+32, read 0+32, " },
	{ "align=512", "write 100+1000 iov=10,500,400",
	  "read 0+512, read 1024+512, write 0+1536, " },
};

/* From tail_start on there is nothing to align, but no request crosses it. */
static const struct row tails[] = {
	{ "align=512 cap=1000 tail=512", "read 0+1000", "read 0+512, read 512+488, " },
	{ "align=512 cap=1000 tail=512", "read 512+488; write 512+488",
	  "read 512+488, write 512+488, " },
	{ "align=512 cap=1000 tail=512", "read 600+10; write 600+10; write 999+1",
	  "read 600+10, write 600+10, write 999+1, " },
	{ "align=512 cap=1000 tail=512", "read 500+100", "read 0+512, read 512+88, " },
	{ "align=512 cap=1000 tail=512", "write 0+600", "write 0+512, write 512+88, " },
	{ "align=512 cap=1000 tail=512", "write 500+20", "read 0+512, write 0+512, write 512+8, " },
	{ "align=512 cap=2000 tail=1536", "write 1+1998",
	  "read 0+512, write 0+1536, write 1536+463, " },
	{ "align=512 cap=1000 tail=512", "write 1+1", "read 0+512, write 0+512, " },
	{ "align=512 cap=1000 tail=512 max=512", "read 0+1000", "read 0+512, read 512+488, " },
	{ "align=512 cap=1000 tail=512 mem=512", "write 600+10 mem+1; write 0+512 mem+1",
	  "write 600+10, write 0+512, " },
	{ "align=512 cap=1000 tail=512", "zeroes 0+1000",
	  "zeroes 0+512 no-unmap, zeroes 512+488 no-unmap, " },
	{ "align=512 cap=1000 tail=512", "zeroes 100+900",
	  "zeroes 512+488 no-unmap, read 0+512, write 0+512, " },
	{ "align=512 cap=1000 tail=512", "zeroes 600+10", "zeroes 600+10 no-unmap, " },
	{ "align=512 cap=1000 tail=512",
	  "discard 0+1000; discard 1+600; discard 0+511; discard 700+1",
	  "discard 0+512, discard 512+488, discard 512+89, discard 700+1, " },
	{ "align=512 cap=1000 tail=512", "write 600+10 fua", "write 600+10 fua, " },
	{ "align=512 cap=1000 tail=512", "write 0+1000 fua",
	  "write 0+512, write 512+488, flush, " },
	{ "align=512 cap=1000 tail=512 fua", "write 500+20 fua",
	  "read 0+512, write 0+512 fua, write 512+8 fua, " },
	{ "align=512 cap=1000 tail=512", "zeroes 0+1000 fua",
	  "zeroes 0+512 no-unmap, zeroes 512+488 no-unmap, flush, " },
	{ "align=4096 cap=100 tail=0", "read 0+100; write 50+1", "read 0+100, write 50+1, " },
	{ "align=4096 cap=8192 tail=8192", "read 0+8192; write 1+1",
	  "read 0+8192, read 0+4096, write 0+4096, " },
};

static const struct row pieces[] = {
	{ "align=512 max=1024", "read 0+2560", "read 0+1024, read 1024+1024, read 2048+512, " },
	{ "align=512 max=1024", "write 512+2048", "write 512+1024, write 1536+1024, " },
	{ "align=512 max=512", "write 0+1536", "write 0+512, write 512+512, write 1024+512, " },
	{ "align=4096 max=4096", "write 100+8192",
	  "read 0+4096, read 8192+4096, write 0+4096, write 4096+4096, write 8192+4096, " },
	{ "align=512 max=512", "read 100+1000", "read 0+512, read 512+512, read 1024+512, " },
	{ "align=512 max=512", "write 511+2",
	  "read 0+512, read 512+512, write 0+512, write 512+512, " },
	{ "max=1000", "write 5+2500", "write 5+1000, write 1005+1000, write 2005+500, " },
	{ "max=1000", "read 0+1001", "read 0+1000, read 1000+1, " },
	{ "align=512 max=1024 opt=1024", "write 512+1536", "write 512+1024, write 1536+512, " },
	/* Segments: what does not make a block goes to the next piece. */
	{ "align=512 segs=1", "write 0+2048 iov=1024", "write 0+1024, write 1024+1024, " },
	{ "align=512 segs=2", "write 0+2048 iov=512,512,512",
	  "write 0+1024, write 1024+1024, " },
	{ "align=512 segs=2", "write 0+1536 iov=600,400", "write 0+512, write 512+1024, " },
	{ "align=512 segs=3", "write 0+2048 iov=100,924,300,212,10",
	  "write 0+1024, write 1024+512, write 1536+512, " },
	{ "segs=2", "write 3+40 iov=10,10,10", "write 3+20, write 23+20, " },
	{ "segs=1", "read 0+30 iov=10,10", "read 0+10, read 10+10, read 20+10, " },
	/* Head and tail are segments of their own. */
	{ "align=512 segs=2", "write 1+1534",
	  "read 0+512, read 1024+512, write 0+1024, write 1024+512, " },
	{ "align=512 segs=3", "write 1+1534", "read 0+512, read 1024+512, write 0+1536, " },
	{ "align=512 segs=1", "read 100+1000", "read 0+512, read 512+512, read 1024+512, " },
	/* One block in more segments than a piece has: bounced. */
	{ "align=512 segs=2", "write 0+512 iov=100,100", "write 0+512, " },
	{ "align=512 segs=1", "write 0+1024 iov=512,100", "write 0+512, write 512+512, " },
	{ "align=512 segs=1", "read 0+1024 iov=100,924", "read 0+1024, " },
	{ "max=1000 segs=1", "write 0+2100 iov=300,1500",
	  "write 0+300, write 300+1000, write 1300+500, write 1800+300, " },
};

static const struct row memory[] = {
	{ "align=512 mem=512", "write 0+1024", "write 0+1024, " },
	{ "align=512 mem=512", "write 0+1024 mem+512", "write 0+1024, " },
	{ "align=512 mem=512", "write 0+1024 mem+1; read 0+1024 mem+4",
	  "write 0+1024, read 0+1024, " },
	{ "align=512 mem=512 max=512", "write 0+1024 mem+1", "write 0+512, write 512+512, " },
	{ "align=512 mem=512", "write 0+2048 iov=1024,512 mem+0", "write 0+2048, " },
	{ "align=512 mem=4", "write 0+1024 iov=6", "write 0+1024, " },
	{ "mem=512", "write 7+100; read 7+512", "write 7+100, read 7+512, " },
	{ "align=512 mem=4096", "write 100+1000", "read 0+512, read 1024+512, write 0+1536, " },
	/* Up to a piece of 256 KiB. */
	{ "align=512 mem=512", "write 0+524288 mem+1", "write 0+262144, write 262144+262144, " },
	{ "align=512 regions", "write 0+1024; read 0+1024", "write 0+1024, read 0+1024, " },
	{ "regions", "write 5+10", "write 5+10, " },
	{ "align=512 regions", "zeroes 0+512; write 100+1000",
	  "zeroes 0+512 no-unmap, read 0+512, read 1024+512, write 0+1536, " },
	{ "align=512 regions zeroes=none", "zeroes 0+1024",
	  "zeroes 0+1024 no-unmap, write 0+1024, " },
};

static const struct row zeroes[] = {
	{ "", "zeroes 3+5", "zeroes 3+5 no-unmap, " },
	{ "", "zeroes 0+512 may-unmap", "zeroes 0+512, " },
	{ "nodiscard", "zeroes 0+512 may-unmap", "zeroes 0+512 no-unmap, " },
	{ "", "zeroes 0+512 no-fallback", "zeroes 0+512 no-unmap no-fallback, " },
	{ "", "zeroes 0+512 may-unmap no-fallback", "zeroes 0+512 no-fallback, " },
	/* Blocks first, then the ends as read-modify-write. */
	{ "align=512", "zeroes 0+1024", "zeroes 0+1024 no-unmap, " },
	{ "align=512", "zeroes 100+1436", "zeroes 512+1024 no-unmap, read 0+512, write 0+512, " },
	{ "align=512", "zeroes 512+600",
	  "zeroes 512+512 no-unmap, read 1024+512, write 1024+512, " },
	{ "align=512", "zeroes 500+1000 may-unmap no-fallback",
	  "zeroes 512+512 no-fallback, read 0+512, write 0+512, read 1024+512, write 1024+512, " },
	/* No block as a whole. */
	{ "align=512", "zeroes 5+10", "read 0+512, write 0+512, " },
	{ "align=512", "zeroes 500+20 no-fallback", "read 0+1024, write 0+1024, " },
	{ "align=4096", "zeroes 1+8190", "read 0+8192, write 0+8192, " },
	/* Pieces: to the first boundary, whole units, the rest. */
	{ "align=512 zalign=4096", "zeroes 512+8192",
	  "zeroes 512+3584 no-unmap, zeroes 4096+4096 no-unmap, zeroes 8192+512 no-unmap, " },
	{ "align=512 zalign=4096", "zeroes 4096+8192", "zeroes 4096+8192 no-unmap, " },
	{ "align=512 zalign=4096", "zeroes 512+1024", "zeroes 512+1024 no-unmap, " },
	{ "align=512 zalign=4096", "zeroes 3584+1024",
	  "zeroes 3584+512 no-unmap, zeroes 4096+512 no-unmap, " },
	{ "align=512 zmax=1024", "zeroes 512+2560",
	  "zeroes 512+1024 no-unmap, zeroes 1536+1024 no-unmap, zeroes 2560+512 no-unmap, " },
	{ "align=512 zalign=1024 zmax=2560", "zeroes 512+5120",
	  "zeroes 512+512 no-unmap, zeroes 1024+2048 no-unmap, zeroes 3072+2048 no-unmap, "
	  "zeroes 5120+512 no-unmap, " },
	{ "align=512 zalign=4096 zmax=1024", "zeroes 3584+2048",
	  "zeroes 3584+512 no-unmap, zeroes 4096+1024 no-unmap, zeroes 5120+512 no-unmap, " },
	{ "zalign=4096", "zeroes 1+8191", "zeroes 1+4095 no-unmap, zeroes 4096+4096 no-unmap, " },
	{ "cap=8589934592", "zeroes 4096+2147483648",
	  "zeroes 4096+1073741824 no-unmap, zeroes 1073745920+1073741824 no-unmap, " },
	/* Where the device cannot. */
	{ "zeroes=none", "zeroes 0+4096", "zeroes 0+4096 no-unmap, write 0+4096, " },
	{ "zeroes=none", "zeroes 0+4096 may-unmap", "zeroes 0+4096, write 0+4096, " },
	{ "zeroes=none", "zeroes 0+4096 no-fallback",
	  "zeroes 0+4096 no-unmap no-fallback,  = -95" },
	{ "align=512 zeroes=none", "zeroes 100+1000 no-fallback",
	  "zeroes 512+512 no-unmap no-fallback,  = -95" },
	{ "zeroes=slow", "zeroes 0+512; zeroes 0+512 no-fallback",
	  "zeroes 0+512 no-unmap, zeroes 0+512 no-unmap no-fallback,  = -95" },
	{ "align=512 zeroes=none max=1024", "zeroes 100+3000",
	  "zeroes 512+2560 no-unmap, write 512+1024, write 1536+1024, write 2560+512, "
	  "read 0+512, write 0+512, read 3072+512, write 3072+512, " },
	{ "zeroes=none zmax=1000", "zeroes 0+1500",
	  "zeroes 0+1000 no-unmap, write 0+1000, zeroes 1000+500 no-unmap, write 1000+500, " },
	{ "zeroes=none", "zeroes 0+2097152",
	  "zeroes 0+2097152 no-unmap, write 0+1048576, write 1048576+1048576, " },
};

static const struct row discards[] = {
	{ "", "discard 5+100", "discard 5+100, " },
	{ "nodiscard", "discard 0+4096", "" },
	{ "nodiscard", "discard 0+4096 fua", "flush, " },
	{ "discards=none", "discard 0+4096", "discard 0+4096, " },
	{ "align=512", "discard 0+4096; discard 1+4096", "discard 0+4096, discard 512+3584, " },
	{ "align=512", "discard 1+1022; discard 1+511", "" },
	{ "align=512", "discard 1+1023", "discard 512+512, " },
	{ "align=512 dalign=4096", "discard 512+8192",
	  "discard 512+3584, discard 4096+4096, discard 8192+512, " },
	{ "align=512 dalign=4096 discards=units", "discard 512+8192",
	  "discard 512+3584, discard 4096+4096, discard 8192+512, " },
	{ "align=512 dmax=1024", "discard 0+2560",
	  "discard 0+1024, discard 1024+1024, discard 2048+512, " },
	{ "align=512 dalign=1024 dmax=2560", "discard 512+4096",
	  "discard 512+512, discard 1024+2048, discard 3072+1024, discard 4096+512, " },
	{ "dalign=4096", "discard 1+8191", "discard 1+4095, discard 4096+4096, " },
	{ "", "discard 0+4096 fua", "discard 0+4096, flush, " },
	{ "fua", "discard 0+4096 fua", "discard 0+4096, flush, " },
	{ "cap=8589934592", "discard 0+3221225472",
	  "discard 0+1073741824, discard 1073741824+1073741824, discard 2147483648+1073741824, " },
};

static const struct row durable[] = {
	/* FUA goes down with a single piece, or where the device does it itself. */
	{ "", "write 0+4096 fua", "write 0+4096 fua, " },
	{ "fua", "write 0+4096 fua", "write 0+4096 fua, " },
	{ "max=1024", "write 0+2048 fua", "write 0+1024, write 1024+1024, flush, " },
	{ "max=1024 fua", "write 0+2048 fua", "write 0+1024 fua, write 1024+1024 fua, " },
	{ "align=512", "write 100+1000 fua", "read 0+512, read 1024+512, write 0+1536, flush, " },
	{ "align=512 fua", "write 100+1000 fua", "read 0+512, read 1024+512, write 0+1536 fua, " },
	{ "align=512", "write 512+512 fua", "write 512+512 fua, " },
	{ "align=512 mem=512", "write 0+512 fua mem+1", "write 0+512, flush, " },
	{ "align=512 mem=512 fua", "write 0+512 fua mem+1", "write 0+512 fua, " },
	{ "", "zeroes 0+512 fua", "zeroes 0+512 fua no-unmap, " },
	{ "align=512", "zeroes 100+1000 fua",
	  "zeroes 512+512 no-unmap, read 0+512, write 0+512, read 1024+512, write 1024+512, "
	  "flush, " },
	{ "align=512 fua", "zeroes 100+1000 fua",
	  "zeroes 512+512 fua no-unmap, read 0+512, write 0+512 fua, read 1024+512, "
	  "write 1024+512 fua, " },
	{ "align=512", "zeroes 5+10 fua", "read 0+512, write 0+512, flush, " },
	{ "align=512 fua", "zeroes 5+10 fua", "read 0+512, write 0+512 fua, " },
	{ "zmax=512", "zeroes 0+1024 fua",
	  "zeroes 0+512 no-unmap, zeroes 512+512 no-unmap, flush, " },
	{ "zmax=512 fua", "zeroes 0+1024 fua",
	  "zeroes 0+512 fua no-unmap, zeroes 512+512 fua no-unmap, " },
	{ "zeroes=none", "zeroes 0+1024 fua", "zeroes 0+1024 fua no-unmap, write 0+1024, flush, " },
	{ "zeroes=none fua", "zeroes 0+1024 fua",
	  "zeroes 0+1024 fua no-unmap, write 0+1024, flush, " },
	{ "zalign=4096", "zeroes 512+8192 fua",
	  "zeroes 512+3584 no-unmap, zeroes 4096+4096 no-unmap, zeroes 8192+512 no-unmap, "
	  "flush, " },
	{ "zalign=4096", "zeroes 4096+8192 fua", "zeroes 4096+8192 fua no-unmap, " },
	{ "zalign=4096 fua", "zeroes 512+4096 fua",
	  "zeroes 512+3584 fua no-unmap, zeroes 4096+512 fua no-unmap, " },
	{ "noflush", "write 0+512 fua; write 0+0 fua; flush; discard 0+512 fua",
	  "write 0+512 fua, discard 0+512, " },
	/* Every write durable. */
	{ "cache=wt", "write 0+512; zeroes 0+512; write 0+0; flush",
	  "write 0+512 fua, zeroes 0+512 fua no-unmap, flush, " },
	{ "cache=wt max=512", "write 0+1024", "write 0+512, write 512+512, flush, " },
	{ "cache=sync align=512", "write 1+1", "read 0+512, write 0+512, flush, " },
	{ "cache=wt", "discard 0+512", "discard 0+512, " },
	/* None. */
	{ "cache=unsafe max=512", "write 0+1024 fua; flush; zeroes 0+512 fua",
	  "write 0+512, write 512+512, zeroes 0+512 no-unmap, " },
	/* Flushes: the first, then when something has changed. */
	{ "", "flush; flush; flush", "flush, " },
	{ "", "flush; read 0+512; flush", "flush, read 0+512, " },
	{ "", "write 0+512; flush; flush; write 0+512; flush",
	  "write 0+512, flush, write 0+512, flush, " },
	{ "", "flush; zeroes 0+512; flush; discard 0+512; flush",
	  "flush, zeroes 0+512 no-unmap, flush, discard 0+512, flush, " },
	{ "max=512", "write 0+1024 fua; flush", "write 0+512, write 512+512, flush, " },
};

static const struct row detected[] = {
	{ "", "write 0+512 zero", "write 0+512, " },
	{ "detect=on", "write 0+512; write 0+512 zero", "write 0+512, zeroes 0+512 no-unmap, " },
	{ "detect=unmap", "write 0+512 zero", "zeroes 0+512, " },
	{ "detect=unmap nodiscard", "write 0+512 zero", "zeroes 0+512 no-unmap, " },
	{ "detect=on", "write 0+512 zero fua", "zeroes 0+512 fua no-unmap, " },
	{ "detect=on cache=wt", "write 0+512 zero", "zeroes 0+512 fua no-unmap, " },
	{ "detect=on align=512", "write 100+1000 zero",
	  "zeroes 512+512 no-unmap, read 0+512, write 0+512, read 1024+512, write 1024+512, " },
	{ "detect=on zeroes=none", "write 0+512 zero", "zeroes 0+512 no-unmap, write 0+512, " },
	{ "detect=on", "write 0+0 fua", "flush, " },
};

/* --- Reading them ----------------------------------------------------------- */

static struct unit_disk d;
static uint8_t *data;

/* The value of NAME= in TEXT, or DEFAULT. */
static uint64_t
number(const char *text, const char *name, uint64_t otherwise)
{
	const char *at = strstr(text, name);

	while (at && at > text && at[-1] != ' ')
		at = strstr(at + 1, name);
	return at ? strtoull(at + strlen(name), NULL, 10) : otherwise;
}

static bool
word(const char *text, const char *name)
{
	size_t n = strlen(name);

	for (const char *at = strstr(text, name); at; at = strstr(at + 1, name))
		if ((at == text || at[-1] == ' ') && (at[n] == ' ' || at[n] == '\0'))
			return true;
	return false;
}

static void
open_device(const char *text)
{
	const struct sim_config sc = {
		.instant = true,
		.capacity = number(text, "cap=", 8 * MIB),
		.window_len = MIN(number(text, "cap=", 8 * MIB), MIB / 8),
		.block = 4096,
		.tail = strstr(text, "tail="),
		.tail_start = number(text, "tail=", 0),
		.request_alignment = (int)number(text, "align=", 1),
		.max_transfer = (int)number(text, "max=", 0),
		.max_segments = (int)number(text, "segs=", 0),
		.buf_alignment = (int)number(text, "mem=", 1),
		.optimal_io_size = (int)number(text, "opt=", 0),
		.zeroes_alignment = (int)number(text, "zalign=", 0),
		.max_write_zeroes = number(text, "zmax=", 0),
		.discard_alignment = (int)number(text, "dalign=", 0),
		.max_discard = number(text, "dmax=", 0),
		.zeroes = word(text, "zeroes=none") ? SIM_ZEROES_NONE :
			  word(text, "zeroes=slow") ? SIM_ZEROES_NO_FAST : SIM_ZEROES_DONE,
		.discards = word(text, "discards=none") ? SIM_DISCARDS_NONE :
			    word(text, "discards=units") ? SIM_DISCARDS_UNITS : SIM_DISCARDS_ANY,
		.fua_native = word(text, "fua"),
		.flush_needed = !word(text, "noflush"),
		.needs_regions = word(text, "regions"),
		.needs_region_fds = word(text, "regions"),
	};
	const struct dev_config dc = {
		.driver = "sim",
		.nqueues = 1,
		.discard = !word(text, "nodiscard"),
		.read_only = word(text, "ro"),
		.cache = word(text, "cache=wt") ? DEV_CACHE_WRITETHROUGH :
			 word(text, "cache=sync") ? DEV_CACHE_DIRECTSYNC :
			 word(text, "cache=unsafe") ? DEV_CACHE_UNSAFE : DEV_CACHE_WRITEBACK,
		.detect_zeroes = word(text, "detect=on") ? DEV_DETECT_ON :
				 word(text, "detect=unmap") ? DEV_DETECT_UNMAP : DEV_DETECT_OFF,
	};

	sim_reset(&sc);
	unit_disk_open(&d, &dc);
}

static int
run_request(const char *text)
{
	static const char *const names[] = { "read ", "write ", "zeroes ", "discard ", "flush" };
	struct iovec iov[16];
	struct unit_request r = { .iov = iov };
	uint8_t *at = data + number(text, "mem+", 0);
	const char *cut = strstr(text, "iov=");
	uint64_t left;
	char *end;

	while (strncmp(text, names[r.op], strlen(names[r.op])) != 0)
		r.op++;
	if (r.op != UNIT_FLUSH) {
		r.off = strtoull(strchr(text, ' '), &end, 10);
		r.len = strtoull(end + 1, NULL, 10);
	}
	r.flags = (word(text, "fua") ? BLK_FUA : 0) |
		  (word(text, "may-unmap") ? BLK_MAY_UNMAP : 0) |
		  (word(text, "no-fallback") ? BLK_NO_FALLBACK : 0);
	left = r.len;
	for (cut = cut ? cut + 4 : NULL; cut && left; cut = *end == ',' ? end + 1 : NULL) {
		size_t len = (size_t)MIN(strtoull(cut, &end, 10), left);

		iov[r.iovcnt++] = (struct iovec){ at, len };
		at += len;
		left -= len;
	}
	if (r.op <= UNIT_WRITE) {
		ck_assert_uint_le(r.len, DATA_BYTES - 4096);
		if (left)
			iov[r.iovcnt++] = (struct iovec){ at, (size_t)left };
		memset(data, word(text, "zero") ? 0 : 0x5a, (size_t)r.len + 4096);
	}
	return unit_disk_run(&d, r);
}

static void
run_row(const struct row *row)
{
	static char got[65536], text[256];
	const char *at = row->requests;
	size_t n = 0;

	open_device(row->device);
	got[0] = '\0';
	while (at) {
		const char *next = strstr(at, "; ");
		int ret;

		snprintf(text, sizeof(text), "%.*s", next ? (int)(next - at) : 255, at);
		sim_text_clear();
		ret = run_request(text);
		n += (size_t)snprintf(got + n, sizeof(got) - n, "%s", sim_text());
		if (ret)
			n += (size_t)snprintf(got + n, sizeof(got) - n, " = %d", ret);
		at = next ? next + 2 : NULL;
	}
	unit_disk_close(&d);
	if (strcmp(got, row->calls) != 0) {
		fprintf(stderr, "device: %s\n  %s\nshould be: %s\n       is: %s\n", row->device,
			row->requests, row->calls, got);
		ck_abort_msg("%s: %s", row->device, row->requests);
	}
}

static void
run_rows(const struct row *rows, size_t n)
{
	data = mmap(NULL, DATA_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ck_assert(data != MAP_FAILED);
	for (size_t i = 0; i < n; i++)
		run_row(&rows[i]);
	munmap(data, DATA_BYTES);
}

#define ROWS(name, rows) \
	START_TEST(name) \
	{ \
		run_rows(rows, ARRAY_SIZE(rows)); \
	} \
	END_TEST

ROWS(whole_requests, whole)
ROWS(ends_inside_a_block, padding)
ROWS(a_tail_to_the_byte, tails)
ROWS(limits_of_a_piece, pieces)
ROWS(foreign_memory, memory)
ROWS(write_zeroes, zeroes)
ROWS(advice, discards)
ROWS(durability, durable)
ROWS(detect_zeroes, detected)

/* Not a byte more than was asked for, and with zeroes not a byte less. */
static void
check_range(uint64_t align, bool discard, uint64_t off, uint64_t len)
{
	static uint8_t before[4 * 512], after[4 * 512];
	uint64_t size = 3 * align, first = align_up(off, align);
	uint64_t last = align_down(off + len, align);

	memset(before, 0xa5, size);
	sim_poke(0, before, size);
	ck_assert_int_eq(discard ? unit_disk_discard(&d, off, len, 0) :
				   unit_disk_zeroes(&d, off, len, 0), 0);
	sim_peek(0, after, size);
	for (uint64_t i = 0; i < size; i++) {
		bool zeroed = discard ? i >= first && i < last : i >= off && i < off + len;

		ck_assert_msg(after[i] == (zeroed ? 0 : 0xa5), "%s %llu+%llu: byte %llu is 0x%02x",
			      discard ? "discard" : "zeroes", (unsigned long long)off,
			      (unsigned long long)len, (unsigned long long)i, after[i]);
	}
}

/* Of three blocks. */
START_TEST(every_range)
{
	static const struct {
		unsigned align, step;
	} table[] = { { 16, 1 }, { 512, 37 } };

	for (size_t t = 0; t < ARRAY_SIZE(table); t++)
	for (int discard = 0; discard < 2; discard++) {
		const struct sim_config sc = {
			.instant = true,
			.capacity = 3 * table[t].align,
			.request_alignment = (int)table[t].align,
			.discards = SIM_DISCARDS_ANY,
			.discarded = SIM_DISCARDED_ZERO,
			.flush_needed = true,
		};
		const struct dev_config dc = { .driver = "sim", .nqueues = 1, .discard = true };

		sim_reset(&sc);
		unit_disk_open(&d, &dc);
		for (uint64_t off = 0; off < sc.capacity; off += table[t].step)
			for (uint64_t len = 1; off + len <= sc.capacity; len += table[t].step)
				check_range(table[t].align, discard, off, len);
		unit_disk_close(&d);
	}
}
END_TEST

UNIT_MAIN_IF(unit_loop_possible(), whole_requests, ends_inside_a_block, a_tail_to_the_byte,
	     limits_of_a_piece, foreign_memory, write_zeroes, advice, durability, detect_zeroes,
	     every_range)
