//! Slots: a place that publishes one version at a time, and the hot path.
//!
//! A call reads the live pointer, writes what it found into this thread's
//! hazard, looks again, counts, and runs: no lock, no shared store, no clock,
//! no fence where the kernel has membarrier. Whatever is not that simple (the
//! first call of a thread or on a version, a gate, no version at all) goes
//! through [`enter_cold`](Slot::enter_cold), once per reason.
//!
//! Publishing and withdrawing are here too; handing state over behind a closed
//! gate is in `gate.rs`. Neither waits for calls. Half of the file is what
//! callers read: the errors of a call and the contract of each way to make one.
//!
//! long: the hot path and the two ways to publish share one argument.

use super::barrier::{Asymmetric, Barrier};
use super::chain::ChainToken;
use super::counters::{Counters, bump};
use super::frame::{Entered, Frame, FrameKind, Running};
use super::gate::{GatePlace, GateRefused, Places, Waiter};
use super::lease::{Holder, Lease};
use super::record::{self, MAX_CHAIN_DEPTH, MAX_THREADS, ThreadRecord};
use super::retire::{InFlight, Retired};
use super::route::{Route, Share, Table};
use super::sync::{AtomicPtr, Condvar, Mutex, Ordering, constructor, lock};
use super::version::{Header, Owned, Payload, Version, VersionId};
use crate::failure::{Code, Failure};
use std::fmt;
use std::marker::PhantomData;
use std::ptr::NonNull;
use std::task::{Context, Poll};
use std::time::Duration;

/// Publishes at most one version of a plugin at a time.
///
/// ```
/// use replug_host::dispatch::{Outside, Payload, Slot, Version};
/// use std::time::Duration;
///
/// struct Plugin(fn(u64) -> u64);
/// impl Payload for Plugin {
///     fn detach_thread(&self, _: &Outside) -> u64 {
///         0 // nothing of this plugin stays behind on a thread
///     }
/// }
///
/// let slot = Slot::new(Duration::from_secs(1));
/// slot.publish(Version::new(Plugin(|x| x + 1)).unwrap()).unwrap();
/// assert_eq!(slot.enter(|call| (call.payload().0)(1)), Ok(2));
///
/// let old = slot.publish(Version::new(Plugin(|x| x * 10)).unwrap()).unwrap();
/// assert_eq!(slot.enter(|call| (call.payload().0)(1)), Ok(10));
///
/// // The old version leaves when its calls have, and its threads too.
/// let drained = old.expect("one was live").try_drained().unwrap();
/// while drained.detach_threads() > 0 {}
/// assert_eq!(drained.finish().unwrap().counters.calls, 1);
/// # drop(slot.withdraw().unwrap());
/// ```
///
/// Dropping a slot that still has a version leaves that version in memory:
/// [`withdraw`](Self::withdraw) it first.
pub struct Slot<P: Payload> {
    /// A version in `control`, or one of the three markers.
    pub(super) live: AtomicPtr<Header>,
    /// What calls choose from that find the marker of a split.
    pub(super) table: Table,
    pub(super) control: Mutex<Control<P>>,
    /// Signalled when a gate opens; waits with `control`.
    pub(super) opened: Condvar,
    pub(super) gate_timeout: Duration,
    payload: PhantomData<P>,
}

/// What only changes of the slot look at; calls only behind a closed gate.
pub(super) struct Control<P> {
    /// The live version; the baseline of a split.
    pub(super) version: Option<Owned<P>>,
    /// The other version of a split; none without.
    pub(super) challenger: Option<Owned<P>>,
    pub(super) gate: Gate,
    pub(super) waiting: Places,
}

/// Whether calls pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gate {
    /// All do.
    Open,
    /// Those whose chain is already in the version.
    Closed,
    /// None.
    Sealed,
}

/// What a slot is doing, for status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SlotState {
    /// No version is published.
    Absent,
    /// A version serves all calls.
    Live(VersionId),
    /// A hand-over: new calls wait, the version finishes what it began.
    Closed(VersionId),
    /// A hand-over: all calls wait.
    Sealed(VersionId),
    /// Two versions share the calls.
    Split {
        /// The one that served before.
        baseline: VersionId,
        /// The one that is being tried.
        challenger: VersionId,
        /// The challenger's.
        share: Share,
    },
}

/// Why a call was not made. The plugin has seen nothing of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Refused {
    /// The slot has no version.
    #[error("no version is active")]
    NotActive,
    /// The gate stayed closed for longer than the slot's timeout.
    #[error("the gate did not open in time")]
    GateTimeout,
    /// Calls on this thread nest too deep.
    #[error("calls nest deeper than {MAX_CHAIN_DEPTH}")]
    Depth,
    /// The thread cannot be given a record.
    #[error("no memory for this thread's record, or more than {MAX_THREADS} threads")]
    TooManyThreads,
}

impl Failure for Refused {
    fn code(&self) -> Code {
        match self {
            Refused::NotActive => Code::CallNotActive,
            Refused::GateTimeout => Code::GateTimeout,
            Refused::Depth => Code::CallDepth,
            Refused::TooManyThreads => Code::HostThread,
        }
    }
}

/// A version was not published, and is given back.
#[derive(thiserror::Error)]
#[error("{reason}")]
pub struct NotPublished<P: Payload> {
    /// The version.
    pub version: Version<P>,
    /// Why.
    pub reason: GateRefused,
}

impl<P: Payload> fmt::Debug for NotPublished<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let NotPublished { version, reason } = self;
        f.debug_struct("NotPublished").field("version", &version.id()).field("reason", reason).finish()
    }
}

impl<P: Payload> Failure for NotPublished<P> {
    fn code(&self) -> Code {
        self.reason.code()
    }
}

/// Found in `live` while the slot has no version.
pub(super) static ABSENT: Header = Header::marker();
/// Found in `live` while the gate is closed.
pub(super) static CLOSED: Header = Header::marker();
/// Found in `live` while two versions share the calls.
pub(super) static SPLIT: Header = Header::marker();

pub(super) fn marker(header: &'static Header) -> *mut Header {
    std::ptr::from_ref(header).cast_mut()
}

/// Calls.
impl<P: Payload> Slot<P> {
    /// Makes a call on the live version, on this thread.
    ///
    /// The closure gets the version; nothing of it can leave the closure. The
    /// version stays in memory until the closure returns or panics. Calls may
    /// nest, on this slot or others, up to [`MAX_CHAIN_DEPTH`]. Not for signal
    /// handlers.
    ///
    /// # Errors
    /// [`Refused`]; the closure then was not run. While a hand-over is going
    /// on, waits for it, up to the slot's timeout per hand-over.
    #[inline(always)]
    pub fn enter<R>(&self, call: impl FnOnce(Entered<'_, P>) -> R) -> Result<R, Refused> {
        // SAFETY: ended behind the closure.
        unsafe { self.enter_by_sequence_or_else(|running| Ok(running.end_behind(call)), Err) }
    }

    /// [`enter`](Self::enter) with a say in where the call goes while two
    /// versions [share](Self::split) the slot. Costs the same while they do not.
    ///
    /// # Errors
    /// As for [`enter`](Self::enter).
    #[inline(always)]
    pub fn enter_routed<R>(
        &self,
        route: Route<'_>,
        call: impl FnOnce(Entered<'_, P>) -> R,
    ) -> Result<R, Refused> {
        // SAFETY: ended behind the closure.
        unsafe { self.enter_routed_or_else(route, |running| Ok(running.end_behind(call)), Err) }
    }

    /// [`enter_routed`](Self::enter_routed), with what is made of a refusal, and of
    /// the call's own end. For calls that may fail by themselves: one result instead
    /// of one in another, and no question after the end which of the two it was.
    ///
    /// # Safety
    /// `call` ends what it is given after all calls that it makes itself: they nest.
    #[inline(always)]
    pub(crate) unsafe fn enter_routed_or_else<R>(
        &self,
        route: Route<'_>,
        call: impl FnOnce(Running<'_, P>) -> R,
        refused: impl FnOnce(Refused) -> R,
    ) -> R {
        // The calls of a split save an attempt that fails, and choose here, where
        // the route need not be put into memory first.
        // Relaxed: `choose` fences before it looks into the table.
        if self.live.load(Ordering::Relaxed) != marker(&SPLIT) {
            // Moved: a route that others borrow would be in memory on both ways.
            return self.enter_or_else(call, refused, move || route);
        }
        self.enter_split_or_else(route, call, refused)
    }

    /// The same as [`enter`](Self::enter) goes.
    ///
    /// # Safety
    /// As for [`enter_routed_or_else`](Self::enter_routed_or_else).
    #[inline(always)]
    pub(crate) unsafe fn enter_by_sequence_or_else<R>(
        &self,
        call: impl FnOnce(Running<'_, P>) -> R,
        refused: impl FnOnce(Refused) -> R,
    ) -> R {
        self.enter_or_else(call, refused, || Route::Sequence)
    }

    /// The route is asked for where there is one to choose.
    #[inline(always)]
    fn enter_or_else<'k, R>(
        &self,
        call: impl FnOnce(Running<'_, P>) -> R,
        refused: impl FnOnce(Refused) -> R,
        route: impl FnOnce() -> Route<'k>,
    ) -> R {
        match self.enter_hot() {
            // SAFETY: the slot's versions are of payload `P`.
            Some(frame) => call(unsafe { frame.running() }),
            None => self.enter_otherwise(route, call, refused),
        }
    }

    /// [`enter_routed`](Self::enter_routed) for a call that is made on behalf of another,
    /// which runs on another thread or as an async task.
    ///
    /// If that call is in this slot's version, this one passes a closed gate
    /// and enters the same version. A token that is stale, or was never given
    /// out, is as good as none.
    ///
    /// # Errors
    /// As for [`enter`](Self::enter).
    pub fn enter_chained<R>(
        &self,
        chain: ChainToken,
        route: Route<'_>,
        call: impl FnOnce(Entered<'_, P>) -> R,
    ) -> Result<R, Refused> {
        if chain.is_root() {
            return self.enter_routed(route, call);
        }
        let here = record::here()?;
        let _link = chain.link(here.record)?;
        self.enter_routed(route, call)
    }

    /// Takes a lease on the live version: it stays in memory until the lease
    /// is dropped, on whatever thread. Tens of nanoseconds.
    ///
    /// # Errors
    /// As for [`enter`](Self::enter), waiting included.
    pub fn lease(&self, holder: Holder) -> Result<Lease<P>, Refused> {
        self.lease_routed(Route::Sequence, holder)
    }

    /// [`lease`](Self::lease) with a say in where the call goes while two
    /// versions share the slot.
    ///
    /// # Errors
    /// As for [`enter`](Self::enter), waiting included.
    pub fn lease_routed(&self, route: Route<'_>, holder: Holder) -> Result<Lease<P>, Refused> {
        match self.try_lease(route, holder, Waiter::Block) {
            Poll::Ready(result) => result,
            Poll::Pending => unreachable!("a blocking waiter is not woken, it waits"),
        }
    }

    /// [`lease`](Self::lease) for async code: while the gate is closed, the
    /// task is woken when it opens. The wait is not bounded here (there is no
    /// clock to bound it with), but hand-overs are; wrap it in the runtime's
    /// timeout where that is not enough.
    ///
    /// Each poll of one task passes the same `place`, new at first. A task that
    /// ends without its lease [leaves](Self::leave_gate): until then its waker
    /// is kept.
    ///
    /// # Errors
    /// [`Refused`], as for [`enter`](Self::enter), but never
    /// [`Refused::GateTimeout`].
    pub fn poll_lease(
        &self,
        context: &mut Context<'_>,
        route: Route<'_>,
        holder: Holder,
        place: &mut GatePlace,
    ) -> Poll<Result<Lease<P>, Refused>> {
        self.try_lease(route, holder, Waiter::Task(context.waker(), place))
    }

    #[inline(always)]
    fn enter_hot(&self) -> Option<Frame> {
        let record = ThreadRecord::hot();
        if !record.is_open() {
            return None;
        }
        // SAFETY: the lowest place, which is empty.
        unsafe { begin(&self.live, record, 0) }
    }

    /// What the hot path leaves over: a call inside of another, a split, or
    /// whatever is cold. Marked as cold for the sake of the others, who would have
    /// to jump around it.
    #[cold]
    #[inline(never)]
    fn enter_otherwise<'k, R>(
        &self,
        route: impl FnOnce() -> Route<'k>,
        call: impl FnOnce(Running<'_, P>) -> R,
        refused: impl FnOnce(Refused) -> R,
    ) -> R {
        let record = ThreadRecord::hot();
        let depth = if record.is_open() {
            0
        } else if let Some(depth) = record.place_inside() {
            // SAFETY: the top of this thread's stack.
            if let Some(frame) = unsafe { begin(&self.live, record, depth) } {
                // SAFETY: the slot's versions are of payload `P`.
                return call(unsafe { frame.running() });
            }
            depth
        } else {
            return self.enter_cold(route(), call).unwrap_or_else(refused);
        };
        let route = route();
        // Relaxed: as above.
        if self.live.load(Ordering::Relaxed) != marker(&SPLIT) {
            return self.enter_cold(route, call).unwrap_or_else(refused);
        }
        self.enter_split(record, depth, route, call).unwrap_or_else(refused)
    }

    /// The hot path of a slot that is split: like that of one that is not, from
    /// the chosen arm.
    #[inline(always)]
    fn enter_split_or_else<R>(
        &self,
        route: Route<'_>,
        call: impl FnOnce(Running<'_, P>) -> R,
        refused: impl FnOnce(Refused) -> R,
    ) -> R {
        let record = ThreadRecord::hot();
        if !record.is_open() {
            return self.enter_otherwise(move || route, call, refused);
        }
        let arm = self.table.choose(route, record);
        // SAFETY: the lowest place, which is empty. An arm's version is taken out of
        // the arm before it leaves, so the arm is to it what the live pointer is to
        // the only version.
        match unsafe { begin(self.table.arm(arm), record, 0) } {
            // SAFETY: the slot's versions are of payload `P`.
            Some(frame) => call(unsafe { frame.running() }),
            // The choice goes on to the cold path: it is made once.
            None => self.enter_cold(Route::Arm(arm), call).unwrap_or_else(refused),
        }
    }

    /// The same at any depth.
    #[inline(always)]
    fn enter_split<R>(
        &self,
        record: &'static ThreadRecord,
        depth: usize,
        route: Route<'_>,
        call: impl FnOnce(Running<'_, P>) -> R,
    ) -> Result<R, Refused> {
        let arm = self.table.choose(route, record);
        // SAFETY: the top of this thread's stack; and as above.
        match unsafe { begin(self.table.arm(arm), record, depth) } {
            // SAFETY: the slot's versions are of payload `P`.
            Some(frame) => Ok(call(unsafe { frame.running() })),
            None => self.enter_cold(Route::Arm(arm), call),
        }
    }

    #[cold]
    #[inline(never)]
    fn enter_cold<R>(&self, route: Route<'_>, call: impl FnOnce(Running<'_, P>) -> R) -> Result<R, Refused> {
        // Declared first, so that it is dropped last: the frame is popped
        // before the record is given back.
        let here = record::here()?;
        let record = here.record;
        let depth = record.depth();
        let header = match self.admit(record, depth, route, Waiter::Block) {
            Poll::Ready(admitted) => admitted?,
            Poll::Pending => unreachable!("a blocking waiter is not woken, it waits"),
        };
        // SAFETY: admitted: the hazard at the top of the stack holds it.
        let frame = unsafe { Frame::begin(record, depth, header, FrameKind::Call) };
        // SAFETY: the slot's versions are of payload `P`.
        Ok(call(unsafe { frame.running() }))
    }

    fn try_lease(
        &self,
        route: Route<'_>,
        holder: Holder,
        waiter: Waiter<'_>,
    ) -> Poll<Result<Lease<P>, Refused>> {
        let here = match record::here() {
            Ok(here) => here,
            Err(refused) => return Poll::Ready(Err(refused)),
        };
        let record = here.record;
        let link = match holder.parent.link(record) {
            Ok(link) => link,
            Err(refused) => return Poll::Ready(Err(refused)),
        };
        let depth = record.depth();
        let admitted = self.admit(record, depth, route, waiter);
        drop(link);
        admitted.map_ok(|header| {
            // SAFETY: admitted: the hazard keeps the version until it is
            // cleared below, and by then the lease is counted. A drain reads
            // hazards first and leases second, so it sees one of the two.
            let shared = unsafe { header.as_ref() }.shared();
            shared.take_lease();
            shared.count_call();
            // For the watchdog: a call inside of which leases are taken is not stuck.
            // SAFETY: as above.
            bump(&record.entry(unsafe { header.as_ref() }.index()).other_entries);
            // SAFETY: where `admit` stored it.
            unsafe { record.empty(depth) };
            // SAFETY: just counted, and a version of this slot.
            unsafe { Lease::counted(header, holder) }
        })
    }
}

/// Changes. One at a time: they take the slot's lock, which no call needs.
impl<P: Payload> Slot<P> {
    constructor! {
        /// A slot without a version. `gate_timeout` bounds how long a call
        /// waits at a closed gate.
        pub fn new(gate_timeout: Duration) -> Self {
            Slot {
                live: AtomicPtr::new((&raw const ABSENT).cast_mut()),
                table: Table::new(),
                control: Mutex::new(Control {
                    version: None,
                    challenger: None,
                    gate: Gate::Open,
                    waiting: Places::new(),
                }),
                opened: Condvar::new(),
                gate_timeout,
                payload: PhantomData,
            }
        }
    }

    /// Makes `version` the live one and returns the one that was. From the
    /// moment that the pointer is stored, calls that begin enter the new
    /// version; those in flight finish on theirs.
    ///
    /// # Errors
    /// [`NotPublished`] with the version, while a hand-over holds the gate or
    /// two versions share the slot.
    pub fn publish(&self, version: Version<P>) -> Result<Option<Retired<P>>, NotPublished<P>> {
        let mut control = lock(&self.control);
        if let Err(reason) = control.is_busy() {
            return Err(NotPublished { version, reason });
        }
        let old = self.replace(&mut control, Some(version.0));
        drop(control);
        Ok(old.map(Retired::now))
    }

    /// Takes the live version out: calls are refused as not active.
    ///
    /// # Errors
    /// [`GateRefused`], if there is no version, while a hand-over holds the
    /// gate, or while two versions share the slot.
    pub fn withdraw(&self) -> Result<Retired<P>, GateRefused> {
        let mut control = lock(&self.control);
        control.is_busy()?;
        let old = self.replace(&mut control, None);
        drop(control);
        old.map(Retired::now).ok_or(GateRefused::NotActive)
    }

    /// What the slot is doing right now.
    pub fn state(&self) -> SlotState {
        let control = lock(&self.control);
        let Some(version) = &control.version else {
            return SlotState::Absent;
        };
        if let Some(challenger) = &control.challenger {
            let share = self.table.share();
            return SlotState::Split { baseline: version.id(), challenger: challenger.id(), share };
        }
        match control.gate {
            Gate::Open => SlotState::Live(version.id()),
            Gate::Closed => SlotState::Closed(version.id()),
            Gate::Sealed => SlotState::Sealed(version.id()),
        }
    }

    /// A lease to look at the version that the slot has; none without one.
    ///
    /// It counts as no call and never waits, whatever the gate is doing, so it
    /// is what status and watchdogs use. Behind a sealed gate the version may
    /// be looked at but must not be [entered](Lease::enter), which nothing here
    /// prevents: its state is on its way out. So only who hands over, one
    /// thread, enters what it looked at, at an open gate. As with any lease,
    /// the version does not drain before this one is dropped.
    pub fn look(&self, holder: Holder) -> Option<Lease<P>> {
        // The slot's handle cannot be finished while the lock is held, and
        // from then on the lease is counted.
        let control = lock(&self.control);
        control.version.as_ref().map(|version| version.lease(holder))
    }

    /// The counters of the version that the slot has; zero if it has none.
    pub fn counters(&self) -> Counters {
        let control = lock(&self.control);
        control.version.as_ref().map(Owned::counters).unwrap_or_default()
    }

    /// What runs in the version that the slot has, for status: a moment later
    /// it may be otherwise.
    pub fn in_flight(&self) -> InFlight {
        let control = lock(&self.control);
        let version = control.version.as_ref();
        version.map_or(InFlight::default(), |version| InFlight::of(version.header()))
    }

    /// Who holds leases on the version that the slot has.
    pub fn holders(&self) -> Vec<Holder> {
        let control = lock(&self.control);
        control.version.as_ref().map(Owned::holders).unwrap_or_default()
    }

    /// Stores the live pointer and keeps the owner beside it.
    pub(super) fn replace(&self, control: &mut Control<P>, version: Option<Owned<P>>) -> Option<Owned<P>> {
        let header = match &version {
            Some(version) => version.as_header().as_ptr(),
            None => marker(&ABSENT),
        };
        // Release: partner is the Acquire in `protect`. That calls are either
        // seen in a hazard or see this is the barrier's work, which follows.
        self.live.swap(header, Ordering::AcqRel);
        std::mem::replace(&mut control.version, version)
    }
}

/// A call on what `published` has, if that is a version that this thread called
/// before; its place is empty again if not.
///
/// # Safety
/// As for [`protect`]; what is published may be protected in this way.
#[inline(always)]
unsafe fn begin(published: &AtomicPtr<Header>, record: &'static ThreadRecord, depth: usize) -> Option<Frame> {
    // SAFETY: the caller's promise.
    let found = unsafe { protect::<Asymmetric>(published, record, depth) };
    // SAFETY: it holds.
    let frame = if found.holds { unsafe { Frame::begin_again(record, depth, found.header) } } else { None };
    if frame.is_none() {
        // SAFETY: in bounds.
        unsafe { record.empty(depth) };
    }
    frame
}

/// Puts what `published` has into this thread's hazard at `depth`. It does not
/// hold if that changes meanwhile, and it may be a marker.
///
/// # Safety
/// `depth` is the top of this thread's stack, and below MAX_CHAIN_DEPTH.
#[inline(always)]
pub(super) unsafe fn protect<B: Barrier>(
    published: &AtomicPtr<Header>,
    record: &'static ThreadRecord,
    depth: usize,
) -> Protected {
    let seen = published.load(Ordering::Relaxed);
    // SAFETY: the caller keeps `depth` in bounds.
    // Release: partner is the Acquire in `ThreadRecord::frames`; it orders
    // the frame that stood here before, which a later store may hide.
    unsafe { record.hazard(depth) }.store(seen, Ordering::Release);
    B::light();
    // Still published after the hazard was visible: whoever replaces it from
    // now on finds the hazard.
    // Acquire: partner is the swap in `replace`; shows the version's content.
    let holds = published.load(Ordering::Acquire) == seen;
    // SAFETY: a published pointer is never null.
    Protected { header: unsafe { NonNull::new_unchecked(seen) }, holds }
}

/// What [`protect`] found. Two words and no `Option`, whose none is null: every
/// call would look for that once more.
pub(super) struct Protected {
    header: NonNull<Header>,
    holds: bool,
}

impl Protected {
    /// The header, if it cannot go away while the hazard stands.
    #[inline(always)]
    pub(super) fn header(self) -> Option<NonNull<Header>> {
        self.holds.then_some(self.header)
    }
}

impl<P: Payload> fmt::Debug for Slot<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot").field("state", &self.state()).finish_non_exhaustive()
    }
}
