//! Frames: one call in progress, as its own thread sees it.
//!
//! A frame is a place on the thread's hazard stack, taken when a call begins
//! and given back when it ends, also by a panic. Frames are made and dropped
//! by the core around a closure, never handed out, so they nest. What the
//! closure gets is an [`Entered`], which cannot leave it.

use super::counters::bump;
use super::record::ThreadRecord;
use super::sync::Ordering;
use super::version::{self, Header, Payload, VersionId};
use std::marker::PhantomData;
use std::ptr::{self, NonNull};

/// A call in progress, inside of the closure that makes it.
///
/// It stays on its thread, and what it lends ends with the closure:
///
/// ```compile_fail
/// # use replug_host::dispatch::{Payload, Slot};
/// fn leak<P: Payload>(slot: &Slot<P>) -> &P {
///     slot.enter(|entered| entered.payload()).unwrap() // does not compile
/// }
/// ```
pub struct Entered<'a, P> {
    frame: &'a Frame,
    payload: &'a P,
    /// Not `Send`: it writes counters that belong to this thread.
    thread: PhantomData<*const ()>,
}

impl<'a, P: Payload> Entered<'a, P> {
    /// The version's payload.
    #[inline(always)]
    pub fn payload(&self) -> &'a P {
        self.payload
    }

    /// The version that serves this call.
    pub fn version(&self) -> VersionId {
        self.frame.header().id().expect("a marker is never entered")
    }

    /// Counts the call as failed, and says once more what failed.
    // Inlined down to what is passed by value: were the frame's address given
    // away here, or the payload's kept until here, every call would pay with a
    // register, for nanoseconds.
    #[inline(always)]
    pub fn fail(&self) -> &'a P {
        let header = count_failure(self.frame.record, self.frame.header);
        // SAFETY: of the same frame, so of payload `P` and held by its hazard.
        unsafe { version::payload(header) }
    }
}

#[cold]
#[inline(never)]
fn count_failure(record: &'static ThreadRecord, header: NonNull<Header>) -> NonNull<Header> {
    // SAFETY: the header of a frame, whose hazard keeps it.
    bump(&record.entry(unsafe { header.as_ref() }.index()).errors);
    header
}

/// A place on this thread's hazard stack that holds a version.
pub(super) struct Frame {
    record: &'static ThreadRecord,
    depth: isize,
    header: NonNull<Header>,
}

impl Frame {
    /// Begins a call on a version that this thread called before. Anything
    /// else, markers included, is `None` and for the cold path.
    ///
    /// # Safety
    /// The hazard at `depth`, which is the top of this thread's stack, holds
    /// `header` and was validated (so that it is valid until it is cleared).
    #[inline(always)]
    pub(super) unsafe fn begin_again(
        record: &'static ThreadRecord,
        depth: isize,
        header: NonNull<Header>,
    ) -> Option<Frame> {
        // SAFETY: validated, so the header lives.
        let offset = unsafe { header.as_ref() }.offset();
        // SAFETY: the offset of a header.
        let calls = &unsafe { record.entry_at(offset) }.calls;
        let count = calls.load(Ordering::Relaxed);
        if count == 0 {
            return None;
        }
        // Relaxed: this thread's own. Who sums up after the drain is ordered
        // by the Release in `drop`.
        calls.store(count + 1, Ordering::Relaxed);
        record.set_depth(depth + 1);
        Some(Frame { record, depth, header })
    }

    /// Begins a call on any version, and attaches this thread to it.
    ///
    /// # Safety
    /// As for [`begin_again`](Self::begin_again), or the caller keeps the
    /// version in memory for longer than the frame; and it is no marker.
    pub(super) unsafe fn begin(
        record: &'static ThreadRecord,
        depth: isize,
        header: NonNull<Header>,
        kind: FrameKind,
    ) -> Frame {
        let frame = Frame { record, depth, header };
        let index = frame.header().index();
        record.attach(index);
        let entry = record.entry(index);
        bump(match kind {
            FrameKind::Call => &entry.calls,
            FrameKind::Lease => &entry.other_entries,
        });
        record.set_depth(depth + 1);
        frame
    }

    /// What the closure gets.
    ///
    /// # Safety
    /// The frame's version is one of payload `P`.
    #[inline(always)]
    pub(super) unsafe fn entered<P: Payload>(&self) -> Entered<'_, P> {
        Entered {
            frame: self,
            // SAFETY: the caller vouches for the type; the hazard keeps the
            // version for as long as the frame.
            payload: unsafe { version::payload(self.header) },
            thread: PhantomData,
        }
    }

    #[inline(always)]
    fn header(&self) -> &Header {
        // SAFETY: the hazard keeps it for as long as the frame.
        unsafe { self.header.as_ref() }
    }
}

impl Drop for Frame {
    #[inline(always)]
    fn drop(&mut self) {
        // SAFETY: the depth that the frame was begun at.
        let hazard = unsafe { self.record.hazard(self.depth) };
        // Release: partner is the Acquire in `ThreadRecord::frames`; who sees
        // the call gone sees all that it did.
        hazard.store(ptr::null_mut(), Ordering::Release);
        self.record.set_depth(self.depth);
    }
}

/// How a frame counts.
#[derive(Clone, Copy)]
pub(super) enum FrameKind {
    /// As a call.
    Call,
    /// As one more step of a lease, which counted when it was taken.
    Lease,
}
