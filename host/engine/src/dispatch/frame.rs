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
use std::ptr::NonNull;

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
    record: &'static ThreadRecord,
    // By value, and no reference to the frame: one whose address is given away
    // is kept in memory by every call, for nanoseconds.
    header: NonNull<Header>,
    /// Lends from the frame. Not `Send`: it writes counters that belong to this
    /// thread.
    frame: PhantomData<(&'a P, *const ())>,
}

impl<'a, P: Payload> Entered<'a, P> {
    /// The version's payload.
    #[inline(always)]
    pub fn payload(&self) -> &'a P {
        // SAFETY: a version of payload `P`, says who made this; the hazard keeps
        // it for as long as the frame, which outlives `'a`.
        unsafe { version::payload(self.header) }
    }

    /// The version that serves this call.
    pub fn version(&self) -> VersionId {
        self.header().id().expect("a marker is never entered")
    }

    /// Counts the call as failed.
    #[cold]
    #[inline(never)]
    pub fn fail(&self) {
        bump(&self.record.entry(self.header().index()).errors);
    }

    fn header(&self) -> &Header {
        // SAFETY: as in `payload`.
        unsafe { self.header.as_ref() }
    }
}

/// A call in progress, for a closure that ends it: when this is dropped, on any of
/// its ways. The lifetime keeps it from leaving the closure; that it ends after the
/// calls that are made inside of it, the closure's author promises.
pub(crate) struct Running<'c, P> {
    frame: Frame,
    call: PhantomData<(&'c P, *const ())>,
}

impl<P: Payload> Running<'_, P> {
    /// The call, until it ends.
    #[inline(always)]
    pub(crate) fn entered(&self) -> Entered<'_, P> {
        Entered { record: self.frame.record, header: self.frame.header, frame: PhantomData }
    }

    /// What the closure makes of the call, which ends then and not when somebody has put
    /// the answer into its place: what is written before the end has to be in memory, and
    /// may be in a register after it.
    #[inline(always)]
    pub(crate) fn end_behind<R>(self, call: impl FnOnce(Entered<'_, P>) -> R) -> R {
        let answer = call(self.entered());
        drop(self);
        answer
    }
}

/// A place on this thread's hazard stack that holds a version.
pub(super) struct Frame {
    record: &'static ThreadRecord,
    depth: usize,
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
        depth: usize,
        header: NonNull<Header>,
    ) -> Option<Frame> {
        // SAFETY: validated, so the header lives.
        let offset = unsafe { header.as_ref() }.offset();
        // SAFETY: the offset of a header.
        let calls = unsafe { record.calls_at(depth, offset) };
        let count = calls.load(Ordering::Relaxed);
        if count == 0 {
            return None;
        }
        // Relaxed: this thread's own. Who sums up after the drain is ordered
        // by the Release in `pop`.
        calls.store(count + 1, Ordering::Relaxed);
        record.push(depth);
        Some(Frame { record, depth, header })
    }

    /// Begins a call on any version, and attaches this thread to it.
    ///
    /// # Safety
    /// As for [`begin_again`](Self::begin_again), or the caller keeps the
    /// version in memory for longer than the frame; and it is no marker.
    pub(super) unsafe fn begin(
        record: &'static ThreadRecord,
        depth: usize,
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
        record.push(depth);
        frame
    }

    /// What the closure gets, which no lifetime of its own keeps.
    ///
    /// # Safety
    /// The frame's version is one of payload `P`.
    #[inline(always)]
    pub(super) unsafe fn running<'c, P>(self) -> Running<'c, P> {
        Running { frame: self, call: PhantomData }
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
        unsafe { self.record.pop(self.depth) };
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
