/* SPDX-License-Identifier: MIT */
/* co_switch.c - how a new stack begins, and the ucontext fallback. */
#include "co_switch.h"

#include <stdint.h>
#include <string.h>

#include "base/annotate.h"

#ifdef CO_UCONTEXT

/* makecontext() passes ints only: two halves make a pointer. */
static void
ucontext_entry(unsigned entry_hi, unsigned entry_lo, unsigned arg_hi, unsigned arg_lo)
{
	uintptr_t entry = (uintptr_t)((uint64_t)entry_hi << 32 | entry_lo);
	uintptr_t arg = (uintptr_t)((uint64_t)arg_hi << 32 | arg_lo);

	((void (*)(void *))entry)((void *)arg);
}

void
co_ctx_init(struct co_ctx *ctx, void *stack, size_t size, void (*entry)(void *), void *arg)
{
	uint64_t e = (uintptr_t)entry, a = (uintptr_t)arg;
	int ret = getcontext(&ctx->uc);

	invariant(ret == 0);
	ctx->uc.uc_stack.ss_sp = stack;
	ctx->uc.uc_stack.ss_size = size;
	ctx->uc.uc_link = NULL;
	makecontext(&ctx->uc, (void (*)(void))(void *)ucontext_entry, 4, (unsigned)(e >> 32),
		    (unsigned)e, (unsigned)(a >> 32), (unsigned)a);
}

void
co_ctx_switch(struct co_ctx *from, struct co_ctx *to)
{
	int ret = swapcontext(&from->uc, &to->uc);

	invariant(ret == 0);
}

#else

void co_ctx_start(void);

#if defined(__x86_64__)
/* What co_ctx_switch pops, lowest address first. */
struct frame {
	void *r15, *r14, *r13, *r12, *rbx, *rbp;
	void *ret;
	void *end[2]; /* rsp points here in co_ctx_start: aligned for its call */
};
_Static_assert(offsetof(struct frame, end) % 16 == 8 && sizeof(struct frame) % 16 == 8,
	       "what lies at `end` is 16-byte aligned below an aligned top");
#define FRAME_ENTRY rbx
#define FRAME_ARG r12
#define FRAME_RET ret
#elif defined(__aarch64__)
struct frame {
	void *x19, *x20, *x21_28[8], *x29, *x30;
	uint64_t d8_15[8];
};
_Static_assert(sizeof(struct frame) % 16 == 0, "the stack stays aligned");
#define FRAME_ENTRY x19
#define FRAME_ARG x20
#define FRAME_RET x30
#endif

void
co_ctx_init(struct co_ctx *ctx, void *stack, size_t size, void (*entry)(void *), void *arg)
{
	uintptr_t top = ((uintptr_t)stack + size) & ~(uintptr_t)15;
	struct frame *f = (struct frame *)(top - sizeof(*f));

	memset(f, 0, sizeof(*f));
	f->FRAME_ENTRY = (void *)entry;
	f->FRAME_ARG = arg;
	f->FRAME_RET = (void *)co_ctx_start;
	ctx->sp = f;
}

#endif
