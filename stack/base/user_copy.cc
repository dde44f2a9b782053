#include "stack/base/user_copy.h"

// In assembly, because a fix-up has to know which registers hold what. The arguments stay where they came, so that a fault
// can start again from the beginning with `rep movsb`, which stops at the very byte and leaves the number of missing ones
// in rcx. Loads come before stores as far as the registers go: blocks may overlap at their ends.
asm(R"(
    .text
    .p2align 6
    .globl ustcp_user_copy
    .hidden ustcp_user_copy
    .type ustcp_user_copy, @function
ustcp_user_copy:
    .cfi_startproc
    cmpq $16, %rdx
    jb .Lcopy_below_16
    cmpq $32, %rdx
    ja .Lcopy_above_32
    movdqu (%rsi), %xmm0
    movdqu -16(%rsi,%rdx), %xmm1
    movdqu %xmm0, (%rdi)
    movdqu %xmm1, -16(%rdi,%rdx)
    xorl %eax, %eax
    ret

    .p2align 4
.Lcopy_below_16:
    cmpl $8, %edx
    jb .Lcopy_below_8
    movq (%rsi), %rax
    movq -8(%rsi,%rdx), %rcx
    movq %rax, (%rdi)
    movq %rcx, -8(%rdi,%rdx)
    xorl %eax, %eax
    ret
.Lcopy_below_8:
    cmpl $4, %edx
    jb .Lcopy_below_4
    movl (%rsi), %eax
    movl -4(%rsi,%rdx), %ecx
    movl %eax, (%rdi)
    movl %ecx, -4(%rdi,%rdx)
    xorl %eax, %eax
    ret
.Lcopy_below_4:
    xorl %eax, %eax
    cmpl $1, %edx
    jb .Lcopy_none
    movzbl (%rsi), %ecx
    je .Lcopy_one
    movzwl -2(%rsi,%rdx), %r8d
    movw %r8w, -2(%rdi,%rdx)
.Lcopy_one:
    movb %cl, (%rdi)
.Lcopy_none:
    ret

    .p2align 4
.Lcopy_above_32:
    cmpq $64, %rdx
    ja .Lcopy_above_64
    movdqu (%rsi), %xmm0
    movdqu 16(%rsi), %xmm1
    movdqu -32(%rsi,%rdx), %xmm2
    movdqu -16(%rsi,%rdx), %xmm3
    movdqu %xmm0, (%rdi)
    movdqu %xmm1, 16(%rdi)
    movdqu %xmm2, -32(%rdi,%rdx)
    movdqu %xmm3, -16(%rdi,%rdx)
    xorl %eax, %eax
    ret

    .p2align 4
.Lcopy_above_64:
    cmpb $0, ustcp_user_copy_wide(%rip)
    jne .Lcopy_wide
    movq %rdi, %r8
    movq %rsi, %r9
    leaq -64(%rdi,%rdx), %r10
    .p2align 4
.Lcopy_loop:
    movdqu (%r9), %xmm0
    movdqu 16(%r9), %xmm1
    movdqu 32(%r9), %xmm2
    movdqu 48(%r9), %xmm3
    addq $64, %r9
    movdqu %xmm0, (%r8)
    movdqu %xmm1, 16(%r8)
    movdqu %xmm2, 32(%r8)
    movdqu %xmm3, 48(%r8)
    addq $64, %r8
    cmpq %r10, %r8
    jb .Lcopy_loop
    movdqu -64(%rsi,%rdx), %xmm0
    movdqu -48(%rsi,%rdx), %xmm1
    movdqu -32(%rsi,%rdx), %xmm2
    movdqu -16(%rsi,%rdx), %xmm3
    movdqu %xmm0, -64(%rdi,%rdx)
    movdqu %xmm1, -48(%rdi,%rdx)
    movdqu %xmm2, -32(%rdi,%rdx)
    movdqu %xmm3, -16(%rdi,%rdx)
    xorl %eax, %eax
    ret

    # The same with registers of twice the size, where the processor has them.
    .p2align 4
.Lcopy_wide:
    cmpq $128, %rdx
    ja .Lcopy_above_128
    vmovdqu (%rsi), %ymm0
    vmovdqu 32(%rsi), %ymm1
    vmovdqu -64(%rsi,%rdx), %ymm2
    vmovdqu -32(%rsi,%rdx), %ymm3
    vmovdqu %ymm0, (%rdi)
    vmovdqu %ymm1, 32(%rdi)
    vmovdqu %ymm2, -64(%rdi,%rdx)
    vmovdqu %ymm3, -32(%rdi,%rdx)
    vzeroupper
    xorl %eax, %eax
    ret
    .p2align 4
.Lcopy_above_128:
    vmovdqu (%rsi), %ymm0
    vmovdqu 32(%rsi), %ymm1
    vmovdqu 64(%rsi), %ymm2
    vmovdqu 96(%rsi), %ymm3
    cmpq $256, %rdx
    ja .Lcopy_wide_many
    vmovdqu -128(%rsi,%rdx), %ymm4
    vmovdqu -96(%rsi,%rdx), %ymm5
    vmovdqu -64(%rsi,%rdx), %ymm6
    vmovdqu -32(%rsi,%rdx), %ymm7
    vmovdqu %ymm0, (%rdi)
    vmovdqu %ymm1, 32(%rdi)
    vmovdqu %ymm2, 64(%rdi)
    vmovdqu %ymm3, 96(%rdi)
    vmovdqu %ymm4, -128(%rdi,%rdx)
    vmovdqu %ymm5, -96(%rdi,%rdx)
    vmovdqu %ymm6, -64(%rdi,%rdx)
    vmovdqu %ymm7, -32(%rdi,%rdx)
    vzeroupper
    xorl %eax, %eax
    ret
    # Stores that cross a cache line are dear: the loop's begin at one.
    .p2align 4
.Lcopy_wide_many:
    leaq 64(%rdi), %r8
    andq $-64, %r8
    movq %rsi, %r9
    subq %rdi, %r9
    addq %r8, %r9
    leaq -128(%rdi,%rdx), %r10
    vmovdqu %ymm0, (%rdi)
    vmovdqu %ymm1, 32(%rdi)
    .p2align 4
.Lcopy_wide_loop:
    vmovdqu (%r9), %ymm0
    vmovdqu 32(%r9), %ymm1
    vmovdqu 64(%r9), %ymm2
    vmovdqu 96(%r9), %ymm3
    subq $-128, %r9
    vmovdqa %ymm0, (%r8)
    vmovdqa %ymm1, 32(%r8)
    vmovdqa %ymm2, 64(%r8)
    vmovdqa %ymm3, 96(%r8)
    subq $-128, %r8
    cmpq %r10, %r8
    jb .Lcopy_wide_loop
    vmovdqu -128(%rsi,%rdx), %ymm0
    vmovdqu -96(%rsi,%rdx), %ymm1
    vmovdqu -64(%rsi,%rdx), %ymm2
    vmovdqu -32(%rsi,%rdx), %ymm3
    vmovdqu %ymm0, -128(%rdi,%rdx)
    vmovdqu %ymm1, -96(%rdi,%rdx)
    vmovdqu %ymm2, -64(%rdi,%rdx)
    vmovdqu %ymm3, -32(%rdi,%rdx)
    vzeroupper
    xorl %eax, %eax
    ret

    # No argument has changed up to here.
.Lcopy_again:
    movq %rdx, %rcx
.Lcopy_bytes:
    rep movsb
.Lcopy_stopped:
    movq %rcx, %rax
    ret
    .cfi_endproc
    .size ustcp_user_copy, .-ustcp_user_copy

.Lput_begin:
    .globl ustcp_user_put16, ustcp_user_put32, ustcp_user_put64, ustcp_user_touch_read, ustcp_user_touch_write
    .hidden ustcp_user_put16, ustcp_user_put32, ustcp_user_put64, ustcp_user_touch_read, ustcp_user_touch_write
    .type ustcp_user_put16, @function
    .type ustcp_user_put32, @function
    .type ustcp_user_put64, @function
    .type ustcp_user_touch_read, @function
    .type ustcp_user_touch_write, @function
    .p2align 4
ustcp_user_put16:
    xorl %eax, %eax
    movw %si, (%rdi)
    ret
    .p2align 4
ustcp_user_put32:
    xorl %eax, %eax
    movl %esi, (%rdi)
    ret
    .p2align 4
ustcp_user_put64:
    xorl %eax, %eax
    movq %rsi, (%rdi)
    ret
    .p2align 4
ustcp_user_touch_read:
    xorl %eax, %eax
    testb (%rdi), %al
    ret
    # Changes nothing, whatever other threads store there meanwhile.
    .p2align 4
ustcp_user_touch_write:
    xorl %eax, %eax
    lock orb $0, (%rdi)
    ret
.Lput_end:
.Lput_failed:
    movl $1, %eax
    ret

    .globl ustcp_user_copy_fixup
    .hidden ustcp_user_copy_fixup
    .type ustcp_user_copy_fixup, @function
ustcp_user_copy_fixup:
    leaq .Lcopy_bytes(%rip), %rcx
    leaq .Lcopy_stopped(%rip), %rax
    cmpq %rcx, %rdi
    je 1f
    leaq ustcp_user_copy(%rip), %rcx
    leaq .Lcopy_again(%rip), %rdx
    leaq .Lcopy_again(%rip), %rax
    cmpq %rcx, %rdi
    jb 2f
    cmpq %rdx, %rdi
    jb 1f
2:  leaq .Lput_begin(%rip), %rcx
    leaq .Lput_end(%rip), %rdx
    leaq .Lput_failed(%rip), %rax
    cmpq %rcx, %rdi
    jb 3f
    cmpq %rdx, %rdi
    jb 1f
3:  xorl %eax, %eax
1:  ret
    .size ustcp_user_copy_fixup, .-ustcp_user_copy_fixup
)");

namespace ustcp {

extern "C" uintptr_t ustcp_user_copy_fixup(uintptr_t pc) noexcept;

uintptr_t UserCopyFixup(uintptr_t pc) noexcept { return ustcp_user_copy_fixup(pc); }

constinit thread_local bool t_copy_carefully = true;

bool TouchUser(const void* p, size_t n, bool to_write) noexcept {
  constexpr size_t kPage = 4096;
  auto* at = static_cast<std::byte*>(const_cast<void*>(p));
  for (size_t done = 0; done < n;) {
    std::byte ignored;
    bool faulted;
    if (t_copy_carefully)
      faulted = CopyFromUser(&ignored, at + done, 1) != 0;
    else
      faulted = to_write ? ustcp_user_touch_write(at + done) : ustcp_user_touch_read(at + done);
    if (faulted) return false;
    done += kPage - reinterpret_cast<uintptr_t>(at + done) % kPage;
  }
  return true;
}

extern "C" {
extern bool ustcp_user_copy_wide;
bool ustcp_user_copy_wide = __builtin_cpu_supports("avx2") != 0;
}

namespace {

// Nobody blocks anything as far as this layer knows.
size_t CopyFromNowOn(void* to, const void* from, size_t n) noexcept {
  t_copy_carefully = false;
  return ustcp_user_copy(to, from, n);
}

}  // namespace

size_t (*g_careful_copy)(void* to, const void* from, size_t n) noexcept = CopyFromNowOn;

}  // namespace ustcp
