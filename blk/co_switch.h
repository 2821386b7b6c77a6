/* SPDX-License-Identifier: MIT */
/*
 * co_switch.h - changing stacks: the part of a coroutine that C cannot say.
 *
 * 1. A context is what is left of a flow of control that is not running: its
 *    stack pointer, with the callee-saved registers on that stack.
 * 2. co_ctx_switch() stores the running flow in FROM and continues TO. It
 *    returns when somebody switches back to FROM.
 * 3. Signal mask and floating-point control words are not part of a context:
 *    workers block all signals and nobody changes rounding.
 *
 * x86-64 and aarch64 have a switch of their own (co_switch_asm.S); everything else,
 * and any build with UCONTEXT=1, goes through ucontext(3).
 */
#ifndef BLK_CO_SWITCH_H
#define BLK_CO_SWITCH_H

#if !defined(CO_UCONTEXT) && !defined(__x86_64__) && !defined(__aarch64__)
#define CO_UCONTEXT 1
#endif

#ifndef __ASSEMBLER__

#include <stddef.h>

#ifdef CO_UCONTEXT
#include <ucontext.h>

struct co_ctx {
	ucontext_t uc;
};
#else
struct co_ctx {
	void *sp;
};
#endif

/*
 * Prepares CTX so that the first switch to it calls ENTRY(ARG) on the stack
 * [STACK, STACK + SIZE). ENTRY must never return.
 */
void co_ctx_init(struct co_ctx *ctx, void *stack, size_t size, void (*entry)(void *), void *arg);

void co_ctx_switch(struct co_ctx *from, struct co_ctx *to);

#endif
#endif
