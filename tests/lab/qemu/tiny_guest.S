/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A guest of 200 bytes for tests: it boots in no time and its whole behaviour is known. A thousand
 * times a second it counts at 0x200000 and writes the count into eight pages of a window of 512.
 * It obeys the word at 0x200010: 1 powers off, 2 resets, 3 panics (port of pvpanic).
 * Booted by QEMU's -kernel as a multiboot image, on the "pc" machine. */
    .set MAGIC, 0x1BADB002
    .section .text
    .code32
    .long MAGIC, 0, -MAGIC
    .globl _start
_start:
    cli
    lgdt gdt_pointer
    ljmp $8, $reload
reload:
    movw $16, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    movl $stack_top, %esp
    movl $tick, %eax           /* An interrupt gate for IRQ 0, which the BIOS left at vector 8. */
    movw %ax, idt + 64
    movw $8, idt + 66
    movw $0x8E00, idt + 68
    shrl $16, %eax
    movw %ax, idt + 70
    lidt idt_pointer
    movb $0x34, %al            /* The timer at 1000 Hz, all other interrupts masked. */
    outb %al, $0x43
    movb $0xA9, %al
    outb %al, $0x40
    movb $0x04, %al
    outb %al, $0x40
    movb $0xFE, %al
    outb %al, $0x21
    movl $0, 0x200010
    sti
wait:
    hlt
    movl 0x200010, %eax
    cmpl $1, %eax
    je power_off
    cmpl $2, %eax
    je reset
    cmpl $3, %eax
    je panic
    jmp wait
power_off:
    movw $0x604, %dx
    movw $0x2000, %ax
    outw %ax, %dx
    jmp wait
reset:
    movl $0, 0x200010
    movb $0xFE, %al
    outb %al, $0x64
    jmp wait
panic:
    movl $0, 0x200010
    movw $0x505, %dx
    movb $1, %al
    outb %al, %dx
    jmp wait

tick:
    pushl %eax
    pushl %ecx
    pushl %edx
    incl 0x200000
    movl 0x200000, %eax
    movl $8, %ecx
next_page:
    leal (%ecx, %eax, 8), %edx
    andl $511, %edx
    shll $12, %edx
    movl %eax, 0x400000(%edx)
    decl %ecx
    jnz next_page
    movb $0x20, %al
    outb %al, $0x20
    popl %edx
    popl %ecx
    popl %eax
    iret

    .balign 8
gdt:
    .quad 0, 0x00CF9A000000FFFF, 0x00CF92000000FFFF
gdt_pointer:
    .word 23
    .long gdt
idt_pointer:
    .word 2047
    .long idt
    .balign 8
idt:
    .fill 2048, 1, 0
    .fill 1024, 1, 0
stack_top:
    .long 0
