// Gives each core of a QEMU machine an identity of its own. QEMU's virt machine has one kind of
// core; what EL1 reads as MIDR_EL1 is VPIDR_EL2 though (Arm ARM, VPIDR_EL2), and that is set here,
// at EL2, before the kernel starts at EL1: CPUs 0 to 3 say Cortex-A55 r2p0, the others what they are.
//
// A CPU that the kernel starts (PSCI CPU_ON) would begin at EL2 and past this, so SMC is trapped
// (HCR_EL2.TSC) and passed on, CPU_ON with this as the entry and the kernel's entry as the context.
// The first CPU goes on at QEMU's own boot stub, at the start of the RAM. Linked to no address.

	.text
	.equ	LITTLES, 4
first:
	ldr	x20, =0x40000000
	mov	x21, #0
	b	common
secondary:				// x0: the context, which is the kernel's entry
	mov	x20, x0
common:
	mrs	x1, midr_el1
	mrs	x2, mpidr_el1
	msr	vmpidr_el2, x2
	and	x3, x2, #0xff		// affinity 0: the number of the CPU, up to 16 with a GICv3
	cmp	x3, #LITTLES
	b.hs	1f
	ldr	w1, =0x412fd050		// Arm, Cortex-A55 r2p0
1:	msr	vpidr_el2, x1
	ldr	x1, =0x80080000		// HCR_EL2: RW (EL1 is AArch64), TSC (trap SMC)
	msr	hcr_el2, x1
	mov	x1, #3			// CNTHCTL_EL2: EL1 uses the timers
	msr	cnthctl_el2, x1
	msr	cntvoff_el2, xzr
	mov	x1, #0x33ff		// CPTR_EL2: nothing is trapped
	msr	cptr_el2, x1
	msr	hstr_el2, xzr
	msr	vttbr_el2, xzr
	mov	x1, #0xf		// ICC_SRE_EL2: EL1 uses the GIC's registers
	msr	s3_4_c12_c9_5, x1
	isb
	ldr	x1, =0x30d00800		// SCTLR_EL1: the bits that are one, and all off
	msr	sctlr_el1, x1
	adr	x1, vectors
	msr	vbar_el2, x1
	mov	x1, #0x3c5		// EL1h, interrupts masked
	msr	spsr_el2, x1
	msr	elr_el2, x20
	mov	x0, #0
	mov	x1, #0
	mov	x2, #0
	mov	x3, #0
	isb
	eret

smc:	// of EL1. The caller expects x0 to x3 to change only (SMCCC), so x16 and x17, which
	// a procedure call may change, are put aside in EL2's own registers.
	msr	tpidr_el2, x17
	mrs	x17, elr_el2		// a trapped SMC has not been stepped over
	add	x17, x17, #4
	msr	elr_el2, x17
	ldr	w17, =0xc4000003	// PSCI CPU_ON, 64-bit
	cmp	w0, w17
	b.ne	1f
	mov	x3, x2
	adr	x2, secondary
1:	mrs	x17, tpidr_el2
	smc	#0
	eret

	.balign	2048
vectors:
	.rept	8			// from EL2: none is expected
	.balign	128
	b	.
	.endr
	.balign	128			// synchronous, from EL1
	b	smc
	.rept	7
	.balign	128
	b	.
	.endr
	.ltorg
