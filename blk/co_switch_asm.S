/* SPDX-License-Identifier: MIT */
/*
 * co_switch_asm.S - void co_ctx_switch(struct co_ctx *from, struct co_ctx *to)
 *
 * Callee-saved registers go onto the old stack, the stack pointer into *from;
 * then the same backwards from *to. A new context starts in co_ctx_start with
 * the entry function and its argument in two of those registers (co_switch.c
 * lays them out). co_ctx_start has no caller: its CFI says so, which is where
 * a backtrace ends.
 */
#include "co_switch.h"

#ifndef CO_UCONTEXT

#if defined(__x86_64__)

	.text
	.globl	co_ctx_switch
	.hidden	co_ctx_switch
	.type	co_ctx_switch, @function
	.balign	16
co_ctx_switch:
	.cfi_startproc
	endbr64
	push	%rbp
	.cfi_adjust_cfa_offset 8
	push	%rbx
	.cfi_adjust_cfa_offset 8
	push	%r12
	.cfi_adjust_cfa_offset 8
	push	%r13
	.cfi_adjust_cfa_offset 8
	push	%r14
	.cfi_adjust_cfa_offset 8
	push	%r15
	.cfi_adjust_cfa_offset 8
	mov	%rsp, (%rdi)
	mov	(%rsi), %rsp
	pop	%r15
	.cfi_adjust_cfa_offset -8
	pop	%r14
	.cfi_adjust_cfa_offset -8
	pop	%r13
	.cfi_adjust_cfa_offset -8
	pop	%r12
	.cfi_adjust_cfa_offset -8
	pop	%rbx
	.cfi_adjust_cfa_offset -8
	pop	%rbp
	.cfi_adjust_cfa_offset -8
	ret
	.cfi_endproc
	.size	co_ctx_switch, . - co_ctx_switch

	.globl	co_ctx_start
	.hidden	co_ctx_start
	.type	co_ctx_start, @function
	.balign	16
co_ctx_start:
	.cfi_startproc
	.cfi_undefined rip
	endbr64
	mov	%r12, %rdi
	call	*%rbx
	ud2
	.cfi_endproc
	.size	co_ctx_start, . - co_ctx_start

	/* Indirect-branch tracking yes, shadow stacks no: the linker may say IBT. */
	.section .note.gnu.property, "a"
	.balign	8
	.long	4
	.long	16
	.long	5
	.asciz	"GNU"
	.long	0xc0000002
	.long	4
	.long	1
	.long	0

#elif defined(__aarch64__)

	.text
	.globl	co_ctx_switch
	.hidden	co_ctx_switch
	.type	co_ctx_switch, %function
	.balign	16
co_ctx_switch:
	.cfi_startproc
	hint	#34
	sub	sp, sp, #160
	.cfi_adjust_cfa_offset 160
	stp	x19, x20, [sp, #0]
	stp	x21, x22, [sp, #16]
	stp	x23, x24, [sp, #32]
	stp	x25, x26, [sp, #48]
	stp	x27, x28, [sp, #64]
	stp	x29, x30, [sp, #80]
	stp	d8, d9, [sp, #96]
	stp	d10, d11, [sp, #112]
	stp	d12, d13, [sp, #128]
	stp	d14, d15, [sp, #144]
	mov	x9, sp
	str	x9, [x0]
	ldr	x9, [x1]
	mov	sp, x9
	ldp	x19, x20, [sp, #0]
	ldp	x21, x22, [sp, #16]
	ldp	x23, x24, [sp, #32]
	ldp	x25, x26, [sp, #48]
	ldp	x27, x28, [sp, #64]
	ldp	x29, x30, [sp, #80]
	ldp	d8, d9, [sp, #96]
	ldp	d10, d11, [sp, #112]
	ldp	d12, d13, [sp, #128]
	ldp	d14, d15, [sp, #144]
	add	sp, sp, #160
	.cfi_adjust_cfa_offset -160
	ret
	.cfi_endproc
	.size	co_ctx_switch, . - co_ctx_switch

	.globl	co_ctx_start
	.hidden	co_ctx_start
	.type	co_ctx_start, %function
	.balign	16
co_ctx_start:
	.cfi_startproc
	.cfi_undefined x30
	hint	#36
	mov	x0, x20
	blr	x19
	brk	#1
	.cfi_endproc
	.size	co_ctx_start, . - co_ctx_start

	/* Branch targets are marked (BTI); return addresses are not signed. */
	.section .note.gnu.property, "a"
	.balign	8
	.long	4
	.long	16
	.long	5
	.asciz	"GNU"
	.long	0xc0000000
	.long	4
	.long	1
	.long	0

#endif
#endif

	.section .note.GNU-stack, "", %progbits
