// syscall() itself. What the stack has no business with goes to the kernel from here, by the same instructions as in the C
// library; the rest is handed on by a jump to a function of six arguments (raw_call.h), which returns what syscall() does.
//
// In assembly because of clone: with a stack of its own the child returns from here to whatever its maker put there, and
// with the memory shared it returns over the parent's frame. So nothing may be on the stack when the kernel is entered. Such
// children are threads, or start another program at once; one that shares neither memory nor stack is a fork (process.cc).
#include <linux/sched.h>
#include <sys/syscall.h>

#include <cerrno>

#include "preload/raw/raw_call.h"

static_assert(SYS_clone == 56 && SYS_clone3 == 435 && (CLONE_VM | CLONE_THREAD) == 0x10100 &&
              ustcp::raw::kNumbers == 512);

extern "C" {
// For errno.
__attribute__((visibility("hidden"), used)) long ustcp_raw_failed(long result) noexcept {
  errno = static_cast<int>(-result);
  return -1;
}
}

asm(R"(
  .pushsection .text
  .globl syscall
  .type syscall, @function
  .p2align 4
syscall:
  .cfi_startproc
  endbr64
  cmpq $512, %rdi
  jae 3f
  cmpq $56, %rdi
  je 1f
  cmpq $435, %rdi
  je 2f
0:
  leaq ustcp_raw_handlers(%rip), %rax
  movq (%rax,%rdi,8), %rax
  testq %rax, %rax
  jz 3f
  movq %rsi, %rdi
  movq %rdx, %rsi
  movq %rcx, %rdx
  movq %r8, %rcx
  movq %r9, %r8
  movq 8(%rsp), %r9
  jmp *%rax
1: # clone: flags, stack
  testq $0x10100, %rsi
  jnz 3f
  testq %rdx, %rdx
  jnz 3f
  jmp 0b
2: # clone3: structure, its size
  pushq %rdi
  .cfi_adjust_cfa_offset 8
  pushq %rsi
  .cfi_adjust_cfa_offset 8
  pushq %rdx
  .cfi_adjust_cfa_offset 8
  pushq %rcx
  .cfi_adjust_cfa_offset 8
  pushq %r8
  .cfi_adjust_cfa_offset 8
  pushq %r9
  .cfi_adjust_cfa_offset 8
  subq $8, %rsp
  .cfi_adjust_cfa_offset 8
  movq %rsi, %rdi
  movq %rdx, %rsi
  call ustcp_raw_clone3_forks
  addq $8, %rsp
  .cfi_adjust_cfa_offset -8
  popq %r9
  .cfi_adjust_cfa_offset -8
  popq %r8
  .cfi_adjust_cfa_offset -8
  popq %rcx
  .cfi_adjust_cfa_offset -8
  popq %rdx
  .cfi_adjust_cfa_offset -8
  popq %rsi
  .cfi_adjust_cfa_offset -8
  popq %rdi
  .cfi_adjust_cfa_offset -8
  testb %al, %al
  jnz 0b
3: # the kernel's
  movq %rdi, %rax
  movq %rsi, %rdi
  movq %rdx, %rsi
  movq %rcx, %rdx
  movq %r8, %r10
  movq %r9, %r8
  movq 8(%rsp), %r9
  syscall
  cmpq $-4095, %rax
  jae 4f
  ret
4:
  movq %rax, %rdi
  jmp ustcp_raw_failed
  .cfi_endproc
  .size syscall, . - syscall
  .popsection
)");
