/* SPDX-License-Identifier: MIT */
/*
 * limits.h - everything that a peer can make grow, and how far.
 *
 * A peer can make the server wait, never grow beyond these.
 */
#ifndef SERVER_LIMITS_H
#define SERVER_LIMITS_H

#include <stdint.h>

#include "blk/buf.h"

#define LIMIT_MS(ms) ((uint64_t)(ms) * 1000000u)

/* --- Handshake -------------------------------------------------------------- */

/* The whole handshake, default of --handshake-limit; QEMU has the same figure. */
#define LIMIT_HANDSHAKE_S 10u
/* Data of one option; the largest legal GO is about 135 KiB. */
#define LIMIT_OPTION_BYTES (256u << 10)
/* Options of one handshake; clients list with two options per export. */
#define LIMIT_OPTIONS 64u
#define LIMIT_OPTIONS_PER_EXPORT 8u
/* Queries of one LIST_META_CONTEXT or SET_META_CONTEXT. */
#define LIMIT_META_QUERIES 1024u
/* Any string of the protocol (spec: MUST). */
#define LIMIT_STRING_BYTES 4096u
/* How long handshakes may go on once the server is stopping. */
#define LIMIT_HANDSHAKE_LINGER_NS LIMIT_MS(1000)

/*
 * TLS. What the messages of its handshake have together, which certificates make
 * long, and how much of it the server's own may take; how many of a peer's a chain
 * has, how many values of DER all of it, and how long their keys are. CAs' own have
 * up to 113 values, one with 200 names and all usual extensions 336; GnuTLS takes one of
 * 512 apart in 0.1 ms, and the 6800 that have room in 7.
 */
#define LIMIT_TLS_MESSAGE_BYTES (64u << 10)
#define LIMIT_OWN_CHAIN_BYTES (LIMIT_TLS_MESSAGE_BYTES / 2)
#define LIMIT_PEER_CHAIN 8u
#define LIMIT_PEER_CHAIN_BYTES (16u << 10)
#define LIMIT_PEER_CHAIN_VALUES 1024
#define LIMIT_PEER_KEY_BITS 8192u
#define LIMIT_PEER_EXPONENT_BYTES 8u
/* A file of certificates or of a key; one of users, and how many. */
#define LIMIT_CREDENTIAL_BYTES (1u << 20)
#define LIMIT_PSK_BYTES (32u << 20)
#define LIMIT_PSK_USERS (128u << 10)
/*
 * Encrypted bytes that one receive may take, and that one send may have: five records,
 * since 16 replies of 4 KiB are a little more than four.
 */
#define LIMIT_TLS_RECEIVE (32u << 10)
#define LIMIT_TLS_SEND (84u << 10)

/* --- Transmission ----------------------------------------------------------- */

/* Requests of one connection; the Linux client queues as many. */
#define LIMIT_INFLIGHT 128u
/* Payload a client is told to keep to (INFO_BLOCK_SIZE), and what is served. */
#define LIMIT_PAYLOAD_ADVERTISED (32u << 20)
#define LIMIT_PAYLOAD_SERVED (64u << 20)
/* A READ as long, with DF, must work (spec: MUST): no maximum may be below it. */
#define LIMIT_UNFRAGMENTED (64u << 10)
/* A longer WRITE is read to its end and refused; beyond this, the end. */
#define LIMIT_PAYLOAD_DRAINED (128u << 20)
/* Payload memory that one connection may hold. */
#define LIMIT_CONN_PAYLOAD (64u << 20)
/* No byte moved within a request or a reply. */
#define LIMIT_STALL_NS LIMIT_MS(30000)
/*
 * Bytes per second that a message must make besides, or a byte now and then
 * would keep it, and the memory it holds, for ever. Only time in which the
 * server waits for nothing but the peer counts.
 */
#define LIMIT_RATE (64u << 10)
#define LIMIT_MESSAGE_NS(bytes) (LIMIT_STALL_NS + LIMIT_MS(1000) * (bytes) / LIMIT_RATE)
/*
 * A send that takes longer is looked after. How often one is tried to a peer that
 * sends nothing more: the kernel does not tell when there is space.
 */
#define LIMIT_SEND_LOOK_NS LIMIT_MS(100)
#define LIMIT_SEND_QUIET_NS LIMIT_MS(2)
/* After an end that is the server's: time for the client to take what was sent, or some of it. */
#define LIMIT_LINGER_NS LIMIT_MS(1000)
#define LIMIT_LINGER_LOOK_NS (LIMIT_LINGER_NS / 8)
/* How often is looked at what expires. */
#define LIMIT_EXPIRY_LOOK_NS LIMIT_MS(24 * 60 * 60 * 1000)
/* Received and not yet looked at: a burst of small requests. */
#define LIMIT_READ_AHEAD (64u << 10)
#define LIMIT_READ_AHEAD_HANDSHAKE (4u << 10)
/*
 * A payload below this arrives in the connection's own read-ahead buffer and
 * takes payload memory only when it is complete, so that peers who stall in the
 * middle of one hold nothing that others need. Larger ones go past the buffer.
 */
#define LIMIT_SMALL_PAYLOAD (32u << 10)
#define LIMIT_READ_AHEAD_LARGE 256u
/* What is forgotten in one receive. */
#define LIMIT_SKIP (16u << 10)
/* Segments and bytes of one send. */
#define LIMIT_SEND_SEGMENTS 256u
#define LIMIT_SEND_BYTES (1u << 20)
/* Headers of one send, and texts of errors: all that 128 ordinary replies have. */
#define LIMIT_SEND_HEADERS (8u << 10)
/* Chunks before the last of their replies that a connection may queue. */
#define LIMIT_SPARE_REPLIES 32u
/*
 * In a READ of as much or more holes are looked for; one as long has a chunk of
 * its own. How often one READ looks.
 */
#define LIMIT_HOLE_UNIT (64u << 10)
#define LIMIT_HOLE_LOOKUPS 16u
/* Reads that finding the block may take on which a READ has failed. */
#define LIMIT_LOCATE_READS 16u
/*
 * Memory for the extents of one BLOCK_STATUS, of all its contexts together; with
 * REQ_ONE; extents that it asks for, and how many all of a worker may ask for in one
 * turn of its loop.
 */
#define LIMIT_STATUS_BYTES (256u << 10)
#define LIMIT_STATUS_ONE_BYTES (4u << 10)
#define LIMIT_STATUS_EXTENTS 131072u
#define LIMIT_STATUS_TURN 64u
/*
 * One read of a CACHE request, and how many of them a worker has in one turn of
 * its loop: what others of that worker may have to wait for, each time.
 */
#define LIMIT_CACHE_PIECE (128u << 10)
#define LIMIT_CACHE_READS 1u

/*
 * A TCP peer that is gone without a word, defaults of --keepalive: silence until
 * it is asked, how often, how many times; and of --tcp-user-timeout without
 * keepalive: how long for what it does not confirm.
 */
#define LIMIT_KEEPALIVE_IDLE_S 60u
#define LIMIT_KEEPALIVE_INTERVAL_S 10u
#define LIMIT_KEEPALIVE_PROBES 6u
#define LIMIT_UNCONFIRMED_S 120u
/* The most that the kernel takes: tcp(7). */
#define LIMIT_KEEPALIVE_MAX_S 32767u
#define LIMIT_KEEPALIVE_MAX_PROBES 127u
#define LIMIT_UNCONFIRMED_MAX_S ((unsigned)INT32_MAX / 1000)

/* --- Process ---------------------------------------------------------------- */

/*
 * Payload memory, shared out evenly among the workers; but none gets less than
 * its minimum below, so above five workers it is that for each of them. Only
 * address space until it is used.
 */
#define LIMIT_PAYLOAD_TOTAL ((uint64_t)1 << 30)
/*
 * Of one worker, at least. Half of its memory may belong to payloads still
 * arriving: a sixth to those up to a medium size, a third to larger ones, so
 * that peers who stall in huge requests do not keep ordinary ones waiting.
 */
#define LIMIT_PAYLOAD_WORKER_MIN ((uint64_t)192 << 20)
#define LIMIT_MEDIUM_PAYLOAD BUF_CHUNK_MAX
#define LIMIT_ARRIVING_MEDIUM(pool) ((pool) / 6)
#define LIMIT_ARRIVING_LARGE(pool) ((pool) / 3)
#define LIMIT_CONNECTIONS 100u /* default of --max-connections */
#define LIMIT_WORKERS 256u
#define LIMIT_EXPORTS 1024u
/* Queues that are made at start; beyond, on a worker's first use. */
#define LIMIT_QUEUES_AT_START 64u
#define LIMIT_SHUTDOWN_S 10u /* default of --shutdown-timeout */
/* The file of --access, rules in all, subjects of one. */
#define LIMIT_ACCESS_BYTES (1u << 20)
#define LIMIT_ACCESS_RULES 4096u
#define LIMIT_ACCESS_SUBJECTS 8u
/* Supplementary groups of a client that are looked at: all, credentials(7). */
#define LIMIT_PEER_GROUPS 65536u
/* A log line; a pipe takes one in one piece (PIPE_BUF). */
#define LIMIT_LOG_LINE 640u
/*
 * Lines a second: about the failed requests of one connection; about all
 * handshakes that fail; about all connections that are dropped afterwards.
 */
#define LIMIT_LOG_BURST 5u

_Static_assert(LIMIT_PAYLOAD_SERVED <= BUF_BYTES_MAX, "one buffer holds the largest request");
_Static_assert(LIMIT_PAYLOAD_SERVED <= LIMIT_ARRIVING_LARGE(LIMIT_PAYLOAD_WORKER_MIN), "it fits");
_Static_assert(LIMIT_SMALL_PAYLOAD <= LIMIT_READ_AHEAD, "a small payload fits the buffer");
_Static_assert(LIMIT_PAYLOAD_SERVED <= LIMIT_CONN_PAYLOAD, "a connection can hold one of them");
_Static_assert(LIMIT_CACHE_PIECE <= BUF_CHUNK_MAX, "a CACHE buffer is one chunk");
_Static_assert(LIMIT_STATUS_BYTES <= BUF_CHUNK_MAX, "and so is that of a BLOCK_STATUS");

#endif
