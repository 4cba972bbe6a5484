# A boot sector that does what a kernel's first moments do: paging, long mode, a trap and the return from it.
# It reports by isa-debug-exit at port 0xf4: QEMU then ends with (0x2a << 1) | 1 = 85.
#
# probe.rs has the assembled bytes; a test assembles this file and compares where `as` is at hand:
#   as --64 kvm-probe.S -o probe.o && objcopy -O binary -j .text probe.o probe.bin
#
# Addresses below 0x7c00 are relative to the segments' base, which is 0; the code itself runs at 0x7c00.

.set LOAD, 0x7c00
.set PML4, 0x1000
.set PDPT, 0x2000
.set PD,   0x3000
.set IDT,  0x5000
.set STACK, 0x6ff0
.set EXIT_PORT, 0xf4
.set WORKS, 0x2a
.set SILENT, 0x01

.code16
start:
    cli
    ljmp $0, $(LOAD + flat - start)
flat:
    xor %ax, %ax
    mov %ax, %ds
    mov %ax, %es
    mov %ax, %ss
    mov $STACK, %sp

    # One 2 MiB page, at its own address, by four levels of tables.
    mov $PML4, %edi
    xor %eax, %eax
    mov $((IDT + 0x1000 - PML4) / 4), %ecx
    rep stosl
    movl $(PDPT | 3), PML4
    movl $(PD | 3), PDPT
    movl $0x83, PD

    # PAE, EFER.LME, then protection and paging at once: long mode.
    mov %cr4, %eax
    or $0x20, %eax
    mov %eax, %cr4
    mov $PML4, %eax
    mov %eax, %cr3
    mov $0xc0000080, %ecx
    rdmsr
    or $0x100, %eax
    wrmsr
    mov %cr0, %eax
    or $0x80000001, %eax
    mov %eax, %cr0
    lgdtl LOAD + gdtr - start
    ljmpl $8, $(LOAD + long - start)

.code64
long:
    mov $16, %ax
    mov %ax, %ds
    mov %ax, %es
    mov %ax, %ss
    mov $STACK, %rsp

    # Long enough for a first timer tick of the host to interrupt the guest.
    mov $1000000, %ecx
1:  loop 1b

    # Vector 3, an interrupt gate to `handler`.
    mov $(LOAD + handler - start), %eax
    mov %ax, IDT + 0x30
    movw $8, IDT + 0x32
    movw $0x8e00, IDT + 0x34
    shr $16, %eax
    mov %ax, IDT + 0x36
    lidt LOAD + idtr - start

    mov $SILENT, %ebx
    int3
    mov %ebx, %eax
    mov $EXIT_PORT, %dx
    out %al, %dx
2:  hlt
    jmp 2b

handler:
    mov $WORKS, %ebx
    iretq

.balign 8
gdt:
    .quad 0
    .quad 0x00af9a000000ffff    # 8: code, 64 bit
    .quad 0x00cf92000000ffff    # 16: data
gdtr:
    .word gdtr - gdt - 1
    .long LOAD + gdt - start
idtr:
    .word 4 * 16 - 1
    .quad IDT

.org 510
.word 0xaa55
