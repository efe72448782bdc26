// Ring 0 of the guest programs: entry from the monitor or a boot loader, descriptor tables, page tables, and a gate
// that CPL-3 code reaches with `int3`. Everything else of bulla's guest programs runs at CPL 3.
//
// The file is assembled twice, with the prefixes `fw` (firmware) and `kn` (an ordinary kernel, the tenant); the
// linker script of a program keeps the one it wants. Both are laid out alike from a 2 MiB-aligned base on:
//
//   page 0            header, exception stubs, entry, gate       supervisor, read and execute
//   page 1            GDT, IDT                                   supervisor, read and write
//   pages 2..16       page tables                                supervisor, read and write
//   pages 16..RW      program text and constants                 user, read and execute
//   pages RW..OWN-4   program data, heap, stacks                 user, read and write
//   pages OWN-4..OWN  ring-0 stack and TSS (not in the file)     supervisor, read and write
//
// Nothing is both writable and executable, except RAM for the kernel at the hand-over (tables C).

.macro RING0 p, base, rw, own

.set \p\()_PRIVATE, \base + (\own - 4) * 4096
.set \p\()_TSS, \p\()_PRIVATE + 4096          // 8 KiB + 106 bytes, after one page of stack

// ---------------------------------------------------------------------------------------------- page 0: code
.section .\p\().gate, "ax", @progbits
    \p\()_header

// Exception stubs at 0x100, 16 bytes each. Vectors 8, 10-14, 17, 21, 29 and 30 push an error code themselves
// (Intel SDM vol. 3A table 6-1).
.org 0x100
.irp v, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
.balign 16
.if ((0x60227d00 >> \v) & 1) == 0
    pushq $0
.endif
    pushq $\v
    jmp \p\()_trap
.endr
.balign 16

// Stack: vector, error code, RIP, CS, RFLAGS, RSP, SS.
\p\()_trap:
    cmpl $3, (%rsp)
    jne \p\()_exception
    testb $3, 24(%rsp)
    jz \p\()_exception
    cmpl $1, %eax
    je \p\()_halt
    \p\()_gate_functions
    // An int3 that asks for nothing known is an exception like the others.
\p\()_exception:
    // A second exception happened in the report of the first.
    leaq \p\()_reported(%rip), %rcx
    incl (%rcx)
    cmpl $1, (%rcx)
    jne \p\()_halt
    movq (%rsp), %rdi
    movq 8(%rsp), %rsi
    movq 16(%rsp), %rdx
    movq 40(%rsp), %r8
    movq %cr2, %rcx
    leaq guest_exception_stack_top(%rip), %rbx
    leaq guest_exception_report(%rip), %rax
    // To CPL 3: RBX = stack, RAX = where. The ABI wants RSP = 16n + 8 at a function's first instruction.
\p\()_to_user:
    subq $8, %rbx
    pushq $0x1b
    pushq %rbx
    pushq $2
    pushq $0x23
    pushq %rax
    iretq

\p\()_halt:
    cli
    hlt
    jmp \p\()_halt

// Loads this image's descriptor tables and goes on at CPL 3, RDI as it is.
\p\()_start:
    lgdt \p\()_gdtr(%rip)
    lidt \p\()_idtr(%rip)
    movl $\p\()_TSS, %eax
    movq %rax, 4(%rax)              // RSP0: the stack lies under the TSS
    movw $0x68, 0x66(%rax)          // the I/O bitmap follows; all zero: every port is allowed at CPL 3
    movb $0xff, 0x2068(%rax)        // and must end in a byte of ones
    movl %eax, %esp
    movl $0x28, %ecx
    ltr %cx
    movl $0x1b, %ecx
    movl %ecx, %ds
    movl %ecx, %es
    leaq guest_stack_top(%rip), %rbx
    leaq guest_start(%rip), %rax
    jmp \p\()_to_user

\p\()_entry_code

// ------------------------------------------------------------------------------------------- page 1: descriptors
.section .\p\().data, "aw", @progbits
.balign 4096
\p\()_gdt:
    .quad 0
    .quad 0x00af9b000000ffff        // 0x08 code, ring 0, 64-bit
    .quad 0x00cf93000000ffff        // 0x10 data, ring 0
    .quad 0x00cff3000000ffff        // 0x18 data, ring 3
    .quad 0x00affb000000ffff        // 0x20 code, ring 3, 64-bit
    .quad 0x0000890000002069 | ((\p\()_TSS & 0xffffff) << 16) | (((\p\()_TSS >> 24) & 0xff) << 56)
    .quad \p\()_TSS >> 32
\p\()_gdt_end:

// 64-bit interrupt gates (SDM vol. 3A 6.14.1); that of #BP may be called from CPL 3. Stub n lies at 0x100 + 16 n.
\p\()_idt:
.irp v, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
    .word 0x100 + 16 * \v
    .word 0x08
    .byte 0
.if \v == 3
    .byte 0xee
.else
    .byte 0x8e
.endif
    .word (\base >> 16) & 0xffff
    .quad \base >> 32
.endr
\p\()_idt_end:

\p\()_gdtr:
    .word \p\()_gdt_end - \p\()_gdt - 1
    .quad \p\()_gdt
\p\()_idtr:
    .word \p\()_idt_end - \p\()_idt - 1
    .quad \p\()_idt
\p\()_reported:
    .long 0
.endm

// Leaf flags: P=1 W=2 U=4 A=0x20 D=0x40 PS=0x80 NX=1<<63. A and D are preset, so that the tables are never written.
.set NX, 1 << 63

// `count` entries of `step` bytes from `first` on.
.macro LEAVES count, first, step, flags
.set leaf, \first
.rept \count
    .quad leaf + \flags
    .set leaf, leaf + \step
.endr
.endm

// The own 2 MiB region's table up to page OWN.
.macro OWN_PAGES base, rw, own
    LEAVES 1, \base, 4096, 0x21
    LEAVES 15, \base + 4096, 4096, 0x63 + NX
    LEAVES \rw - 16, \base + 16 * 4096, 4096, 0x25
    LEAVES \own - 4 - \rw, \base + \rw * 4096, 4096, 0x67 + NX
    LEAVES 4, \base + (\own - 4) * 4096, 4096, 0x63 + NX
.endm

// ================================================================================================== firmware

.macro fw_header
    .ascii "BULLAFW1"
    .quad fw_entry
    .quad fw_pml4_a
    .quad {firmware_size}
.endm

// Gate functions: EAX = 2 enter the bootloader, 3 enter a kernel by the 64-bit boot protocol, 4 by PVH.
// RDI = entry point, RSI = boot_params or hvm_start_info. None returns.
.macro fw_gate_functions
    cmpl $2, %eax
    je fw_enter_bootloader
    cmpl $3, %eax
    je fw_enter_linux
    cmpl $4, %eax
    je fw_enter_pvh
.endm

.macro fw_entry_code
.globl fw_entry
.set fw_entry, fw_start

// Tables B: the bootloader's text becomes executable and read-only.
fw_enter_bootloader:
    leaq fw_pml4_b(%rip), %rax
    movq %rax, %cr3
    movq %rdi, %rax
    xorl %ebx, %ebx
    jmp fw_to_user

// Documentation/arch/x86/boot.rst "64-bit boot protocol": CS 0x10 and DS 0x18 flat, RSI = boot_params, interrupts off.
fw_enter_linux:
    movq %rdi, %rbp
    call fw_leave
    pushq $0x18
    pushq ${boot_stack}
    pushq $2
    pushq $0x10
    pushq %rbp
    xorl %ebp, %ebp
    xorl %edi, %edi
    iretq

// Xen's PVH ABI (docs/misc/pvh.pandoc): 32-bit protected mode without paging, EBX = hvm_start_info.
fw_enter_pvh:
    movq %rdi, %rbp
    call fw_leave
    leaq fw_flat(%rip), %rax
    pushq $0x20
    pushq %rax
    lretq
.code32
fw_flat:
    movl %cr0, %eax
    andl $0x7fffffff, %eax
    movl %eax, %cr0
    movl $0xc0000080, %ecx
    rdmsr
    andl $~0x901, %eax
    wrmsr
    xorl %eax, %eax
    movl %eax, %cr4
    movl $0x11, %eax
    movl %eax, %cr0
    movl %esi, %ebx
    movl %ebp, %edi
    xorl %eax, %eax
    xorl %ecx, %ecx
    xorl %edx, %edx
    xorl %esi, %esi
    xorl %ebp, %ebp
    movl ${boot_stack}, %esp
    jmpl *%edi
.code64

// Tables C: all memory below 4 GiB may be executed by ring 0. The kernel's GDT is in conventional memory, where the
// kernel may keep using it.
fw_leave:
    leaq fw_pml4_c(%rip), %rax
    movq %rax, %cr3
    lgdt fw_boot_gdtr(%rip)
    lidt fw_no_idt(%rip)
    movl $0x18, %ecx
    movl %ecx, %ds
    movl %ecx, %es
    movl %ecx, %ss
    xorl %ecx, %ecx
    movl %ecx, %fs
    movl %ecx, %gs
    xorl %eax, %eax
    xorl %ebx, %ebx
    xorl %edx, %edx
    ret
fw_boot_gdtr:
    .word {boot_gdt_limit}
    .quad {boot_gdt}
fw_no_idt:
    .word 0
    .quad 0
.endm

RING0 fw, {firmware_base}, 96, 256

.section .fw.tables, "aw", @progbits
.balign 4096
// A: while the firmware runs. RAM and the boot window are not executable (NX in the directory pointers).
fw_pml4_a:  .quad fw_pdpt_a + 0x27
            .fill 511, 8, 0
fw_pdpt_a:  .quad fw_pd_0 + 0x27 + NX, fw_pd_1 + 0x27 + NX, fw_pd_2 + 0x27 + NX, fw_pd_3a + 0x27
            .fill 508, 8, 0
fw_pd_0:    LEAVES 512, 0x00000000, 0x200000, 0xe7
fw_pd_1:    LEAVES 512, 0x40000000, 0x200000, 0xe7
fw_pd_2:    LEAVES 512, 0x80000000, 0x200000, 0xe7
fw_pd_3a:   LEAVES 510, 0xc0000000, 0x200000, 0xe7 + NX
            .quad fw_pt_a + 0x27
            LEAVES 1, {firmware_base} + 0x200000, 0x200000, 0xe7 + NX
fw_pt_a:    OWN_PAGES {firmware_base}, 96, 256
            LEAVES 256, {bootloader_base}, 4096, 0x67 + NX
// B: while the bootloader runs. Its first MiB, text and constants, is read and execute; the rest as before.
fw_pml4_b:  .quad fw_pdpt_b + 0x27
            .fill 511, 8, 0
fw_pdpt_b:  .quad fw_pd_0 + 0x27 + NX, fw_pd_1 + 0x27 + NX, fw_pd_2 + 0x27 + NX, fw_pd_3b + 0x27
            .fill 508, 8, 0
fw_pd_3b:   LEAVES 510, 0xc0000000, 0x200000, 0xe7 + NX
            .quad fw_pt_b + 0x27
            LEAVES 1, {firmware_base} + 0x200000, 0x200000, 0xe7 + NX
fw_pt_b:    OWN_PAGES {firmware_base}, 96, 256
            LEAVES 256, {bootloader_base}, 4096, 0x25
// C: at the hand-over. Ring 0 only, RAM executable.
fw_pml4_c:  .quad fw_pdpt_c + 0x23
            .fill 511, 8, 0
fw_pdpt_c:  .quad fw_pd_0 + 0x23, fw_pd_1 + 0x23, fw_pd_2 + 0x23, fw_pd_3a + 0x23
            .fill 508, 8, 0

// ================================================================================================ bootloader

.section .bl.header, "a", @progbits
    .ascii "BULLABL1"
    .quad bl_entry
    .quad 0
    .quad {bootloader_memory}

.section .bl.entry, "ax", @progbits
.globl bl_entry
bl_entry:
    leaq guest_stack_top - 8(%rip), %rsp
    jmp guest_start

// ==================================================================================================== kernel

.macro kn_header
.endm
.macro kn_gate_functions
.endm

// Entered by the 64-bit boot protocol. RSI = boot_params goes to the program as its argument.
.macro kn_entry_code
.globl kn_entry
kn_entry:
    movl $0xc0000080, %ecx
    rdmsr
    orl $0x800, %eax                // EFER.NXE: the tables use it
    wrmsr
    movq %cr4, %rax
    orl $0x600, %eax                // OSFXSR, OSXMMEXCPT
    movq %rax, %cr4
    leaq kn_pml4(%rip), %rax
    movq %rax, %cr3
    movq %rsi, %rdi
    jmp kn_start
.endm

RING0 kn, {kernel_base}, 256, 512

.section .kn.tables, "aw", @progbits
.balign 4096
kn_pml4:    .quad kn_pdpt + 0x27
            .fill 511, 8, 0
kn_pdpt:    .quad kn_pd_0 + 0x27, kn_pd_1 + 0x27, kn_pd_2 + 0x27, kn_pd_3 + 0x27
            .fill 508, 8, 0
kn_pd_0:    LEAVES {kernel_base} / 0x200000, 0, 0x200000, 0xe7 + NX
            .quad kn_pt + 0x27
            LEAVES 511 - {kernel_base} / 0x200000, {kernel_base} + 0x200000, 0x200000, 0xe7 + NX
kn_pd_1:    LEAVES 512, 0x40000000, 0x200000, 0xe7 + NX
kn_pd_2:    LEAVES 512, 0x80000000, 0x200000, 0xe7 + NX
kn_pd_3:    LEAVES 512, 0xc0000000, 0x200000, 0xe7 + NX
kn_pt:      OWN_PAGES {kernel_base}, 256, 512

// ==================================================================================================== shared

.section .bss.guest_stacks, "aw", @nobits
.balign 16
    .skip 4096
guest_exception_stack_top:
    .skip 131072
guest_stack_top:

// First instructions at CPL 3: initialised data goes from the image, where it lies behind the text, to its place.
.section .text.guest_start, "ax", @progbits
guest_start:
    movq %rdi, %rax
    leaq guest_data_start(%rip), %rdi
    leaq guest_data_load(%rip), %rsi
    leaq guest_data_end(%rip), %rcx
    subq %rdi, %rcx
    rep movsb
    movq %rax, %rdi
    jmp guest_main

// The standard library's precompiled parts can unwind; a panic here ends in the panic handler, so nothing gets here.
.section .text.unwind, "ax", @progbits
.globl _Unwind_Resume, rust_eh_personality
_Unwind_Resume:
rust_eh_personality:
    ud2

// The memory functions that compilers call. Long runs go to `rep movsb`, which is microcoded to copy cache lines.
.section .text.memory, "ax", @progbits
.globl memcpy, memmove, memset, memcmp, bcmp
.balign 16
memmove:
    movq %rdi, %rax
    movq %rdi, %rcx
    subq %rsi, %rcx
    cmpq %rdx, %rcx                 // destination inside the source: copy downwards
    jb 6f
memcpy:
    movq %rdi, %rax
    cmpq $16, %rdx
    jb 2f
    cmpq $32, %rdx
    ja 1f
    movups (%rsi), %xmm0
    movups -16(%rsi,%rdx), %xmm1
    movups %xmm0, (%rdi)
    movups %xmm1, -16(%rdi,%rdx)
    ret
1:  movq %rdx, %rcx
    rep movsb
    ret
2:  cmpl $8, %edx
    jb 3f
    movq (%rsi), %rcx
    movq -8(%rsi,%rdx), %r8
    movq %rcx, (%rdi)
    movq %r8, -8(%rdi,%rdx)
    ret
3:  cmpl $4, %edx
    jb 4f
    movl (%rsi), %ecx
    movl -4(%rsi,%rdx), %r8d
    movl %ecx, (%rdi)
    movl %r8d, -4(%rdi,%rdx)
    ret
4:  testl %edx, %edx
    jz 5f
    movq %rdx, %r10                 // one to three bytes: the first, the middle and the last
    shrl $1, %r10d
    movzbl (%rsi), %ecx
    movzbl (%rsi,%r10), %r8d
    movzbl -1(%rsi,%rdx), %r9d
    movb %cl, (%rdi)
    movb %r8b, (%rdi,%r10)
    movb %r9b, -1(%rdi,%rdx)
5:  ret
6:  cmpq $16, %rdx
    jb 2b
    leaq -1(%rdi,%rdx), %rdi
    leaq -1(%rsi,%rdx), %rsi
    movq %rdx, %rcx
    std
    rep movsb
    cld
    ret

.balign 16
memset:
    movq %rdi, %r8
    movl %esi, %eax
    movq %rdx, %rcx
    rep stosb
    movq %r8, %rax
    ret

.balign 16
memcmp:
bcmp:
    xorl %eax, %eax
1:  cmpq $8, %rdx
    jb 2f
    movq (%rdi), %rcx
    cmpq (%rsi), %rcx
    jne 2f
    addq $8, %rdi
    addq $8, %rsi
    subq $8, %rdx
    jmp 1b
2:  testq %rdx, %rdx
    jz 3f
    movzbl (%rdi), %eax
    movzbl (%rsi), %ecx
    subl %ecx, %eax
    jne 3f
    incq %rdi
    incq %rsi
    decq %rdx
    jmp 2b
3:  ret
