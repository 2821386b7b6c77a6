# SPDX-License-Identifier: MIT
"""Defects of transmission, and the case of tests/conform that has to notice each.

As with those of the handshake, what these make is a wrong server of the kind that
the case is there for.
"""

REQUEST = "server/nbd/request.c"
REPLY = "server/nbd/reply.c"
READ = "server/nbd/read.c"
STATUS = "server/nbd/status.c"
CONTEXT = "server/nbd/context.c"
PROTO = "server/nbd/proto.c"
CONN = "server/nbd/conn.c"
HANDSHAKE = "server/nbd/handshake.c"
META = "server/nbd/opt_meta.c"
GO = "server/nbd/opt_go.c"
RANGE = "include/base/range.h"
DRIVER_ZEROES = "drivers/io_uring_zeroes.c"

# --- Places that more than one defect is at ---

NOT_SERIALISED = [("\twhile ((blocker = blocker_of(t, req))) {\n",
                   "\twhile ((blocker = NULL)) {\n")]
NO_HOLE_IGNORED = [("(req->nbd.flags & NBD_CMD_FLAG_NO_HOLE ? 0 : BLK_MAY_UNMAP)",
                    "BLK_MAY_UNMAP")]
FIRST_64M_ONLY = [("\t*start += req->done;\n", "\t*start += req->done % (64u << 20);\n")]
NO_LAST_SYNC = [("\treturn flush_co(c->q);\n", "\treturn 0;\n")]
SUMS_WRAP = [("\treturn off <= size && len <= size - off;\n", "\treturn off + len <= size;\n")]
CLIPPED_ANYWHERE = [("#define COMPACT_EXTENT_MAX (UINT64_C(1) << 31)",
                     "#define COMPACT_EXTENT_MAX UINT64_C(0x7fffffff)")]
ANSWER_KEPT = [
    ("\tint ret = blk_co_status(q, off, len, &e);\n",
     "\tstatic uint64_t from, to;\n\tstatic uint32_t kept;\n\tint ret = 0;\n\n"
     "\tif (off >= from && off < to) {\n"
     "\t\te = (struct blk_extent){ .len = to - off < len ? to - off : len, .flags = kept };\n"
     "\t} else {\n\t\tret = blk_co_status(q, off, len, &e);\n"
     "\t\tfrom = off;\n\t\tto = off + e.len;\n\t\tkept = e.flags;\n\t}\n")]
GOES_ON_AFTER_FAILURE = [
    ("\t\tif (ret < 0) {\n\t\t\trequest_finish(req, ret);\n\t\t\treturn;\n",
     "\t\tif (ret < 0) {\n\t\t\trequest_finish(req, ret);\n\t\t\tif (left == 0)\n"
     "\t\t\t\treturn;\n")]
CHUNKS_LONGER_THAN_ADVERTISED = [("\tuint64_t max = r->req->conn->limits.payload_max;\n",
                                  "\tuint64_t max = UINT64_MAX;\n")]
READ_ONLY_IN_RANGE = [
    ("\tif (cmd->writes && limits->tflags & NBD_FLAG_READ_ONLY)\n",
     "\tif (cmd->writes && limits->tflags & NBD_FLAG_READ_ONLY &&\n"
     "\t    range_ok(req->offset, req->length, limits->size_bytes))\n")]


def drained_above(limit):
    """Which refused payloads end the connection."""
    return [("\tif (v->payload_bytes > LIMIT_PAYLOAD_DRAINED) {\n", f"\tif ({limit}) {{\n")]


def at_disc(more):
    """What happens when DISC has been read."""
    return [("\t\tif (req->nbd.command == NBD_CMD_DISC) {\n\t\t\tslot_return(conn, req);\n",
             f"\t\tif (req->nbd.command == NBD_CMD_DISC) {{\n{more}")]


def has_payload(condition):
    return [("\treturn says_so || req->command == NBD_CMD_WRITE ?", f"\treturn {condition} ?")]


def row(command, beginning, old, new):
    """What stands in the row of a command, whose rows begin alike."""
    head = f"\t[NBD_CMD_{command}] = {{\n" + beginning
    return [(head + old, head + new)]


LENGTH_MAX = "\t\t.length_max = LIMIT_PAYLOAD_SERVED,\n"
ADVERTISED = "\t\t.length_max = LIMIT_PAYLOAD_ADVERTISED,\n"
RANGE_FROM = "\t\t.writes = true,\n\t\t.has_range = true,\n\t\t.past_end = "
FUA = "\t\t.flags = NBD_CMD_FLAG_FUA,\n"
READ_ROW = ("\t\t.op = BACKEND_READ,\n" + FUA + "\t\t.has_range = true,\n"
            "\t\t.past_end = -EINVAL,\n")
WRITE_ROW = "\t\t.op = BACKEND_WRITE,\n" + FUA + RANGE_FROM
TRIM_ROW = "\t\t.op = BACKEND_DISCARD,\n" + FUA + "\t\t.needs = NBD_FLAG_SEND_TRIM,\n"
ZEROES_ROW = ("\t\t.op = BACKEND_ZEROES,\n"
              "\t\t.flags = NBD_CMD_FLAG_FUA | NBD_CMD_FLAG_NO_HOLE,\n"
              "\t\t.needs = NBD_FLAG_SEND_WRITE_ZEROES,\n" + RANGE_FROM)
CACHE_ROW = "\t\t.op = BACKEND_READ,\n"
STATUS_ROW = ("\t\t.op = BACKEND_READ,\n\t\t.flags = NBD_CMD_FLAG_FUA | NBD_CMD_FLAG_REQ_ONE,\n"
              "\t\t.has_range = true,\n\t\t.past_end = ")

# {file of cases: {name: (case, file, [(what stands there, what shall stand there)])}}
OF = {}

OF["transmission"] = {
    "a-bit-of-the-magic-unseen": ("TR_1_wrong_magic@pair", PROTO, [
        ("\treturn get_be32(bytes) == (extended ?",
         "\treturn (get_be32(bytes) | 1) == (extended ?")]),
    "any-request-magic": ("TR_1_after_good_requests@pair", PROTO, [
        ("\treturn get_be32(bytes) == (extended ? NBD_EXTENDED_REQUEST_MAGIC : "
         "NBD_REQUEST_MAGIC);\n", "\treturn true;\n")]),
    "cookies-of-63-bits": ("TR_2_every_bit_of_a_cookie@pair", PROTO, [
        ("\tput_be64(bytes + 8, cookie);\n", "\tput_be64(bytes + 8, cookie & INT64_MAX);\n")]),
    "cookies-of-chunks-of-32-bits": ("TR_2_every_bit_of_a_cookie@pair", PROTO, [
        ("\tput_be64(bytes + 8, chunk->cookie);\n",
         "\tput_be64(bytes + 8, (uint32_t)chunk->cookie);\n")]),
    "cookies-once-only": ("TR_2_one_cookie_for_all@pair", CONN, [
        ("\t\tconn->inflight++;\n\t\tret = request_admit(conn, req);\n",
         "\t\tconn->inflight++;\n"
         "\t\tfor (unsigned i = 0; i < LIMIT_INFLIGHT && conn->inflight > 1; i++)\n"
         "\t\t\tif (&conn->slots[i] != req && conn->slots[i].nbd.cookie == req->nbd.cookie)\n"
         "\t\t\t\treq->nbd.command = 99;\n"
         "\t\tret = request_admit(conn, req);\n")]),
    "headers-over-each-other": ("TR_3_any_order@pair", REPLY, [("\t\theader += len;\n", "")]),
    "one-place-for-all-headers": ("TR_3_many_at_once@tcp", REPLY, [
        ("\tuint8_t *header = conn->send_headers;\n"
         "\tconst uint8_t *headers_end = header + sizeof(conn->send_headers);\n",
         "\tstatic uint8_t shared[LIMIT_SEND_HEADERS];\n\tuint8_t *header = shared;\n"
         "\tconst uint8_t *headers_end = header + sizeof(shared);\n")]),
    "df-always": ("TR_4_flags_are_kept@pair", HANDSHAKE, [
        ("\tif (h->conn->agreed.headers != NBD_SIMPLE)\n\t\tflags |= NBD_FLAG_SEND_DF;\n",
         "\tflags |= NBD_FLAG_SEND_DF;\n")]),
    "trim-offered-where-ignored": ("TR_4_flags_are_kept@pair", HANDSHAKE, [
        ("\t\tif (exp->dev->discard)\n", "\t\tif (true)\n")]),
    "errors-in-chunks-always": ("TR_4_simple_replies@pair", REPLY, [
        ("\tif (headers == NBD_SIMPLE) {\n",
         "\tif (headers == NBD_SIMPLE && reply->ret == 0) {\n")]),
    "done-on-every-chunk": ("TR_5_done_ends_a_reply@pair", REPLY, [
        (".done = reply->last,", ".done = true,")]),
    "done-on-no-error": ("TR_5_done_after_failure@pair", REPLY, [
        (".done = reply->last,",
         ".done = reply->last && reply->type != NBD_REPLY_ERROR_OFFSET,")]),
    "payload-left-when-read-only": ("TR_6_payload_is_consumed@pair", REQUEST, [
        ("\tv.payload_bytes = payload_bytes(limits, req);\n",
         "\tv.payload_bytes = v.ret == -EPERM ? 0 : payload_bytes(limits, req);\n")]),
    "payload-left-past-the-end": ("TR_6_payload_is_consumed@pair", REQUEST, [
        ("\tv.payload_bytes = payload_bytes(limits, req);\n",
         "\tv.payload_bytes = v.ret == -ENOSPC ? 0 : payload_bytes(limits, req);\n")]),
    "trim-is-no-change": ("TR_7_read_only@pair", REQUEST,
                          row("TRIM", TRIM_ROW, "\t\t.writes = true,\n", "")),
    "no-hole-on-anything": ("TR_8_every_pair_of_command_and_flag@pair", REQUEST, [
        ("\tif (req->flags & ~flags_taken(limits, req->command))\n",
         "\tif (req->flags & ~flags_taken(limits, req->command) & ~NBD_CMD_FLAG_NO_HOLE)\n")]),
    "half-a-command": ("TR_8_unknown_commands@pair", PROTO, [
        ("\treq->command = get_be16(bytes + 6);\n", "\treq->command = bytes[7];\n")]),
    "nothing-is-always-in-range": ("TR_9_zero_length@pair", REQUEST, [
        ("\tif (!range_ok(req->offset, req->length, limits->size_bytes))\n",
         "\tif (req->length && !range_ok(req->offset, req->length, limits->size_bytes))\n")]),
    "empty-chunk-of-data": ("TR_9_zero_length@pair", READ, [
        ("\tif (len == 0) {\n\t\trequest_finish(req, 0);\n",
         "\tif (len == 0) {\n\t\treply_queue_buffer(req);\n")]),
    "hangs-up-beyond-the-end": ("TR_10_random_requests@pair", CONN, drained_above(
        "v->payload_bytes > LIMIT_PAYLOAD_DRAINED || v->fault == REQUEST_RANGE")),
    "serves-while-stopping": ("TR_11_stopping@pair", CONN, [
        ("\tif (worker_draining(conn->worker))\n\t\tv = (struct request_verdict)",
         "\tif (false)\n\t\tv = (struct request_verdict)")]),
    "memory-without-a-budget": ("TR_12_no_enomem@tcp", "server/limits.h", [
        ("#define LIMIT_CONN_PAYLOAD (64u << 20)", "#define LIMIT_CONN_PAYLOAD (1024u << 20)")]),
}

OF["read"] = {
    "failed-is-read": ("RD_1_all_or_nothing@pair", READ, [
        ("\t\tif (ret < 0)\n\t\t\trequest_finish(req, ret);\n\t\telse\n"
         "\t\t\treply_queue_buffer(req);\n", "\t\treply_queue_buffer(req);\n")]),
    "data-behind-the-error": ("RD_1_long_and_bad_at_its_end@pair", REPLY, [
        ("\tif (!req->chunked)\n\t\tconn_payload_put(req->conn, req);\n\tenqueue(reply);\n",
         "\tif (ret < 0 && req->nbd.command == NBD_CMD_READ) {\n"
         "\t\treply->iov = req->buf.iov;\n\t\treply->iovcnt = req->buf.iovcnt;\n"
         "\t} else if (!req->chunked) {\n\t\tconn_payload_put(req->conn, req);\n\t}\n"
         "\tenqueue(reply);\n")]),
    "data-told-as-holes": ("RD_2_covers_the_range@pair", READ, [
        ("\t\tif (e.flags & BLK_EXTENT_ZERO && is_worth_telling(r, at, e.len))\n",
         "\t\tif (is_worth_telling(r, at, e.len))\n")]),
    "pieces-end-anywhere": ("RD_2_meet_at_blocks@pair", READ, [
        ("max - (r->off + max) % 512", "max")]),
    "segments-end-anywhere": ("RD_2_meet_at_blocks@pair", CONN, [
        ("\t\talign = MAX(align, (uint64_t)512);\n", "\t\talign = MAX(align, (uint64_t)1);\n")]),
    "small-chunks": ("RD_2_few_chunks@pair", READ, [
        ("\tuint64_t max = r->req->conn->limits.payload_max;\n", "\tuint64_t max = 65536;\n")]),
    "holes-as-data": ("RD_2_holes_are_told@pair", READ, [
        ("\t\t.sparse = len >= LIMIT_HOLE_UNIT &&", "\t\t.sparse = false &&")]),
    "holes-behind-data-unseen": ("RD_2_holes_are_told@pair", READ, [
        ("\tr->data -= MIN(r->data, len);\n", "")]),
    "memory-told-as-data": ("RD_3_data_before_the_error@pair", READ, [
        ("\t\tif (ret < 0) {\n\t\t\tpiece_failed(r, n, ret);\n",
         "\t\tif (ret < 0 && ret != -EIO) {\n\t\t\tpiece_failed(r, n, ret);\n"),
        ("\t\tif (r->sparse && conn->exp->sparse",
         "\t\tret = 0;\n\t\tif (r->sparse && conn->exp->sparse")]),
    "good-data-lost": ("RD_3_bad_block_amid_data@pair", READ, [
        ("\tif (good > 0 && tell_data(r, good) < 0)\n\t\tlocated = false;\n",
         "\tif (good > 0)\n\t\tadvance(r, good);\n")]),
    "failed-at-the-start": ("RD_4_where_it_failed@pair", READ, [
        ("\treply_queue_error_at(req, ret, r->off);\n",
         "\treply_queue_error_at(req, ret, req->nbd.offset);\n")]),
    "errors-without-a-word": ("RD_4_errors_without_a_place@pair", REQUEST, [
        ("\tn = MIN(n, (int)size);\n", "\tn = 0;\n")]),
    "df-ignored": ("RD_5_one_chunk@pair", READ, [
        ("\t\tif (req->nbd.flags & NBD_CMD_FLAG_DF)\n", "\t\tif (false)\n")]),
    "part-of-it-a-hole": ("RD_5_one_chunk@pair", READ, [
        ("\tif (r->data == 0 && r->hole == r->end - r->off) {\n", "\tif (r->data == 0) {\n")]),
    "hole-told-elsewhere": ("RD_5_holes@pair", READ, [
        ("\t\treply_queue_hole(req, r->off, r->hole);\n",
         "\t\treply_queue_hole(req, 0, r->hole);\n")]),
    "failed-is-read-in-one": ("RD_5_failure@pair", READ, [
        ("\tif (ret < 0)\n\t\trequest_finish(req, ret);\n\telse\n\t\treply_queue_buffer(req);\n}\n",
         "\treply_queue_buffer(req);\n}\n")]),
    "df-in-simple-replies": ("RD_5_not_agreed_on@pair", REQUEST, [
        ("\tif (number == NBD_CMD_READ && limits->tflags & NBD_FLAG_SEND_DF)\n",
         "\tif (number == NBD_CMD_READ)\n")]),
    "no-more-than-advertised": ("RD_6_longest@pair", REQUEST,
                                row("READ", READ_ROW, LENGTH_MAX, ADVERTISED)),
    "longer-than-advertised": ("RD_6_small_maximum@pair", READ, CHUNKS_LONGER_THAN_ADVERTISED),
    "length-of-32-bits": ("RD_6_huge_exports@pair", REQUEST, [
        ("\tif (req->length > length_max)\n", "\tif ((uint32_t)req->length > length_max)\n")]),
    "sums-wrap-in-reads": ("RD_7_out_of_range@pair", RANGE, SUMS_WRAP),
    "sectors-only": ("RD_7_any_byte@pair", REQUEST, [
        ("\treturn is_aligned(req->offset, limits->alignment) &&\n",
         "\treturn is_aligned(req->offset, MAX(limits->alignment, UINT64_C(512))) &&\n")]),
    "no-fua-on-reads": ("RD_7_fua@pair", REQUEST, [
        ("\tif (number == NBD_CMD_READ && limits->tflags & NBD_FLAG_SEND_DF)\n",
         "\tif (number == NBD_CMD_READ)\n\t\tflags = 0;\n"
         "\tif (number == NBD_CMD_READ && limits->tflags & NBD_FLAG_SEND_DF)\n")]),
}

OF["write"] = {
    "writes-forgotten": ("WR_1_visible_at_once@pair", REQUEST, [
        ("\tcase NBD_CMD_WRITE:\n",
         "\tcase NBD_CMD_WRITE:\n\t\tif (!fua_of(req))\n\t\t\treturn 0;\n")]),
    "every-second-client-writes": ("WR_1_visible_to_others@tcp", REQUEST, [
        ("\tcase NBD_CMD_WRITE:\n",
         "\tcase NBD_CMD_WRITE:\n\t\tif (req->conn->id % 2)\n\t\t\treturn 0;\n")]),
    "fua-ignored": ("WR_1_fua_is_stable@pair", REQUEST, [
        ("\treturn req->nbd.flags & NBD_CMD_FLAG_FUA ? BLK_FUA : 0;\n", "\treturn 0;\n")]),
    "write-past-the-end-is-invalid": ("WR_2_past_the_end@pair", REQUEST,
                                      row("WRITE", WRITE_ROW, "-ENOSPC", "-EINVAL")),
    "not-strict": ("WR_2_strict_alignment@pair", REQUEST, [
        ("\tif (!fits_blocks(limits, req))\n", "\tif (false && !fits_blocks(limits, req))\n")]),
    "read-only-only-in-range": ("WR_2_read_only@pair", REQUEST, READ_ONLY_IN_RANGE),
    "writes-no-more-than-advertised": ("WR_3_longest@pair", REQUEST, row(
        "WRITE", WRITE_ROW, "-ENOSPC,\n" + LENGTH_MAX, "-ENOSPC,\n" + ADVERTISED)),
    "long-writes-not-drained": ("WR_3_drained@pair", CONN, drained_above(
        "v->payload_bytes > LIMIT_PAYLOAD_SERVED")),
    "any-write-drained": ("WR_3_beyond_draining@pair", CONN, drained_above("false")),
    "disc-cuts-replies-off": ("DC_1_earlier_requests_finish@pair", CONN, at_disc(
        "\t\t\tslot_return(conn, req);\n\t\t\tchan_abort(&conn->chan, -ECONNABORTED);\n")),
    "disc-answered": ("DC_1_earlier_requests_finish@pair", CONN, at_disc(
        "\t\t\tconn->inflight++;\n\t\t\treply_queue(req, 0);\n")),
    "disc-waits-for-nobody": ("DC_1_waits_for_the_disk@pair", CONN, at_disc(
        "\t\t\tslot_return(conn, req);\n\t\t\tchan_abort(&conn->chan, -ECONNABORTED);\n")),
    "flush-does-nothing": ("FL_1_waits_for_the_disk@pair", REQUEST, [
        ("\t\treturn backend_co_flush(port, client);\n", "\t\treturn 0;\n")]),
    "flush-of-one-worker": ("FL_1_of_another_connection@tcp", "blk/flush.c", [
        ("\twanted = generation(f);\n",
         "\twanted = 1 + list_entry(f->writers.prev, struct flush_writer, link)->generation;\n")]),
    "flush-takes-an-offset": ("FL_2_arguments@pair", REQUEST, [
        ("\t\treturn req->offset || req->length ? refuse(", "\t\treturn req->length ? refuse(")]),
    "flush-is-a-change": ("FL_3_read_only@pair", REQUEST, [
        ("\t\t.needs = NBD_FLAG_SEND_FLUSH,\n",
         "\t\t.needs = NBD_FLAG_SEND_FLUSH,\n\t\t.writes = true,\n")]),
}

OF["trim-cache-zeroes"] = {
    "trim-outwards": ("TM_1_touches_its_range_only@pair", "blk/zero.c", [
        ("\tfirst = dev_align_up(dev, off);\n", "\tfirst = dev_align_down(dev, off);\n")]),
    "trim-has-a-maximum": ("TM_2_any_length@pair", REQUEST,
                           row("TRIM", "", TRIM_ROW, LENGTH_MAX + TRIM_ROW)),
    "trim-stands-still": ("TM_2_reaches_its_end@pair", "blk/zero.c", [
        ("\t\t\tret = 0;\n\t\toff += piece;\n", "\t\t\tret = 0;\n")]),
    "trim-without-fua": ("TM_2_fua@pair", REQUEST, [
        ("backend_co_discard(port, nbd->offset, nbd->length, fua_of(req), client);",
         "backend_co_discard(port, nbd->offset, nbd->length, 0, client);")]),
    "trim-past-the-end-is-no-space": ("TM_3_past_the_end@pair", REQUEST,
                                      row("TRIM", TRIM_ROW, RANGE_FROM + "-EINVAL",
                                          RANGE_FROM + "-ENOSPC")),
    "cache-takes-flags": ("CA_1_advice@pair", REQUEST, row(
        "CACHE", CACHE_ROW, FUA, FUA.replace("FUA,", "FUA | NBD_CMD_FLAG_REQ_ONE,"))),
    "cache-ends-it": ("CA_1_failure_is_forgotten@pair", REQUEST, [
        ("\t\t\tret = cache_piece(q, req, off, len);\n",
         "\t\t\tret = cache_piece(q, req, off, len);\n"
         "\t\t\tif (ret < 0)\n\t\t\t\tchan_abort(&req->conn->chan, ret);\n")]),
    "cache-offered-and-refused": ("CA_2_not_advertised@pair", REQUEST, [
        ("\t\t.needs = NBD_FLAG_SEND_CACHE,\n", "\t\t.needs = NBD_FLAG_ROTATIONAL,\n")]),
    "zeroes-end-early": ("WZ_1_reads_back_as_zeroes@pair", "blk/zero.c", [
        ("\tif (ret == 0 && last < end)\n", "\tif (false && last < end)\n")]),
    "zeroes-without-fua": ("WZ_1_fua@pair", REQUEST, [
        ("\treturn fua_of(req) | (req->nbd.flags & NBD_CMD_FLAG_NO_HOLE",
         "\treturn (req->nbd.flags & NBD_CMD_FLAG_NO_HOLE")]),
    "no-hole-ignored": ("WZ_2_no_hole_is_provisioned@pair", REQUEST, NO_HOLE_IGNORED),
    "fast-zero-writes": ("WZ_3_fast_or_not_at_all@pair", "blk/zero.c", [
        ("\t\t\tif (flags & BLK_NO_FALLBACK && !touched)\n", "\t\t\tif (false && !touched)\n")]),
    "fast-zero-is-slow": ("WZ_3_where_it_is_fast@pair", "blk/zero.c", [
        ("\t\tif (is_unsupported(ret)) {\n",
         "\t\tif (flags & BLK_NO_FALLBACK) {\n\t\t\tret = zeroes_as_data(c->q, off, piece);\n"
         "\t\t} else if (is_unsupported(ret)) {\n")]),
    "fast-zero-unasked": ("WZ_4_not_advertised@pair", REQUEST, [
        ("\tif (number == NBD_CMD_WRITE_ZEROES && limits->tflags & NBD_FLAG_SEND_FAST_ZERO)\n",
         "\tif (number == NBD_CMD_WRITE_ZEROES)\n")]),
    "zeroes-past-the-end-are-invalid": ("WZ_5_past_the_end@pair", REQUEST,
                                        row("WRITE_ZEROES", ZEROES_ROW, "-ENOSPC", "-EINVAL")),
    "zeroes-of-64m": ("WZ_5_longer_than_a_payload@pair", DRIVER_ZEROES, FIRST_64M_ONLY),
    "zeroes-have-a-maximum": ("WZ_5_any_length@pair", REQUEST,
                              row("WRITE_ZEROES", "", ZEROES_ROW, LENGTH_MAX + ZEROES_ROW)),
}

OF["block-status"] = {
    "no-context-no-permission": ("BS_1_no_context@pair", REQUEST, [
        ("refuse(-EINVAL, REQUEST_NO_CONTEXT)", "refuse(-EPERM, REQUEST_NO_CONTEXT)")]),
    "contexts-kept": ("BS_1_contexts_given_up@pair", META, [
        ("\tif (!q.listing)\n\t\tselect_contexts(h, NULL, 0);\n", ""),
        ("\tif (!q.listing)\n\t\tselect_contexts(h, exp, q.contexts);\n",
         "\tif (!q.listing && q.contexts)\n\t\tselect_contexts(h, exp, q.contexts);\n")]),
    "all-contexts": ("BS_2_each_context_once@pair", CONN, [
        ("\treq->contexts = conn->limits.contexts;\n",
         "\treq->contexts = conn->limits.contexts ? 3 : 0;\n")]),
    "everything-merged": ("BS_3_consecutive@pair", STATUS, [
        ("\tif (begun && x->last.flags == e->flags && x->last.len < max) {\n",
         "\tif (begun && x->last.len < max) {\n")]),
    "one-extent-at-a-time": ("BS_3_many_extents@pair", STATUS, [
        ("\t\tif (taken == 0 || asked == LIMIT_STATUS_EXTENTS)\n", "\t\tif (true)\n")]),
    "extents-of-whole-sectors": ("BS_3_not_beyond_the_export@pair", STATUS, [
        ("extents_end(struct extents *x)\n{\n",
         "extents_end(struct extents *x)\n{\n\tx->last.len = (x->last.len + 511) & ~511ull;\n")]),
    "req-one-ignored": ("BS_4_req_one@pair", STATUS, [
        ("\t\tif (x->one || x->len", "\t\tif (x->len")]),
    "neighbours-alike": ("BS_5_merged@pair", STATUS, [
        ("\tif (begun && x->last.flags == e->flags && x->last.len < max) {\n",
         "\tif (begun && x->last.flags == e->flags && x->last.len < 65536) {\n"),
        ("\ttaken = MIN(e->len, max);\n\tx->last =",
         "\ttaken = MIN(e->len, 65536);\n\tx->last =")]),
    "extents-cut-anywhere": ("BS_6_compact_extents@pair", STATUS, CLIPPED_ANYWHERE),
    "status-past-the-end-fails": ("BS_7_out_of_range@pair", REQUEST,
                                  row("BLOCK_STATUS", STATUS_ROW, "-EINVAL", "-EIO")),
    "goes-on-after-failure": ("BS_8_one_error_for_all@pair", STATUS, GOES_ON_AFTER_FAILURE),
    "no-holes": ("BA_1_hole_is_not_data@pair", CONTEXT, [
        ("(flags & BLK_EXTENT_HOLE ? NBD_STATE_HOLE : 0) |", "")]),
    "all-zero": ("BA_2_zero_is_zero@pair", CONTEXT, [
        ("(flags & BLK_EXTENT_ZERO ? NBD_STATE_ZERO : 0);", "NBD_STATE_ZERO;")]),
    "answer-kept": ("BA_2_zero_beside_writers@tcp", CONTEXT, ANSWER_KEPT),
    "a-bit-of-ones-own": ("BA_3_reserved_bits@pair", CONTEXT, [
        ("(flags & BLK_EXTENT_ZERO ? NBD_STATE_ZERO : 0);",
         "(flags & BLK_EXTENT_ZERO ? NBD_STATE_ZERO : 4);")]),
    "nobody-asks-the-driver": ("BA_4_sources@pair", "blk/status.c", [
        ("\tif (!blkioq_ext_status)\n", "\tif (true)\n")]),
    "unknown-is-zero": ("BA_4_block_device@pair", "blk/status.c", [
        ("\tif (ret < 0)\n\t\treturn 0;\n",
         "\tif (ret < 0) {\n\t\textent->flags = BLK_EXTENT_ZERO;\n\t\treturn 0;\n\t}\n")]),
    "depth-everywhere": ("CX_1_contexts_agree@pair", CONTEXT, [
        ("\treturn flags & BLK_EXTENT_HOLE ? 0 : 1;\n", "\treturn 1;\n")]),
}

OF["extended-requests"] = {
    "simple-success-in-extended": ("XH_1_nothing_is_simple@pair", REPLY, [
        ("\tif (headers == NBD_SIMPLE) {\n",
         "\tif (headers == NBD_SIMPLE || (headers == NBD_EXTENDED && reply->type == 0)) {\n")]),
    "errors-echo-nothing": ("XH_2_offset_of_every_chunk@pair", REPLY, [
        (".offset = nbd->offset,", ".offset = reply->type < NBD_REPLY_ERROR ? nbd->offset : 0,")]),
    "compact-status-in-extended": ("XH_3_status_of_any_length@pair", STATUS, [
        ("\tbool extended = conn->limits.headers == NBD_EXTENDED;\n",
         "\tbool extended = conn->limits.headers == NBD_EXTENDED && "
         "req->nbd.length > UINT32_MAX;\n")]),
    "effects-of-32-bits": ("XH_4_effects_of_64_bits@pair", PROTO, [
        ("\treq->length = extended ? get_be64(bytes + 24) :",
         "\treq->length = extended ? (uint32_t)get_be64(bytes + 24) :")]),
    "no-payload-without-the-flag": ("XH_5_write_without_the_flag@pair", REQUEST, has_payload(
        "says_so || (req->command == NBD_CMD_WRITE && limits->headers != NBD_EXTENDED)")),
    "payload-flag-unknown": ("XH_5_write_with_the_flag@pair", REQUEST, [
        ("\tif (number == NBD_CMD_WRITE && extended)\n", "\tif (false && extended)\n")]),
    "payload-left": ("XH_6_payload_where_none_belongs@pair", REQUEST, has_payload(
        "(says_so && req->command > NBD_CMD_FLUSH) || req->command == NBD_CMD_WRITE")),
    "payload-in-compact-headers": ("XH_6_not_in_compact_headers@pair", REQUEST, [
        ("\tbool says_so = limits->headers == NBD_EXTENDED &&", "\tbool says_so =")]),
    "disc-judged": ("XH_6_disc@pair", CONN, [
        ("\t\tif (req->nbd.command == NBD_CMD_DISC) {\n",
         "\t\tif (req->nbd.command == NBD_CMD_DISC && !req->nbd.flags) {\n")]),
    "long-payloads-end-it": ("XH_7_long_payloads@pair", CONN, drained_above(
        "v->payload_bytes > LIMIT_PAYLOAD_ADVERTISED")),
    "payload-of-32-bits": ("XH_7_longest_payloads@pair", CONN, drained_above(
        "(uint32_t)v->payload_bytes > LIMIT_PAYLOAD_DRAINED")),
    "long-chunks": ("XH_8_long_reads@pair", READ, CHUNKS_LONGER_THAN_ADVERTISED),
    "all-contexts-in-spite-of-it": ("XH_9_some_contexts@pair", REQUEST, [
        ("\t*contexts = wanted;\n", "\t*contexts = limits->contexts;\n")]),
    "contexts-twice": ("XH_9_bad_payloads@pair", REQUEST, [
        ("\t\tif (!(bit & limits->contexts) || bit & wanted)\n",
         "\t\tif (!(bit & limits->contexts))\n")]),
    "range-of-the-payload-unseen": ("XH_9_ranges@pair", CONN, [
        ("\t\t*v = request_check(&conn->limits, &req->nbd);\n",
         "\t\tv->buffer_bytes = LIMIT_STATUS_BYTES;\n")]),
    "payload-left-without-contexts": ("XH_9_without_contexts@pair", REQUEST, has_payload(
        "(says_so && limits->contexts) || req->command == NBD_CMD_WRITE")),
    "both-magics": ("XH_10_header_of_another_mode@pair", PROTO, [
        ("\treturn get_be32(bytes) == (extended ? NBD_EXTENDED_REQUEST_MAGIC : "
         "NBD_REQUEST_MAGIC);\n",
         "\treturn get_be32(bytes) == NBD_EXTENDED_REQUEST_MAGIC ||\n"
         "\t       get_be32(bytes) == NBD_REQUEST_MAGIC;\n")]),
}

OF["errors"] = {
    "unknown-is-not-supported": ("ER_1_unknown@pair", REQUEST, [
        ("refuse(-EINVAL, REQUEST_COMMAND)", "refuse(-ENOTSUP, REQUEST_COMMAND)")]),
    "read-only-is-invalid": ("ER_2_read_only@pair", REQUEST, [
        ("refuse(-EPERM, REQUEST_READ_ONLY)", "refuse(-EINVAL, REQUEST_READ_ONLY)")]),
    "invalid-for-all": ("ER_3_writes_past_the_end@pair", REQUEST, [
        ("refuse(cmd->past_end, REQUEST_RANGE)", "refuse(-EINVAL, REQUEST_RANGE)")]),
    "no-space-for-all": ("ER_4_others_past_the_end@pair", REQUEST, [
        ("refuse(cmd->past_end, REQUEST_RANGE)", "refuse(-ENOSPC, REQUEST_RANGE)")]),
    "end-of-the-export-misaligned": ("ER_5_misaligned@pair", REQUEST, [
        ("\t\treq->offset + req->length == limits->size_bytes);\n", "\t\tfalse);\n")]),
    "full-is-broken": ("ER_6_full@pair", PROTO, [
        ("\tcase ENOSPC:\n\tcase EDQUOT:\n", "\tcase EDQUOT:\n")]),
    "not-supported-handed-on": ("ER_7_enotsup@pair", REQUEST, [
        ("\tif (ret == -ENOTSUP && !fast_zero)\n", "\tif (false && !fast_zero)\n")]),
    "broken-is-invalid": ("ER_8_failing_device@pair", PROTO, [
        ("\tdefault:\n\t\treturn NBD_EIO;\n", "\tdefault:\n\t\treturn NBD_EINVAL;\n")]),
    "device-speaks-for-the-server": ("ER_8_not_the_servers_words@pair", REQUEST, [
        ("\tif (ret == -EOVERFLOW || (ret == -ESHUTDOWN && !worker_draining(req->conn->worker)))\n",
         "\tif (false)\n")]),
    "quota-is-broken": ("ER_8_full_device@pair", PROTO, [("\tcase EDQUOT:\n", "")]),
    "lost-once": ("ER_8_flush@tcp", "blk/queue.c", [
        ("\t\t\tdev_flush_fail(q->dev, io->ret);\n", "\t\t\t;\n")]),
    "read-only-device-is-broken": ("ER_13_device_that_may_not@pair", PROTO, [
        ("\tcase EROFS:\n", "")]),
    "overflow-in-simple-replies": ("ER_11_eoverflow@pair", REQUEST, [
        ("\t\treturn refuse(reads ? -EOVERFLOW : -EINVAL, REQUEST_TOO_LONG);\n",
         "\t\treturn refuse(-EOVERFLOW, REQUEST_TOO_LONG);\n")]),
    "status-of-nothing": ("ER_12_block_status@pair", REQUEST, [
        ("\tif (req->command == NBD_CMD_BLOCK_STATUS && req->length == 0)\n", "\tif (false)\n")]),
    "range-before-read-only": ("ER_10_order@pair", REQUEST, READ_ONLY_IN_RANGE),
    "length-before-alignment": ("ER_10_alignment_before_length@pair", REQUEST, [
        ("\tif (!fits_blocks(limits, req))\n",
         "\tif (!fits_blocks(limits, req) && req->length <= LIMIT_PAYLOAD_SERVED)\n")]),
}

OF["ordering"] = {
    "overlaps-lost": ("OR_1_overlapping_writes@pair", "blk/track.c", NOT_SERIALISED),
    "overlaps-lost-between-connections": ("OR_1_between_connections@tcp", "blk/track.c",
                                          NOT_SERIALISED),
    "flush-is-a-barrier": ("OR_2_flush_is_no_barrier@pair", CONN, [
        ("\tif (ret < 0)\n\t\treply_queue(req, ret);\n\treturn 0;\n",
         "\tif (ret < 0)\n\t\treply_queue(req, ret);\n"
         "\tif (req->nbd.command == NBD_CMD_FLUSH)\n"
         "\t\tco_group_wait(&conn->requests, loop_sched(conn->chan.loop));\n\treturn 0;\n")]),
    "no-sync-after-the-last-piece": ("OR_3_sync_after_the_last_piece@pair", "blk/change.c",
                                     NO_LAST_SYNC),
    "fua-with-a-cache-only": ("OR_4_every_cache_mode@pair", HANDSHAKE, [
        ("NBD_FLAG_SEND_FLUSH | NBD_FLAG_SEND_FUA |",
         "NBD_FLAG_SEND_FLUSH | (exp->dev->unsafe ? 0 : NBD_FLAG_SEND_FUA) |")]),
    "written-behind": ("OR_4_write_through@pair", "blk/io.c", [
        ("\tif (dev->write_through && len > 0)\n", "\tif (false)\n")]),
    "halves-of-blocks-lost": ("OR_5_neighbours_of_a_block@tcp", "blk/track.c", NOT_SERIALISED),
}

OF["subtle-points"] = {
    "skips-what-is-read-ahead": ("SP_1_refused_payload_in_one_stream@pair", "server/nbd/chan.c", [
        ("\t\tlen -= ahead_take(chan, NULL, len);\n",
         "\t\tlen -= MIN(len, ahead_take(chan, NULL, SIZE_MAX));\n")]),
    "asserts-on-flags": ("SP_2_any_flag_at_all@pair", REQUEST, [
        ("\tif (req->flags & ~flags_taken(limits, req->command))\n",
         "\tinvariant(!(req->flags & 0x4000));\n"
         "\tif (req->flags & ~flags_taken(limits, req->command))\n")]),
    "tls-required-without-tls": ("SP_6_no_word_of_tls@pair", "server/nbd/opt_starttls.c", [
        ("NBD_REP_ERR_POLICY,\n", "NBD_REP_ERR_TLS_REQD,\n")]),
    "no-df-after-export-name": ("SP_7_zeroes_of_export_name@pair",
                                "server/nbd/opt_export_name.c", [
        ("\tput_be16(reply + 8, h->conn->limits.tflags);\n",
         "\tput_be16(reply + 8, h->conn->limits.tflags & ~NBD_FLAG_SEND_DF);\n")]),
    "client-flags-unheard": ("SP_8_client_flags@pair", HANDSHAKE, [
        ("\tif (flags & ~known) {\n", "\tif (flags & ~known & 0x7fffffff) {\n")]),
    "what-is-left-over-ignored": ("SP_9_lengths_inside_an_option@pair", "server/nbd/wire.c", [
        ("\tif (wire->error == 0 && wire->left > 0) {\n", "\tif (false) {\n")]),
    "set-fails-and-keeps": ("SP_10_set_replaces@pair", META, [
        ("\tif (!q.listing)\n\t\tselect_contexts(h, NULL, 0);\n", "")]),
    "bad-reads-simple": ("SP_11_never_simple@pair", REPLY, [
        ("\tif (headers == NBD_SIMPLE) {\n",
         "\tif (headers == NBD_SIMPLE || (headers == NBD_STRUCTURED && reply->req->fault)) {\n")]),
    "next-context-after-failure": ("SP_12_done_once@pair", STATUS, GOES_ON_AFTER_FAILURE),
    "done-with-data": ("SP_13_not_done_before_it_is_certain@pair", REPLY, [
        (".done = reply->last,",
         ".done = reply->last || reply->type == NBD_REPLY_OFFSET_DATA,")]),
    "offset-before-text": ("SP_14_offset_behind_the_text@pair", REPLY, [
        ("\t\t\tput_be64(to + len, reply->offset);\n",
         "\t\t\tmemmove(to + 14, to + 6, len - 6);\n\t\t\tput_be64(to + 6, reply->offset);\n")]),
    "numbers-of-the-host": ("SP_15_the_first_verdict_survives@pair", PROTO, [
        ("\tdefault:\n\t\treturn NBD_EIO;\n", "\tdefault:\n\t\treturn (enum nbd_error)-ret;\n")]),
    "sums-wrap": ("SP_16_sums_that_wrap@pair", RANGE, SUMS_WRAP),
    "loop-stands-still": ("SP_17_effects_have_no_maximum@pair", DRIVER_ZEROES, FIRST_64M_ONLY),
    "long-writes-are-attacks": ("SP_18_long_writes_are_no_attack@pair", CONN, [
        ("\tnote_payload_len(conn, &req->nbd);\n",
         "\tnote_payload_len(conn, &req->nbd);\n"
         "\tif (v.payload_bytes > conn->limits.payload_max) {\n"
         "\t\tconn_slot_put(conn, req);\n\t\treturn -EMSGSIZE;\n\t}\n")]),
    "no-hole-unheard": ("SP_19_fast_zero_and_no_hole@pair", REQUEST, NO_HOLE_IGNORED),
    "sync-before-the-last-piece": ("SP_20_fua_by_flushing@pair", "blk/change.c", NO_LAST_SYNC),
    "no-fua-on-cache": ("SP_20_fua_by_flushing@pair", REQUEST, row(
        "CACHE", CACHE_ROW, FUA, FUA.replace("FUA", "REQ_ONE"))),
    "one-half-of-a-block-lost": ("SP_21_two_connections_one_block@tcp", "blk/track.c",
                                 NOT_SERIALISED),
    "extents-clipped-anywhere": ("SP_22_extents@pair", STATUS, CLIPPED_ANYWHERE),
    "stale-status": ("SP_23_honest_allocation@pair", CONTEXT, ANSWER_KEPT),
    "go-tells-more": ("SP_24_go_repeats_info@pair", GO, [
        ("\tput_be32(body + 6, sizes.preferred);\n",
         "\tput_be32(body + 6, sizes.preferred << (h->opt.number == NBD_OPT_GO));\n")]),
    "preferred-is-no-power-of-two": ("SP_24_go_repeats_info@pair", GO, [
        ("\tput_be32(body + 6, sizes.preferred);\n",
         "\tput_be32(body + 6, sizes.preferred * 3);\n")]),
    "places-never-free": ("SP_25_endings_give_places_back@tcp", "server/export.c", [
        ("__atomic_fetch_sub(&exp->clients, 1, __ATOMIC_ACQ_REL);",
         "__atomic_fetch_sub(&exp->clients, 0, __ATOMIC_ACQ_REL);")]),
}

# name: (case, file, [(what stands there, what shall stand there)])
MUTANTS = {name: (f"{cases} test_{case}", source, changes)
           for cases, group in OF.items() for name, (case, source, changes) in group.items()}
