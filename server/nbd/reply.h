/* SPDX-License-Identifier: MIT */
/*
 * reply.h - from results to bytes, many at a time.
 *
 * 1. Every request that was started, and every one that was refused, is queued
 *    exactly once; its slot is free again when the reply has been sent, or
 *    when it became clear that it never will be.
 * 2. What is queued in one turn leaves in one send. While a send is under way
 *    more may queue up: batching by being busy, never by a timer.
 */
#ifndef NBD_REPLY_H
#define NBD_REPLY_H

#include "base/annotate.h"

struct conn;
struct request;

/* Queues the reply to REQ: RET is 0 or -errno. The request is the writer's now. */
void reply_queue(struct request *req, int ret) loop_fn;

/* The connection's writer coroutine; ends after reply_finish(). ARG: the conn. */
void reply_writer(void *arg);

/* Nothing more will be queued: lets the writer send what is there and end. */
void reply_finish(struct conn *conn) loop_fn;

#endif
