# SPDX-License-Identifier: MIT
"""Defects of the handshake, and the case of tests/conform that has to notice each.

What these make is a wrong server of the kind that the case is there for, not one
that does not work at all: most clients would get along with it.
"""

ALWAYS = "\tif (true)\n"
NEVER = "\tif (false)\n"
HALF_FORGOTTEN = [("\t\tdone += ahead_take(chan, to + done, len - done);\n",
                   "\t\tdone += ahead_take(chan, to, len - done);\n")]
RESET = [("\tclose(chan->rfd);\n",
          "\tstruct linger none = { 1, 0 };\n\n"
          "\tsetsockopt(chan->rfd, SOL_SOCKET, SO_LINGER, &none, sizeof(none));\n"
          "\tclose(chan->rfd);\n")]

# name: (case, file, [(what stands there, what shall stand there)])
MUTANTS = {
    # --- greeting ---
    "nagle": ("greeting test_HS_1_nodelay@tcp", "server/listener.c", [
        ("IPPROTO_TCP, TCP_NODELAY, 1);", "IPPROTO_TCP, TCP_NODELAY, 0);")]),
    "oldstyle-magic": ("greeting test_HS_2_no_oldstyle@pair", "server/nbd/proto.c", [
        ("put_be64(bytes + 8, NBD_OPTION_MAGIC);", "put_be64(bytes + 8, 0x420281861253);")]),
    "handshake-flag-without-meaning": ("greeting test_HS_3_exact@pair", "server/nbd/proto.c", [
        ("put_be16(bytes + 16, flags);", "put_be16(bytes + 16, flags | 4);")]),
    "greeting-on-request": ("greeting test_HS_3_comes_first@pair", "server/nbd/handshake.c", [
        ("\t    (ret = handshake_co_flush(h)) < 0)\n\t\treturn ret;\n"
         "\tret = chan_co_read(&h->conn->chan, bytes, sizeof(bytes), CHAN_BETWEEN);\n"
         "\tif (ret < 0)\n\t\treturn ret;\n",
         "\t    (ret = chan_co_read(&h->conn->chan, bytes, sizeof(bytes), CHAN_BETWEEN)) < 0 ||\n"
         "\t    (ret = handshake_co_flush(h)) < 0)\n\t\treturn ret;\n")]),
    "some-client-flags-unchecked": ("greeting test_HS_4_unknown_bits@pair",
                                    "server/nbd/handshake.c", [
        ("\tif (flags & ~known) {\n", "\tif (flags & ~known & 0xffff) {\n")]),
    "no-zeroes-unheard": ("greeting test_HS_4_known_bits@pair", "server/nbd/handshake.c", [
        ("\th->no_zeroes = flags & NBD_FLAG_NO_ZEROES;\n", "\th->no_zeroes = false;\n")]),
    "options-without-fixed-newstyle": ("greeting test_HS_5_drained_and_refused@pair",
                                       "server/nbd/handshake.c", [
        ("\tif (!h->fixed && h->opt.number != NBD_OPT_EXPORT_NAME) {\n", "\tif (false) {\n")]),
    "not-fixed-and-not-drained": ("greeting test_HS_5_drained_and_refused@pair",
                                  "server/nbd/handshake.c", [
        ("\tif (!h->fixed && h->opt.number != NBD_OPT_EXPORT_NAME) {\n\t\tret = drain(h);\n",
         "\tif (!h->fixed && h->opt.number != NBD_OPT_EXPORT_NAME) {\n\t\tret = 0;\n")]),
    "port-probes-logged": ("greeting test_HS_6_probes_are_not_logged@pair", "server/nbd/conn.c", [
        ("conn->end_logged || ret == -ENODATA ||", "conn->end_logged ||")]),
    "silent-clients-take-all": ("greeting test_HS_7_share_of_the_silent@tcp", "server/admission.c", [
        ("(conns_full(a) || handshakes_full(a)))\n", "conns_full(a))\n")]),
    "no-deadline": ("handshake-deadline test_HS_7_deadline@pair", "server/nbd/conn.c", [
        ("\tif (conn->owner->handshake_ns > 0)\n", NEVER)]),
    "deadline-never-over": ("handshake-deadline test_HS_7_deadline@pair", "server/nbd/conn.c", [
        ("\tconn->negotiating = false;\n\tloop_timer_disarm(&conn->timer);\n",
         "\tconn->negotiating = false;\n")]),

    # --- options ---
    "half-the-magic": ("options test_OP_1_each_bit_of_the_magic@pair", "server/nbd/proto.c", [
        ("return get_be64(bytes) == NBD_OPTION_MAGIC;",
         "return get_be32(bytes) == (uint32_t)(NBD_OPTION_MAGIC >> 32);")]),
    "no-magic": ("options test_OP_1_other_magics@pair", "server/nbd/proto.c", [
        ("return get_be64(bytes) == NBD_OPTION_MAGIC;", "return true;")]),
    "unknown-is-invalid": ("options test_OP_2_unknown@pair", "server/nbd/handshake.c", [
        ("NBD_REP_ERR_UNSUP, \"option %u", "NBD_REP_ERR_INVALID, \"option %u")]),
    "unknown-not-drained": ("options test_OP_2_unknown@pair-cut", "server/nbd/handshake.c", [
        ("opt_co_unsupported(struct handshake *h)\n{\n\tint ret = drain(h);\n",
         "opt_co_unsupported(struct handshake *h)\n{\n\tint ret = 0;\n")]),
    "drains-what-follows": ("options test_OP_2_pipelined@pair", "server/nbd/chan.c", [
        ("\t\tlen -= ahead_take(chan, NULL, len);\n",
         "\t\tlen -= MIN(len, ahead_take(chan, NULL, SIZE_MAX));\n")]),
    "end-of-option-not-drained": ("options test_OP_3_data_of_refused_options@pair",
                                  "server/nbd/wire.c", [
        ("\tif (wire->error == 0 && wire->left > 0) {\n", "\tif (false) {\n")]),
    "starttls-not-drained": ("options test_OP_3_data_of_refused_options@pair",
                             "server/nbd/opt_starttls.c", [
        ("\tint ret = chan_co_skip(&conn->chan, h->opt.len);\n", "\tint ret = 0;\n")]),

    # --- TLS ---
    "required-of-none": ("starttls test_TLS_4_forced@tls", "server/nbd/handshake.c", [
        ("h->conn->owner->tls_mode == TLS_REQUIRE && !h->conn->chan.tls;",
         "false && h->conn->owner->tls_mode == TLS_REQUIRE;")]),
    "export-name-in-clear": ("starttls test_TLS_4_export_name@tls", "server/nbd/handshake.c", [
        ("\treturn exp->tls_required && !h->conn->chan.tls;\n", "\treturn exp == NULL;\n")]),
    "no-abort-before-tls": ("starttls test_AB_2_before_tls@tls", "server/nbd/handshake.c", [
        ("needs_tls(h) && h->opt.number != NBD_OPT_ABORT &&\n",
         "needs_tls(h) &&\n")]),
    "refused-not-skipped": ("starttls test_SP_5_each_option_has_its_own@tls",
                            "server/nbd/handshake.c", [
        ("\tint ret = drain(h);\n\n\treturn ret < 0 ? ret :\n\t\t\t "
         "handshake_co_error(h, NBD_REP_ERR_TLS_REQD,",
         "\tint ret = 0;\n\n\treturn ret < 0 ? ret :\n\t\t\t "
         "handshake_co_error(h, NBD_REP_ERR_TLS_REQD,")]),
    "hidden-exports-told": ("starttls test_TLS_5_selective@tls", "server/nbd/handshake.c", [
        ("\treturn exp->tls_required && !h->conn->chan.tls;\n", "\treturn exp == NULL;\n")]),
    "starttls-with-data": ("starttls test_TLS_6_with_data@tls", "server/nbd/opt_starttls.c", [
        ("\tif (h->opt.len > 0)\n", NEVER)]),
    "nothing-forgotten": ("starttls test_TLS_8_forgets@tls", "server/nbd/opt_starttls.c", [
        ("\thandshake_forget(h);\n", "")]),
    "framing-not-forgotten": ("starttls test_XH_11_extended_headers@tls",
                              "server/nbd/opt_starttls.c", [
        ("\thandshake_forget(h);\n", "\tconn->agreed.contexts = 0;\n")]),
    "clear-bytes-behind-starttls": ("starttls test_SP_4_options_that_wait@tls",
                                    "server/nbd/opt_starttls.c", [
        ("\tif (chan_has_ahead(&conn->chan))\n\t\treturn too_early(h);\n",
         "\tif (chan_has_ahead(&conn->chan))\n\t\treturn HANDSHAKE_NEXT;\n")]),
    "no-goodbye": ("starttls test_TLS_11_goodbye@tls", "server/nbd/conn.c", [
        ("\tchan_co_goodbye(&conn->chan);\n", "")]),
    "cut-off-is-fine": ("starttls test_TLS_11_cut_off@tls", "server/nbd/chan.c", [
        ("\t\t/* Who ends it without a word may not be the peer. */\n\t\tif (ret < 0)\n"
         "\t\t\treturn ret == -ENODATA ? -ECONNRESET : ret;\n",
         "\t\tif (ret < 0)\n\t\t\treturn ret;\n")]),
    "long-options-refused": ("options test_OP_3_longest@pair", "server/nbd/handshake.c", [
        ("\tif (h->opt.len > LIMIT_OPTION_BYTES) {\n",
         "\tif (h->opt.len >= LIMIT_OPTION_BYTES) {\n")]),
    "longer-options-taken": ("options test_OP_3_longest@pair", "server/nbd/handshake.c", [
        ("\tif (h->opt.len > LIMIT_OPTION_BYTES) {\n",
         "\tif (h->opt.len > 2 * LIMIT_OPTION_BYTES) {\n")]),
    "memory-as-claimed": ("options test_OP_3_claims_cost_nothing@tcp", "server/nbd/handshake.c", [
        ("malloc(sizeof(*h));", "malloc(sizeof(*h) + LIMIT_OPTION_BYTES);"),
        ("\th->conn = conn;\n",
         "\tmemset(h, 1, sizeof(*h) + LIMIT_OPTION_BYTES);\n\th->conn = conn;\n")]),
    "two-acks": ("options test_OP_4_one_final_reply@pair", "server/nbd/handshake.c", [
        ("\tint ret = handshake_co_item(h, NBD_REP_ACK, NULL, 0);\n",
         "\tint ret = handshake_co_item(h, NBD_REP_ACK, NULL, 0);\n\n"
         "\tret = handshake_co_item(h, NBD_REP_ACK, NULL, 0);\n")]),
    "echo-of-16-bits": ("options test_OP_4_echo@pair", "server/nbd/handshake.c", [
        ("nbd_option_reply_encode(header, h->opt.number, type, (uint32_t)len);",
         "nbd_option_reply_encode(header, h->opt.number & 0xffff, type, (uint32_t)len);")]),
    "half-messages-forgotten": ("options test_OP_4_cut_anywhere@pair", "server/nbd/chan.c",
                               HALF_FORGOTTEN),
    "list-clears-when-malformed": ("options-in-any-order test_OP_4_in_any_order@tcp",
                                   "server/nbd/opt_meta.c", [
        ("\tif (!q.listing)\n\t\tselect_contexts(h, NULL, 0);\n",
         "\tif (!q.listing || ret < 0)\n\t\tselect_contexts(h, NULL, 0);\n")]),
    "agreed-on-twice": ("options test_OP_5_repeated@pair", "server/nbd/opt_headers.c", [
        ("\tif (*agreed == headers)\n", NEVER)]),
    "junk-at-the-end": ("options test_OP_6_every_length@pair", "server/nbd/wire.c", [
        ("\tbool exact = wire->left == 0 && !wire->is_short;\n",
         "\tbool exact = !wire->is_short;\n")]),
    "zeroes-for-what-is-missing": ("options test_OP_6_every_length@pair", "server/nbd/wire.c", [
        ("\tbool exact = wire->left == 0 && !wire->is_short;\n",
         "\tbool exact = wire->left == 0;\n")]),
    "reads-into-the-next-option": ("options test_OP_6_lying_lengths@pair", "server/nbd/wire.c", [
        ("\tif (len > wire->left)\n", "\tif (len > wire->left + 4)\n")]),
    "list-takes-data": ("options test_OP_7_data_where_none_belongs@pair",
                        "server/nbd/opt_list.c", [("\tif (h->opt.len > 0)\n", NEVER)]),
    "structured-reply-takes-data": ("options test_OP_7_data_where_none_belongs@pair",
                                    "server/nbd/opt_headers.c", [
        ("\tif (h->opt.len > 0)\n", NEVER)]),
    "agreed-on-though-refused": ("options test_OP_7_data_where_none_belongs@pair",
                                 "server/nbd/opt_headers.c", [
        ("\tif (h->opt.len > 0)\n\t\treturn",
         "\tif (h->opt.len > 0 && (*agreed = headers))\n\t\treturn")]),
    "nul-in-strings": ("options test_OP_8_names@pair", "server/nbd/proto.c", [
        ("return !(len > 0 && memchr(text, 0, len)) && utf8_valid(text, len);",
         "return utf8_valid(text, len);")]),
    "any-bytes-in-strings": ("options test_OP_8_names@pair", "server/nbd/proto.c", [
        ("return !(len > 0 && memchr(text, 0, len)) && utf8_valid(text, len);",
         "return !(len > 0 && memchr(text, 0, len));")]),
    "any-bytes-in-queries": ("options test_OP_8_queries@pair", "server/nbd/opt_meta.c", [
        ("\tif (nbd_string_ok(h->query, len))\n", ALWAYS)]),
    "long-queries-ignored": ("options test_OP_8_queries@pair", "server/nbd/opt_meta.c", [
        ("\t\tq->bad_text = true;\n\t\twire_co_skip(wire, len);\n",
         "\t\twire_co_skip(wire, len);\n")]),
    "soon-tired": ("options test_OP_9_unwelcome_but_not_hung_up_on@pair", "server/nbd/handshake.c", [
        ("\tif (++h->options > h->options_max) {\n",
         "\tif (++h->options > h->options_max / 2) {\n")]),
    "served-while-stopping": ("options test_OP_10_stopping@pair", "server/nbd/handshake.c", [
        ("\tif (worker_draining(h->conn->worker) && h->opt.number != NBD_OPT_ABORT) {\n",
         "\tif (false) {\n")]),
    "no-abort-while-stopping": ("options test_OP_10_stopping@pair", "server/nbd/handshake.c", [
        ("\tif (worker_draining(h->conn->worker) && h->opt.number != NBD_OPT_ABORT) {\n",
         "\tif (worker_draining(h->conn->worker)) {\n")]),
    "an-error-for-export-name": ("options test_OP_10_export_name_while_stopping@pair",
                                 "server/nbd/handshake.c", [
        ("\t\tif (ret < 0 || h->opt.number == NBD_OPT_EXPORT_NAME)\n", "\t\tif (ret < 0)\n")]),
    "errors-without-text": ("options test_OP_11_text_of_every_error@pair",
                            "server/nbd/handshake.c", [
        ("\tret = handshake_co_item(h, type, text, strlen(text));\n",
         "\tret = handshake_co_item(h, type, text, 0);\n")]),
    "names-quoted-raw": ("options test_OP_11_text_of_every_error@pair", "server/nbd/handshake.c", [
        ("\tlog_quote(quoted, h->name, len);\n",
         "\tsnprintf(quoted, sizeof(quoted), \"%.*s\", (int)len, h->name);\n")]),

    # --- EXPORT_NAME ---
    "no-default-export": ("export-name test_EN_1_names@pair", "server/export.c", [
        ("\treturn len == 0 ? set->fallback : NULL;\n", "\treturn NULL;\n")]),
    "length-within-export-name": ("export-name test_EN_1_no_inner_length@pair",
                                  "server/nbd/opt_export_name.c", [
        ("\tif (!nbd_string_ok(h->name, len))\n",
         "\tif (len > 4)\n\t\tmemmove(h->name, h->name + 4, len -= 4);\n"
         "\tif (!nbd_string_ok(h->name, len))\n"),
        ("#include <errno.h>\n", "#include <errno.h>\n#include <string.h>\n")]),
    "export-name-with-error-reply": ("export-name test_EN_2_unknown@pair",
                                     "server/nbd/opt_export_name.c", [
        ("\treturn -EACCES;\n",
         "\treturn handshake_co_error(h, NBD_REP_ERR_UNKNOWN, \"%s\", why);\n")]),
    "beginning-of-a-name": ("export-name test_EN_2_unknown@pair", "server/export.c", [
        ("if (strlen(exp->name) == len && memcmp(exp->name, name, len) == 0)",
         "if (strncmp(exp->name, name, strlen(exp->name)) == 0)")]),
    "strings-end-at-nul": ("export-name test_EN_2_no_string@pair", "server/nbd/opt_export_name.c", [
        ("\tif (!nbd_string_ok(h->name, len))\n", "\tlen = (uint32_t)strnlen(h->name, len);\n"
         "\tif (!nbd_string_ok(h->name, len))\n"),
        ("#include <errno.h>\n", "#include <errno.h>\n#include <string.h>\n")]),
    "long-names-refused-politely": ("export-name test_EN_2_too_long@pair",
                                    "server/nbd/opt_export_name.c", [
        ("\t\treturn -EMSGSIZE;\n",
         "\t\treturn handshake_co_error(h, NBD_REP_ERR_TOO_BIG, \"too long\");\n")]),
    "any-number-of-clients": ("export-name test_EN_2_policy@tcp", "server/export.c", [
        ("\t\tif (exp->clients_max > 0 && n >= exp->clients_max)\n", "\t\tif (false)\n")]),
    "always-zeroes": ("export-name test_EN_3_zeroes@pair", "server/nbd/opt_export_name.c", [
        ("h->no_zeroes ? NBD_EXPORT_NAME_REPLY_BYTES : sizeof(reply)", "sizeof(reply)")]),
    "zeroes-by-fixed-newstyle": ("export-name test_EN_3_zeroes@pair",
                                 "server/nbd/opt_export_name.c", [
        ("h->no_zeroes ? NBD_EXPORT_NAME_REPLY_BYTES",
         "h->fixed && h->no_zeroes ? NBD_EXPORT_NAME_REPLY_BYTES")]),
    "early-requests-lost": ("export-name test_EN_3_at_once@pair", "server/nbd/conn.c", [
        ("\tchan_set_ahead(&conn->chan, LIMIT_READ_AHEAD);\n\n\tret = conn_reader(conn);\n",
         "\tchan_set_ahead(&conn->chan, LIMIT_READ_AHEAD);\n"
         "\tconn->chan.begin = conn->chan.end;\n\tret = conn_reader(conn);\n")]),
    "read-only-unsaid": ("export-name test_EN_3_same_as_go@pair", "server/nbd/opt_export_name.c", [
        ("put_be16(reply + 8, h->conn->limits.tflags);",
         "put_be16(reply + 8, h->conn->limits.tflags & (uint16_t)~NBD_FLAG_READ_ONLY);")]),
    "export-name-with-extended-headers": ("export-name test_EN_4_after_extended_headers@pair",
                                          "server/nbd/opt_export_name.c", [
        ("\tif (h->conn->agreed.headers == NBD_EXTENDED)\n", NEVER)]),
    "strict-for-all": ("export-name test_EN_5_block_sizes@pair", "server/export.c", [
        ("\tif (!asked)\n", NEVER)]),
    "no-send-df": ("export-name test_EN_6_structured_replies@pair", "server/nbd/handshake.c", [
        ("\tif (h->conn->agreed.headers != NBD_SIMPLE)\n", NEVER)]),
    "contexts-of-any-export": ("export-name test_EN_6_contexts@pair", "server/nbd/handshake.c", [
        ("\treturn agreed->context_export == exp ? agreed->contexts : 0;\n",
         "\t(void)exp;\n\treturn agreed->contexts;\n")]),

    # --- ABORT, LIST ---
    "abort-without-ack": ("abort test_AB_1_ack@pair", "server/nbd/handshake.c", [
        ("\t\t(void)handshake_co_ack(h);\n", "\t\t(void)0;\n")]),
    "goodbyes-logged": ("abort test_AB_1_nobody_waits@pair", "server/nbd/conn.c", [
        ("\tbool quiet = ret == 0 || conn->end_logged ||", "\tbool quiet = conn->end_logged ||")]),
    "life-after-abort": ("abort test_AB_3_nothing_after_it@pair", "server/nbd/handshake.c", [
        ("\treturn ret < 0 ? ret : HANDSHAKE_DONE;\n}\n\nstatic int co_fn\nopt_co_unsupported",
         "\treturn ret;\n}\n\nstatic int co_fn\nopt_co_unsupported")]),
    "first-export-unlisted": ("list test_LI_1_works@pair", "server/nbd/opt_list.c", [
        ("unsigned i = 0; i < set->count", "unsigned i = 1; i < set->count")]),
    "description-in-the-name": ("list test_LI_2_lengths@pair", "server/nbd/opt_list.c", [
        ("put_be32(header + NBD_OPTION_REPLY_BYTES, (uint32_t)name_len);",
         "put_be32(header + NBD_OPTION_REPLY_BYTES, (uint32_t)(name_len + description_len));")]),
    "an-export-listed-twice": ("list test_LI_3_once_per_name@pair", "server/nbd/opt_list.c", [
        ("list_item(h, &set->exports[i]);", "list_item(h, &set->exports[i / 2]);")]),
    "default-export-without-name": ("list test_LI_3_default_export@pair", "server/nbd/opt_list.c", [
        ("size_t name_len = strlen(exp->name),",
         "size_t name_len = exp == h->conn->exports->fallback ? 0 : strlen(exp->name),")]),
    "list-once": ("list test_LI_3_again@pair", "server/nbd/opt_list.c", [
        ("\tif (h->opt.len > 0)\n", "\tif (h->opt.len > 0 || h->options > 1)\n")]),

    # --- INFO, GO ---
    "name-over-its-end": ("info-go test_IG_1_name_length@pair", "server/nbd/wire.c", [
        ("\tif (len > wire->left)\n\t\twire->is_short = true;\n",
         "\tif (len > wire->left)\n\t\tlen = wire->left;\n")]),
    "more-than-all-types": ("info-go test_IG_1_total_length@pair", "server/nbd/wire.c", [
        ("\tbool exact = wire->left == 0 && !wire->is_short;\n",
         "\tbool exact = !wire->is_short;\n")]),
    "unknown-types-refused": ("info-go test_IG_2_unknown_types@pair", "server/nbd/opt_go.c", [
        ("\t\tw->name |= info == NBD_INFO_NAME;\n",
         "\t\tw->name |= info == NBD_INFO_NAME;\n\t\twire.is_short |= info > 3;\n")]),
    "repeated-types-refused": ("info-go test_IG_2_repeated_types@pair", "server/nbd/opt_go.c", [
        ("\t\tw->name |= info == NBD_INFO_NAME;\n",
         "\t\twire.is_short |= w->name && info == NBD_INFO_NAME;\n"
         "\t\tw->name |= info == NBD_INFO_NAME;\n")]),
    "export-only-with-others": ("info-go test_IG_3_export_always@pair", "server/nbd/opt_go.c", [
        ("(ret = info_export(h, exp)) < 0", "(ret = w->sizes ? info_export(h, exp) : 0) < 0")]),
    "name-for-description": ("info-go test_IG_3_strings@pair", "server/nbd/opt_go.c", [
        ("info_string(h, NBD_INFO_DESCRIPTION, exp->description)",
         "info_string(h, NBD_INFO_DESCRIPTION, exp->name)")]),
    "sizes-if-asked": ("info-go test_IG_4_always@pair", "server/nbd/opt_go.c", [
        ("(ret = info_block_size(h, exp)) < 0", "(ret = w->sizes ? info_block_size(h, exp) : 0) < 0")]),
    "sizes-not-asked-for": ("info-go test_IG_4_not_asked@pair", "server/export.c", [
        ("\tif (!asked)\n", NEVER)]),
    "lenient-to-who-asked": ("info-go test_IG_4_asked@pair", "server/export.c", [
        ("\tif (!asked)\n", "\tif (exp->strict)\n")]),
    "sizes-required": ("info-go test_IG_5_never_required@pair", "server/nbd/opt_go.c", [
        ("\tif (h->opt.number == NBD_OPT_INFO)\n",
         "\tif (exp->strict && !w.sizes)\n"
         "\t\treturn handshake_co_error(h, NBD_REP_ERR_BLOCK_SIZE_REQD, \"ask\");\n"
         "\tif (h->opt.number == NBD_OPT_INFO)\n")]),
    "end-of-a-name": ("info-go test_IG_6_unknown@pair", "server/export.c", [
        ("if (strlen(exp->name) == len && memcmp(exp->name, name, len) == 0)",
         "if (strlen(exp->name) >= len && memcmp(exp->name, name, len) == 0)")]),
    "items-before-an-error": ("info-go test_IG_6_unknown@pair", "server/nbd/opt_go.c", [
        ("\tif (!exp)\n\t\treturn ret;\n",
         "\tif (!exp)\n\t\treturn send_infos(h, h->conn->exports->fallback, &w);\n")]),
    "nothing-by-default": ("info-go test_IG_6_no_default@pair", "server/export.c", [
        ("\treturn len == 0 ? set->fallback : NULL;\n", "\treturn NULL;\n")]),
    "info-tells-less": ("info-go test_IG_7_go_repeats_info@pair", "server/nbd/opt_go.c", [
        ("put_be16(body + 10, handshake_tflags(h, exp));",
         "put_be16(body + 10, h->opt.number == NBD_OPT_GO ? handshake_tflags(h, exp) :\n"
         "\t\thandshake_tflags(h, exp) & (uint16_t)~NBD_FLAG_SEND_DF);")]),
    "the-first-info-counts": ("info-go test_IG_7_others_in_between@pair", "server/nbd/opt_go.c", [
        ("\th->asked_sizes = w.sizes;\n",
         "\tstatic struct export *last;\n\n\tif (h->opt.number == NBD_OPT_INFO)\n\t\tlast = exp;\n"
         "\telse if (last)\n\t\texp = last;\n\th->asked_sizes = w.sizes;\n")]),
    "zeroes-after-go": ("info-go test_IG_8_transmission_at_once@pair", "server/nbd/opt_go.c", [
        ("\treturn ret < 0 ? ret : HANDSHAKE_DONE;\n",
         "\tstatic const uint8_t zeroes[NBD_EXPORT_NAME_ZEROES];\n\n"
         "\tif (ret == 0 && !h->no_zeroes &&\n"
         "\t    (ret = handshake_co_raw(h, zeroes, sizeof(zeroes))) == 0)\n"
         "\t\tret = handshake_co_flush(h);\n"
         "\treturn ret < 0 ? ret : HANDSHAKE_DONE;\n")]),
    "info-is-go": ("info-go test_IG_8_info_is_not_go@pair", "server/nbd/opt_go.c", [
        ("\tif (h->opt.number == NBD_OPT_INFO)\n", NEVER)]),
    "one-error-is-the-end": ("info-go test_IG_8_errors_stay@pair", "server/nbd/opt_go.c", [
        ("\tif (!exp)\n\t\treturn ret;\n",
         "\tif (!exp)\n\t\treturn h->opt.number == NBD_OPT_GO ? HANDSHAKE_DONE : ret;\n")]),
    "too-many-clients-is-the-end": ("info-go test_IG_8_policy_error_stays@tcp",
                                    "server/nbd/opt_go.c", [
        ("\t\tif (ret == -EBUSY)\n", "\t\tif (ret == -EBUSY)\n\t\t\treturn ret;\n\t\tif (false)\n")]),
    "clients-that-failed-count": ("info-go test_IG_8_policy_error_stays@tcp", "server/export.c", [
        ("\t\tif (exp->clients_max > 0 && n >= exp->clients_max)\n\t\t\treturn false;\n",
         "\t\tif (exp->clients_max > 0 && n >= exp->clients_max) {\n"
         "\t\t\t__atomic_fetch_add(&exp->clients, 1, __ATOMIC_RELAXED);\n"
         "\t\t\treturn false;\n\t\t}\n")]),
    "no-device-is-the-end": ("info-go test_R_17_device_that_cannot_be_used@tcp",
                             "server/nbd/opt_go.c", [
        ("\t\treturn handshake_co_error(h, NBD_REP_ERR_PLATFORM,\n",
         "\t\tif (true)\n\t\t\treturn ret;\n"
         "\t\treturn handshake_co_error(h, NBD_REP_ERR_PLATFORM,\n")]),
    "no-go-with-extended-headers": ("info-go test_IG_9_after_extended_headers@pair",
                                    "server/nbd/opt_go.c", [
        ("\th->asked_sizes = w.sizes;\n",
         "\tif (h->conn->agreed.headers == NBD_EXTENDED)\n"
         "\t\treturn handshake_co_error(h, NBD_REP_ERR_UNSUP, \"no\");\n"
         "\th->asked_sizes = w.sizes;\n")]),
    "extended-headers-required": ("info-go test_IG_9_not_insisted_on@pair", "server/nbd/opt_go.c", [
        ("\th->asked_sizes = w.sizes;\n",
         "\tif (h->conn->agreed.headers == NBD_STRUCTURED)\n"
         "\t\treturn handshake_co_error(h, NBD_REP_ERR_EXT_HEADER_REQD, \"no\");\n"
         "\th->asked_sizes = w.sizes;\n")]),
    "send-df-always": ("info-go test_IG_10_flags_of_the_session@pair", "server/nbd/handshake.c", [
        ("\tif (h->conn->agreed.headers != NBD_SIMPLE)\n", ALWAYS)]),
    "status-payload-without-contexts": ("info-go test_IG_10_flags_of_the_session@pair",
                                        "server/nbd/handshake.c", [
        ("\tif (h->conn->agreed.headers == NBD_EXTENDED && handshake_contexts(h, exp))\n",
         "\tif (h->conn->agreed.headers == NBD_EXTENDED)\n")]),
    "flags-kept": ("info-go test_IG_10_computed_each_time@pair", "server/nbd/opt_go.c", [
        ("\tput_be16(body + 10, handshake_tflags(h, exp));\n",
         "\tstatic uint16_t flags;\n\n\tflags = flags ? flags : handshake_tflags(h, exp);\n"
         "\tput_be16(body + 10, flags);\n")]),
    "trim-of-what-is-read-only": ("info-go test_IG_10_flags_of_the_export@pair",
                                  "server/nbd/handshake.c", [
        ("\t\tflags |= NBD_FLAG_READ_ONLY;\n",
         "\t\tflags |= NBD_FLAG_READ_ONLY | NBD_FLAG_SEND_TRIM;\n")]),
    "a-flag-of-the-future": ("info-go test_IG_10_defined_flags@pair", "server/nbd/handshake.c", [
        ("\t\tflags |= NBD_FLAG_CAN_MULTI_CONN;\n",
         "\t\tflags |= NBD_FLAG_CAN_MULTI_CONN | 1 << 13;\n")]),
    "contexts-wherever-set": ("info-go test_IG_11_another_name@pair", "server/nbd/handshake.c", [
        ("\treturn agreed->context_export == exp ? agreed->contexts : 0;\n",
         "\t(void)exp;\n\treturn agreed->contexts;\n")]),
    "contexts-of-the-first-export": ("info-go test_IG_11_the_last_one_counts@pair",
                                     "server/nbd/opt_meta.c", [
        ("\tagreed->context_export = exp;\n",
         "\tif (!agreed->context_export)\n\t\tagreed->context_export = exp;\n")]),

    # --- STRUCTURED_REPLY ---
    "errors-in-simple-replies": ("structured-reply test_SR_1_every_read@pair",
                                 "server/nbd/reply.c", [
        ("\tif (headers == NBD_SIMPLE) {\n",
         "\tif (headers == NBD_SIMPLE || (headers == NBD_STRUCTURED && reply->ret < 0)) {\n")]),
    "too-long-is-invalid": ("structured-reply test_SR_1_too_long@pair", "server/nbd/request.c", [
        ("refuse(reads ? -EOVERFLOW : -EINVAL, REQUEST_TOO_LONG)",
         "refuse(-EINVAL, REQUEST_TOO_LONG)")]),
    "refused-and-done": ("structured-reply test_SR_1_not_before@pair", "server/nbd/opt_headers.c", [
        ("\tif (h->opt.len > 0)\n\t\treturn",
         "\tif (h->opt.len > 0 && (*agreed = headers))\n\t\treturn")]),
    "one-for-all": ("structured-reply test_SR_1_of_this_session@tcp", "server/nbd/handshake.c", [
        ("\thandshake_forget(h);\n\n\tret = greet(h);\n",
         "\tstatic enum nbd_headers all;\n\n\thandshake_forget(h);\n\th->conn->agreed.headers = all;\n"
         "\tret = greet(h);\n"),
        ("\tfree(h);\n\treturn ret == HANDSHAKE_DONE",
         "\tall = all ? all : h->conn->agreed.headers;\n\tfree(h);\n\treturn ret == HANDSHAKE_DONE")]),
    "info-forgets": ("structured-reply test_SR_1_info_leaves_it@pair", "server/nbd/opt_go.c", [
        ("\th->asked_sizes = w.sizes;\n",
         "\tif (h->opt.number == NBD_OPT_INFO)\n\t\thandshake_forget(h);\n"
         "\th->asked_sizes = w.sizes;\n")]),
    "back-to-structured": ("structured-reply test_SR_2_after_extended_headers@pair",
                           "server/nbd/opt_headers.c", [("\tif (*agreed > headers)\n", NEVER)]),

    # --- metadata contexts ---
    "set-at-any-time": ("meta-context test_MC_1_set_needs_chunks@pair", "server/nbd/opt_meta.c", [
        ("\tif (!q.listing && h->conn->agreed.headers == NBD_SIMPLE)\n", NEVER)]),
    "list-needs-chunks": ("meta-context test_MC_1_list_does_not@pair", "server/nbd/opt_meta.c", [
        ("\tif (!q.listing && h->conn->agreed.headers == NBD_SIMPLE)\n",
         "\tif (h->conn->agreed.headers == NBD_SIMPLE)\n")]),
    "set-needs-structured-replies": ("meta-context test_MC_1_set_with_either@pair",
                                     "server/nbd/opt_meta.c", [
        ("\tif (!q.listing && h->conn->agreed.headers == NBD_SIMPLE)\n",
         "\tif (!q.listing && h->conn->agreed.headers != NBD_STRUCTURED)\n")]),
    "junk-behind-queries": ("meta-context test_MC_2_syntax@pair", "server/nbd/wire.c", [
        ("\tbool exact = wire->left == 0 && !wire->is_short;\n",
         "\tbool exact = !wire->is_short;\n")]),
    "no-colon-is-an-error": ("meta-context test_MC_2_semantics@pair", "server/nbd/opt_meta.c", [
        ("\tif (nbd_string_ok(h->query, len))\n",
         "\tif (nbd_string_ok(h->query, len) && (len == 0 || memchr(h->query, ':', len)))\n")]),
    "the-last-query-counts": ("meta-context test_MC_3_unknown_is_ignored@pair",
                              "server/nbd/opt_meta.c", [
        ("\t\tq->contexts |= context_match(", "\t\tq->contexts = context_match(")]),
    "list-of-nothing-is-nothing": ("meta-context test_MC_4_list_of_nothing_is_all@pair",
                                   "server/nbd/opt_meta.c", [
        ("\tif (q->listing && q->count == 0)\n", NEVER)]),
    "list-tells-ids": ("meta-context test_MC_4_list_ids@pair", "server/nbd/opt_meta.c", [
        ("uint32_t id = listing ? 0 : h->conn->agreed.context_id_base + i;",
         "uint32_t id = (listing ? 1 : h->conn->agreed.context_id_base) + i;")]),
    "list-selects": ("meta-context test_MC_4_list_chooses_nothing@pair", "server/nbd/opt_meta.c", [
        ("\tif (!q.listing)\n\t\tselect_contexts(h, exp, q.contexts);\n",
         "\tselect_contexts(h, exp, q.contexts);\n")]),
    "list-clears": ("meta-context test_MC_4_list_chooses_nothing@pair", "server/nbd/opt_meta.c", [
        ("\tif (!q.listing)\n\t\tselect_contexts(h, NULL, 0);\n",
         "\tselect_contexts(h, NULL, 0);\n")]),
    "set-of-nothing-is-all": ("meta-context test_MC_5_set_of_nothing@pair",
                              "server/nbd/opt_meta.c", [
        ("\tif (q->listing && q->count == 0)\n", "\tif (q->count == 0)\n")]),
    "set-adds": ("meta-context test_MC_5_set_replaces@pair", "server/nbd/opt_meta.c", [
        ("\tif (!q.listing)\n\t\tselect_contexts(h, NULL, 0);\n", ""),
        ("\tagreed->contexts = contexts;\n", "\tagreed->contexts |= contexts;\n")]),
    "failure-keeps": ("meta-context test_MC_5_failure_clears@pair", "server/nbd/opt_meta.c", [
        ("\tif (!q.listing)\n\t\tselect_contexts(h, NULL, 0);\n", "")]),
    "malformed-keeps": ("meta-context test_MC_5_failure_clears@pair", "server/nbd/opt_meta.c", [
        ("\tif (!q.listing)\n\t\tselect_contexts(h, NULL, 0);\n",
         "\tif (!q.listing && ret == 0)\n\t\tselect_contexts(h, NULL, 0);\n")]),
    "a-few-sets": ("meta-context test_MC_5_many_times@pair", "server/nbd/opt_meta.c", [
        ("\tif (!q.listing)\n\t\tselect_contexts(h, exp, q.contexts);\n",
         "\tif (!q.listing && h->options < 32)\n\t\tselect_contexts(h, exp, q.contexts);\n")]),
    "a-context-twice": ("meta-context test_MC_6_twice_is_once@pair", "server/nbd/opt_meta.c", [
        ("\t\tif ((ret = handshake_co_raw(h, header, sizeof(header))) < 0 ||\n",
         "\t\tif ((ret = handshake_co_raw(h, header, sizeof(header))) < 0 ||\n"
         "\t\t    (ret = handshake_co_raw(h, ctx->name, len)) < 0 ||\n"
         "\t\t    (ret = handshake_co_raw(h, header, sizeof(header))) < 0 ||\n")]),
    "one-id-for-all": ("meta-context test_MC_6_ids@pair", "server/nbd/opt_meta.c", [
        ("h->conn->agreed.context_id_base + i;", "h->conn->agreed.context_id_base;")]),
    "ids-to-be-guessed": ("meta-context test_MC_6_ids@pair", "server/nbd/opt_meta.c", [
        ("GRND_NONBLOCK) < 0)\n\t\tagreed->context_id_base = (uint32_t)h->conn->id;\n",
         "GRND_NONBLOCK) < 0 || true)\n\t\tagreed->context_id_base = 1;\n")]),
    "wildcards-in-set": ("meta-context test_MC_7_wildcards@pair", "server/nbd/context.c", [
        ("if (same || (listing && is_namespace_of",
         "(void)listing;\n\t\tif (same || (is_namespace_of")]),
    "no-wildcards": ("meta-context test_MC_7_wildcards@pair", "server/nbd/context.c", [
        ("if (same || (listing && is_namespace_of", "if (same || (false && is_namespace_of")]),
    "contexts-of-no-export": ("meta-context test_MC_8_unknown_export@pair",
                              "server/nbd/opt_meta.c", [
        ("\tif (!exp)\n\t\treturn ret;\n",
         "\tif (!exp)\n\t\treturn ret < 0 ? ret : handshake_co_ack(h);\n")]),
    "contexts-by-name-only": ("meta-context test_MC_8_default_export@pair",
                              "server/nbd/handshake.c", [
        ("\treturn agreed->context_export == exp ? agreed->contexts : 0;\n",
         "\treturn agreed->context_export == exp && exp != h->conn->exports->fallback ?\n"
         "\t\tagreed->contexts : 0;\n")]),
    "no-limit-of-queries": ("meta-context test_MC_9_number_of_queries@pair",
                            "server/nbd/opt_meta.c", [
        ("\tq->too_many = q->count > LIMIT_META_QUERIES &&", "\tq->too_many = false &&")]),
    "fewer-queries": ("meta-context test_MC_9_number_of_queries@pair", "server/nbd/opt_meta.c", [
        ("q->count > LIMIT_META_QUERIES &&", "q->count >= LIMIT_META_QUERIES &&")]),
    "less-for-queries": ("meta-context test_MC_9_length@pair", "server/nbd/handshake.c", [
        ("\tif (h->opt.len > LIMIT_OPTION_BYTES) {\n",
         "\tif (h->opt.len > LIMIT_OPTION_BYTES / 2) {\n")]),
    "a-namespace-of-our-own": ("meta-context test_MC_10_names@pair", "server/nbd/context.c", [
        ("{ \"qemu:allocation-depth\",", "{ \"blkgate:allocation-depth\",")]),
    "contexts-need-extended-headers": ("meta-context test_MC_11_narrow_status@pair",
                                       "server/nbd/opt_meta.c", [
        ("\tif (!q.listing && h->conn->agreed.headers == NBD_SIMPLE)\n",
         "\tif (!q.listing && h->conn->agreed.headers != NBD_EXTENDED)\n")]),

    # --- extended headers ---
    "compact-replies": ("extended-headers test_XH_1_headers_of_both_directions@pair",
                        "server/nbd/proto.c", [
        ("const struct nbd_chunk *chunk)\n{\n\tbool extended = headers == NBD_EXTENDED;\n",
         "const struct nbd_chunk *chunk)\n{\n"
         "\tbool extended = headers == NBD_EXTENDED && chunk->type;\n")]),
    "structured-wins": ("extended-headers test_XH_1_wins_over_structured@pair",
                        "server/nbd/opt_headers.c", [
        ("\t*agreed = headers;\n", "\tif (*agreed == NBD_SIMPLE)\n\t\t*agreed = headers;\n")]),
    "extended-though-refused": ("extended-headers test_XH_1_not_before@pair",
                                "server/nbd/opt_headers.c", [
        ("\tif (h->opt.len > 0)\n\t\treturn",
         "\tif (h->opt.len > 0 && (*agreed = headers))\n\t\treturn")]),
    "contexts-need-structured-replies":
        ("extended-headers test_XH_1_contexts_without_structured_replies@pair",
         "server/nbd/opt_meta.c", [
             ("\tif (!q.listing && h->conn->agreed.headers == NBD_SIMPLE)\n",
              "\tif (!q.listing && h->conn->agreed.headers != NBD_STRUCTURED)\n")]),
    "no-offset": ("extended-headers test_XH_2_offset_echoed@pair", "server/nbd/reply.c", [
        ("\t\t\t\t\t      .offset = nbd->offset,\n",
         "\t\t\t\t\t      .offset = reply->ret < 0 ? 0 : nbd->offset,\n")]),
    "either-magic": ("extended-headers test_XH_10_compact_magic@pair", "server/nbd/proto.c", [
        ("return get_be32(bytes) == (extended ? NBD_EXTENDED_REQUEST_MAGIC : NBD_REQUEST_MAGIC);",
         "return get_be32(bytes) == NBD_REQUEST_MAGIC ||\n"
         "\t\t(extended && get_be32(bytes) == NBD_EXTENDED_REQUEST_MAGIC);")]),
    "extended-any-time": ("extended-headers test_XH_10_extended_magic@pair", "server/nbd/proto.c", [
        ("return get_be32(bytes) == (extended ? NBD_EXTENDED_REQUEST_MAGIC : NBD_REQUEST_MAGIC);",
         "return get_be32(bytes) == NBD_EXTENDED_REQUEST_MAGIC ||\n"
         "\t\t(!extended && get_be32(bytes) == NBD_REQUEST_MAGIC);")]),
    "half-a-request-magic": ("extended-headers test_XH_10_other_magics@pair",
                             "server/nbd/proto.c", [
        ("return get_be32(bytes) == (extended ? NBD_EXTENDED_REQUEST_MAGIC : NBD_REQUEST_MAGIC);",
         "return get_be16(bytes) ==\n"
         "\t\t((extended ? NBD_EXTENDED_REQUEST_MAGIC : NBD_REQUEST_MAGIC) >> 16);")]),
    "half-names-forgotten": ("export-name test_EN_3_cut_anywhere@pair", "server/nbd/chan.c",
                             HALF_FORGOTTEN),
    "half-aborts-forgotten": ("abort test_AB_1_cut_anywhere@tcp", "server/nbd/chan.c",
                              HALF_FORGOTTEN),
    "half-infos-forgotten": ("info-go test_IG_8_cut_anywhere@pair", "server/nbd/chan.c",
                             HALF_FORGOTTEN),
    "half-queries-forgotten": ("meta-context test_MC_2_cut_anywhere@pair", "server/nbd/chan.c",
                               HALF_FORGOTTEN),
    "half-headers-forgotten": ("extended-headers test_XH_1_cut_anywhere@pair",
                               "server/nbd/chan.c",
                               HALF_FORGOTTEN),

    # --- RESIZE, STARTTLS ---
    "resize-forbidden": ("resize test_RZ_1_refused@pair", "server/nbd/request.c", [
        ("return refuse(-EINVAL, REQUEST_COMMAND);", "return refuse(-EPERM, REQUEST_COMMAND);")]),
    "resize-offered": ("resize test_RZ_2_not_offered@pair", "server/nbd/handshake.c", [
        ("uint16_t flags = NBD_FLAG_HAS_FLAGS |", "uint16_t flags = 1 << 9 | NBD_FLAG_HAS_FLAGS |")]),
    "size-of-the-day": ("resize test_RZ_2_size_stays@pair", "server/nbd/request.c", [
        ("\tif (!range_ok(req->offset, req->length, limits->size_bytes))\n",
         "\tif (!range_ok(req->offset, req->length, 2 * limits->size_bytes))\n"),
        ("\tinvariant(range_ok(req->nbd.offset, req->nbd.length, req->conn->limits.size_bytes));\n",
         "")]),
    "tls-without-fixed-newstyle": ("starttls-off test_TLS_2_not_without_fixed_newstyle@pair",
                                   "server/nbd/handshake.c", [
        ("\tif (!h->fixed && h->opt.number != NBD_OPT_EXPORT_NAME) {\n", "\tif (false) {\n")]),
    "tls-that-is-not-there": ("starttls-off test_TLS_3_refused@pair",
                              "server/nbd/opt_starttls.c", [
        ("\tif (!conn_tls(conn))\n\t\treturn handshake_co_error(h, NBD_REP_ERR_POLICY,\n",
         "\tif (!conn_tls(conn))\n\t\treturn handshake_co_item(h, NBD_REP_ACK, NULL, 0);\n"
         "\tif (!conn_tls(conn))\n\t\treturn handshake_co_error(h, NBD_REP_ERR_POLICY,\n")]),
    "starttls-forgets": ("starttls-off test_TLS_3_nothing_lost@pair",
                         "server/nbd/opt_starttls.c", [
        ("\tif (!conn_tls(conn))\n", "\thandshake_forget(h);\n\tif (!conn_tls(conn))\n")]),
    "tls-required": ("starttls-off test_TLS_3_never_required@pair", "server/nbd/handshake.c", [
        ("NBD_REP_ERR_UNKNOWN, \"there is no export", "NBD_REP_ERR_TLS_REQD, \"there is no export")]),

    # --- sizes, several connections, endings ---
    "odd-sizes": ("block-sizes test_SZ_1_rules@pair", "server/nbd/opt_go.c", [
        ("put_be32(body + 6, sizes.preferred);", "put_be32(body + 6, sizes.preferred + 512);")]),
    "minimum-for-preferred": ("block-sizes test_SZ_1_told_as_set@pair", "server/nbd/opt_go.c", [
        ("put_be32(body + 6, sizes.preferred);", "put_be32(body + 6, sizes.minimum);")]),
    "nobody-bound": ("block-sizes test_SZ_2_who_asked_is_bound@pair", "server/nbd/handshake.c", [
        ("exp->strict ? export_sizes_for(exp, h->asked_sizes).minimum : 1,", "1,")]),
    "bound-by-info": ("block-sizes test_SZ_2_others_are_not@pair", "server/nbd/opt_go.c", [
        ("\th->asked_sizes = w.sizes;\n", "\th->asked_sizes |= w.sizes;\n")]),
    "bound-by-info-and-export-name": ("block-sizes test_SZ_2_others_are_not@pair",
                                      "server/nbd/opt_export_name.c", [
        ("\th->asked_sizes = false;\n", "")]),
    "minimum-not-the-devices": ("block-sizes test_SZ_3_from_the_device@pair", "server/export.c", [
        ("\tif (exp->strict)\n", NEVER)]),
    "a-maximum-of-one": ("block-sizes test_SZ_3_default@pair", "server/nbd/opt_go.c", [
        ("put_be32(body + 10, sizes.maximum);", "put_be32(body + 10, 1u << 20);")]),
    "whole-sectors": ("block-sizes test_SZ_4_to_the_byte@pair", "server/nbd/opt_go.c", [
        ("put_be64(body + 2, exp->size_bytes);",
         "put_be64(body + 2, (exp->size_bytes + 511) & ~511ull);")]),
    "fua-writes-kept-back": ("multi-conn test_MX_1_seen_by_all@tcp", "server/nbd/request.c", [
        ("\tcase NBD_CMD_WRITE:\n", "\tcase NBD_CMD_WRITE:\n\t\tif (fua_of(req))\n\t\t\treturn 0;\n")]),
    "neighbours-lost": ("multi-conn test_MX_1_parts_of_a_block@tcp", "blk/track.c", [
        ("\twhile ((blocker = blocker_of(t, req))) {\n", "\twhile ((blocker = NULL)) {\n")]),
    "many-for-one": ("multi-conn test_MX_3_not_for_one_client@tcp", "server/nbd/handshake.c", [
        ("\tif (exp->clients_max != 1)\n", ALWAYS)]),
    "one-hears-of-the-loss": ("multi-conn test_MX_4_failed_flush@tcp", "blk/dev.c", [
        ("\t__atomic_compare_exchange_n(&dev->flush_error, &none, ret, false, __ATOMIC_RELEASE,\n\t\t\t\t    __ATOMIC_RELAXED);\n",
         "\t(void)none;\n")]),
    "reset-after-abort": ("endings test_TE_1_after_abort@tcp", "server/nbd/chan.c", RESET),
    "reset-after-disc": ("endings test_TE_1_after_disc@tcp", "server/nbd/chan.c", RESET),
    "reset-after-half-a-goodbye": ("endings test_TE_1_client_leaves@tcp", "server/nbd/chan.c",
                                   RESET),
    "replies-to-chaos": ("endings test_TE_2_rules_that_end_it@pair", "server/nbd/proto.c", [
        ("return get_be64(bytes) == NBD_OPTION_MAGIC;", "return true;")]),
    "hangs-up-on-mistakes": ("endings test_TE_2_nothing_else_does@pair", "server/nbd/conn.c", [
        ("\tif (v->payload_bytes > LIMIT_PAYLOAD_DRAINED) {\n",
         "\tif (v->fault == REQUEST_COMMAND) {\n")]),
    "chunks-for-all": ("baseline test_BR_1_baseline@pair", "server/nbd/handshake.c", [
        ("(struct conn_agreed){ .headers = NBD_SIMPLE };",
         "(struct conn_agreed){ .headers = NBD_STRUCTURED };")]),
    "no-chunks": ("baseline test_BR_2_structured_replies@pair", "server/nbd/handshake.c", [
        ("\tcase NBD_OPT_STRUCTURED_REPLY:\n\t\treturn opt_co_structured_reply(h);\n", "")]),
    "no-flush": ("baseline test_BR_2_recommended@pair", "server/nbd/handshake.c", [
        ("NBD_FLAG_HAS_FLAGS | NBD_FLAG_SEND_FLUSH |", "NBD_FLAG_HAS_FLAGS |")]),
}
