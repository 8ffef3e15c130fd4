# SPDX-License-Identifier: LGPL-2.1-or-later
# Entry of the bare-metal guests: supervisor mode, over SBI, at 0x80200000. Turns Sv39 on.
  .section .text.start
  .globl _start, start_other
_start:
start_other:
  la sp, stacks
  addi t0, a0, 1
  slli t0, t0, 13
  add sp, sp, t0
  la t0, root_table
  srli t0, t0, 12
  li t1, 8 << 60
  or t0, t0, t1
  csrw satp, t0
  sfence.vma
  call guest_main
1:
  wfi
  j 1b

  # As it is: devices and memory, in pages of 1 GiB.
  .data
  .balign 4096
root_table:
  .dword (0x00000000 >> 2) | 0xc7
  .dword 0
  .dword (0x80000000 >> 2) | 0xcf
  .zero 4096 - 24

  .bss
  .balign 16
stacks:
  .zero 8 * 8192
