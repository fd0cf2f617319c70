//! Owns the cheapest name that a thread can read of itself: its thread pointer.
//!
//! A thread-local variable of a cdylib costs a call into the dynamic linker on
//! every access; the thread pointer sits in a register. It never is zero, and
//! no two living threads share it. A dead thread's may come back: whoever keys
//! data by it must accept that the new thread inherits the data.
//!
//! Never used to reach into the thread's memory: it is compared, nothing else.

/// The calling thread's tag: not zero, and unlike that of every living thread.
#[inline(always)]
pub(super) fn current() -> usize {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    {
        let pointer: usize;
        // SAFETY: the x86-64 ABI keeps the thread pointer's own address at
        // `fs:0` for the whole life of a thread; one aligned load, no writes.
        unsafe {
            core::arch::asm!(
                "mov {}, fs:0",
                out(reg) pointer,
                options(pure, readonly, nostack, preserves_flags)
            );
        }
        pointer
    }
    #[cfg(all(target_arch = "aarch64", not(miri)))]
    {
        let pointer: usize;
        // SAFETY: `tpidr_el0` is readable in user mode and holds the thread
        // pointer; the C library sets it before any code of the thread runs.
        unsafe {
            core::arch::asm!(
                "mrs {}, tpidr_el0",
                out(reg) pointer,
                options(pure, nomem, nostack, preserves_flags)
            );
        }
        pointer
    }
    #[cfg(any(miri, not(any(target_arch = "x86_64", target_arch = "aarch64"))))]
    {
        // SAFETY: has no preconditions.
        let thread = unsafe { libc::pthread_self() } as usize;
        // Miri counts threads from zero; zero means "nobody" here.
        thread.wrapping_add(1)
    }
}
