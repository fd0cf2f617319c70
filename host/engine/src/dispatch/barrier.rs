//! The two halves of an asymmetric fence: one that costs callers nothing, and
//! one that the publisher pays for both sides.
//!
//! A caller stores "I use this version" and then looks again whether that
//! version is still live; a publisher stores the new version and then looks
//! who uses the old one. At least one of the two must see the other's store,
//! which takes a full fence on both sides, unless the kernel puts one into
//! every running thread of the process when the publisher asks for it. That is
//! `membarrier(PRIVATE_EXPEDITED)`: callers then need no more than a promise
//! from the compiler not to reorder.
//!
//! This file decides once per process which of the two is in use. It never
//! decides per slot or per host: thread records are shared by all of them.

use super::sync::{AtomicBool, OnceLock, Ordering, compiler_fence, fence, membarrier, shared};

/// How callers and publishers are kept in order in this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BarrierKind {
    /// The kernel fences all threads when a version is published; calls pay
    /// nothing.
    Membarrier,
    /// The kernel has no membarrier, or refuses it: every call pays a fence.
    Fence,
    /// Membarrier worked at first and is refused now (a seccomp filter that
    /// was installed later). Calls and publishing go on; no version is ever
    /// found drained again, so nothing is unloaded any more, and no state is
    /// handed over: the old version never quiesces.
    Lost,
}

impl BarrierKind {
    /// The name as it appears in status output.
    pub const fn as_str(self) -> &'static str {
        match self {
            BarrierKind::Membarrier => "membarrier",
            BarrierKind::Fence => "fence",
            BarrierKind::Lost => "lost",
        }
    }
}

/// Which barrier this process uses; the first question decides it for good.
pub fn kind() -> BarrierKind {
    if LOST.load(Ordering::Relaxed) {
        return BarrierKind::Lost;
    }
    if *ASYMMETRIC.get_or_init(probe) { BarrierKind::Membarrier } else { BarrierKind::Fence }
}

/// Makes this process do without membarrier, as on a kernel that lacks it.
///
/// Returns whether fences are in use now: it must be called before anything
/// else of [`dispatch`](super) is, and is too late after that. For tests, and
/// for measuring what membarrier saves.
pub fn force_fence() -> bool {
    !*ASYMMETRIC.get_or_init(|| false)
}

/// Both halves of the fence between a caller and a publisher.
///
/// A type rather than a flag, so that a model can run the same code with full
/// fences on both sides.
pub(super) trait Barrier {
    /// The caller's half: after its hazard is stored, before it looks at the
    /// live pointer again.
    fn light();
}

/// The caller's half when the publisher's half is membarrier.
pub(super) struct Asymmetric;

/// The caller's half when it has to order itself. Correct beside either
/// publisher's half, so the cold path always uses it.
pub(super) struct Symmetric;

impl Barrier for Asymmetric {
    #[inline(always)]
    fn light() {
        // Partner: the membarrier in `heavy`.
        compiler_fence(Ordering::SeqCst);
    }
}

impl Barrier for Symmetric {
    #[inline(always)]
    fn light() {
        // Partner: the fence, or the membarrier, in `heavy`.
        fence(Ordering::SeqCst);
    }
}

/// The publisher's half: after the live pointer is replaced, before the
/// hazards are read. False if the kernel refused it; then what the hazards
/// say proves nothing.
pub(super) fn heavy() -> bool {
    match kind() {
        BarrierKind::Fence => {
            // Partner: `Symmetric::light`.
            fence(Ordering::SeqCst);
            true
        }
        BarrierKind::Membarrier | BarrierKind::Lost => {
            // Partner: both `light`s. A full barrier on this thread too.
            let done = membarrier(PRIVATE_EXPEDITED) || membarrier(GLOBAL);
            LOST.store(!done, Ordering::Relaxed);
            done
        }
    }
}

/// A [`heavy`] that has to succeed once before hazards may be believed: issued
/// at once or when it is first asked for, and tried again for as long as it
/// has not succeeded.
#[derive(Debug)]
pub(super) struct HeavyOnce(AtomicBool);

impl HeavyOnce {
    /// Issues the barrier now, and remembers whether it worked.
    pub(super) fn issue() -> Self {
        HeavyOnce(AtomicBool::new(heavy()))
    }

    /// Leaves it to the first [`is_done`](Self::is_done), so that what comes
    /// before is not held up by it.
    pub(super) fn due() -> Self {
        HeavyOnce(AtomicBool::new(false))
    }

    /// The same for a second owner.
    pub(super) fn same(&self) -> Self {
        HeavyOnce(AtomicBool::new(self.0.load(Ordering::Acquire)))
    }

    /// Whether the barrier has been issued, by now at the latest.
    pub(super) fn is_done(&self) -> bool {
        // Acquire: partner is the Release below; who finds the barrier issued
        // by another thread must not look at hazards before it was.
        if self.0.load(Ordering::Acquire) {
            return true;
        }
        let done = heavy();
        // Release: partner is above. It never goes back to false: two who
        // issue one each both had it, whichever stores last.
        if done {
            self.0.store(true, Ordering::Release);
        }
        done
    }
}

/// Whether membarrier is in use (true) or fences (false).
static ASYMMETRIC: OnceLock<bool> = OnceLock::new();

shared! {
    /// Whether membarrier was in use and has been refused since.
    static LOST: AtomicBool = AtomicBool::new(false);
}

const GLOBAL: libc::c_int = 1;
const PRIVATE_EXPEDITED: libc::c_int = 1 << 3;
const REGISTER_PRIVATE_EXPEDITED: libc::c_int = 1 << 4;

fn probe() -> bool {
    // Miri has no such system call. A model always has, and must not begin
    // with fences in its first round only.
    let works = || membarrier(REGISTER_PRIVATE_EXPEDITED) && membarrier(PRIVATE_EXPEDITED);
    cfg!(loom) || (!cfg!(miri) && works())
}
