//! What the core promises, one promise per test.
//!
//! Everything process-wide is shared with the other tests of this binary, as
//! it is between hosts: no test may depend on an index or on a record.
//!
//! long: one test for each promise of the core, in the order of its documentation.

use super::split_tests::finish;
use super::*;
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Barrier};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Duration;

/// Long enough never to be reached by a test that passes.
const AMPLE: Duration = Duration::from_secs(30);
/// Long enough to be sure that a call waits at all.
const SHORT: Duration = Duration::from_millis(20);

/// A payload that answers with its name and counts threads that leave it.
struct Plugin {
    name: u64,
    detached: Arc<AtomicU64>,
    detach: fn(),
}

impl Payload for Plugin {
    fn detach_thread(&self, _: &Outside) -> u64 {
        (self.detach)();
        self.detached.fetch_add(1, SeqCst);
        1
    }
}

fn plugin(name: u64) -> Plugin {
    Plugin { name, detached: Arc::default(), detach: || {} }
}

fn version(name: u64) -> Version<Plugin> {
    Version::new(plugin(name)).expect("tests use few versions")
}

fn slot_with(name: u64, gate_timeout: Duration) -> Arc<Slot<Plugin>> {
    let slot = Arc::new(Slot::new(gate_timeout));
    assert!(slot.publish(version(name)).expect("open").is_none());
    slot
}

fn ask(slot: &Slot<Plugin>) -> Result<u64, Refused> {
    slot.enter(|call| call.payload().name)
}

fn replace(slot: &Slot<Plugin>, name: u64) -> Retired<Plugin> {
    slot.publish(version(name)).expect("open").expect("one was live")
}

/// Empties a slot and frees its version; how many calls that served.
fn clean_up(slot: &Slot<Plugin>) -> u64 {
    finish(slot.withdraw().expect("live"))
}

/// A thread that stays inside of a call until it is told to leave.
struct Visitor {
    thread: thread::JoinHandle<()>,
    leave: Sender<()>,
    token: ChainToken,
}

impl Visitor {
    fn enter(slot: &Arc<Slot<Plugin>>) -> Self {
        let (entered, is_in) = channel();
        let (leave, told) = channel::<()>();
        let slot = Arc::clone(slot);
        let thread = thread::spawn(move || {
            let visit = |_: Entered<'_, Plugin>| {
                entered.send(current_chain()).expect("the test waits");
                told.recv().expect("the test tells");
            };
            slot.enter(visit).expect("admitted");
        });
        let token = is_in.recv().expect("it enters");
        Visitor { thread, leave, token }
    }

    fn leave(self) {
        self.leave.send(()).expect("it waits");
        self.thread.join().expect("it returns");
    }
}

/// Remembers that it was woken.
struct Flag(Arc<AtomicBool>);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, SeqCst);
    }
}

/// Runs `ask` on a thread of its own.
fn ask_elsewhere(slot: &Arc<Slot<Plugin>>) -> Receiver<Result<u64, Refused>> {
    let (answer, answered) = channel();
    let slot = Arc::clone(slot);
    thread::spawn(move || answer.send(ask(&slot)));
    answered
}

#[test]
fn a_slot_without_a_version_refuses_calls_and_leases() {
    let slot = Slot::<Plugin>::new(AMPLE);
    assert_eq!(ask(&slot), Err(Refused::NotActive));
    assert!(matches!(slot.lease(Holder::new("test", 0)), Err(Refused::NotActive)));
    assert_eq!(slot.state(), SlotState::Absent);
    assert_eq!(slot.close().err(), Some(GateRefused::NotActive));
    assert_eq!(slot.withdraw().err(), Some(GateRefused::NotActive));
}

#[test]
fn calls_enter_what_was_published_last_and_are_counted_on_it() {
    let slot = slot_with(1, AMPLE);
    for _ in 0..3 {
        assert_eq!(ask(&slot), Ok(1));
    }
    slot.enter(|call| call.fail()).expect("admitted");
    let old = replace(&slot, 2);
    assert_eq!(ask(&slot), Ok(2));
    assert_eq!(old.counters(), Counters { calls: 4, errors: 1 });
    assert_eq!(slot.counters(), Counters { calls: 1, errors: 0 });
    let drained = old.try_drained().expect("nobody is in it");
    assert_eq!(drained.detach_threads(), 0);
    let finished = drained.finish().expect("detached");
    assert_eq!(finished.counters, Counters { calls: 4, errors: 1 });
    assert_eq!((finished.payload.name, finished.destructors), (1, 1));
    clean_up(&slot);
}

#[test]
fn a_version_drains_when_the_last_call_returns_and_not_before() {
    let slot = slot_with(1, AMPLE);
    let visitor = Visitor::enter(&slot);
    let old = replace(&slot, 2);
    assert_eq!(ask(&slot), Ok(2));
    assert_eq!(old.in_flight(), InFlight { stack: 1, leases: 0 });
    let old = old.try_drained().expect_err("a call is in it");
    visitor.leave();
    assert!(old.is_drained());
    clean_up(&slot);
    let finished = old.try_drained().expect("returned").finish();
    assert_eq!(finished.expect("its thread has ended").destructors, 1);
}

#[test]
fn a_call_that_panics_leaves_the_version() {
    let slot = slot_with(1, AMPLE);
    let call = || slot.enter(|_| -> () { panic!("expected by the test") });
    for _ in 0..2 {
        // The first goes the cold way, the second the hot one.
        assert!(catch_unwind(AssertUnwindSafe(call)).is_err());
    }
    assert_eq!(current_chain(), ChainToken::ROOT);
    assert_eq!(clean_up(&slot), 2);
}

#[test]
fn nested_calls_hold_each_version_that_they_are_in() {
    let (outer, inner) = (slot_with(1, AMPLE), slot_with(2, AMPLE));
    let nested = || {
        outer.enter(|_| {
            inner.enter(|_| {
                let outer_old = replace(&outer, 3);
                let inner_old = replace(&inner, 4);
                assert_eq!(ask(&outer), Ok(3));
                assert_eq!((outer_old.in_flight().stack, inner_old.in_flight().stack), (1, 1));
                (outer_old, inner_old)
            })
        })
    };
    let (outer_old, inner_old) = nested().expect("admitted").expect("admitted");
    for old in [outer_old, inner_old] {
        let drained = old.try_drained().expect("all returned");
        assert_eq!(drained.detach_threads(), 0);
        assert_eq!(drained.finish().expect("detached").counters.calls, 1);
    }
    clean_up(&outer);
    clean_up(&inner);
}

#[test]
fn calls_nest_up_to_the_limit_and_are_refused_beyond() {
    fn dive(slot: &Slot<Plugin>) -> usize {
        match slot.enter(|_| dive(slot)) {
            Ok(below) => below + 1,
            Err(refused) => {
                assert_eq!(refused, Refused::Depth);
                assert!(matches!(slot.lease(Holder::new("deep", 0)), Err(Refused::Depth)));
                0
            }
        }
    }
    let slot = slot_with(1, AMPLE);
    assert_eq!(dive(&slot), MAX_CHAIN_DEPTH);
    assert_eq!(dive(&slot), MAX_CHAIN_DEPTH);
    assert_eq!(clean_up(&slot), 2 * MAX_CHAIN_DEPTH as u64);
}

#[test]
fn a_lease_keeps_its_version_and_tells_who_holds_it() {
    let slot = slot_with(1, AMPLE);
    let lease = slot.lease(Holder::new("upload", 17)).expect("live");
    let old = replace(&slot, 2);
    assert_eq!(old.in_flight(), InFlight { stack: 0, leases: 1 });
    let holders = old.holders();
    assert_eq!((holders[0].label, holders[0].since), ("upload", 17));
    // It runs the old version, from any thread.
    let lease = thread::spawn(move || {
        assert_eq!(lease.enter(|call| call.payload().name), Ok(1));
        assert_eq!(lease.name, 1);
        lease
    });
    let lease = lease.join().expect("it returns");
    assert_eq!(old.counters().calls, 1, "a lease is one call, however often it is entered");
    drop(lease);
    assert!(old.holders().is_empty());
    let finished = old.try_drained().expect("dropped").finish().expect("its thread has ended");
    assert_eq!(finished.destructors, 1);
    clean_up(&slot);
}

#[test]
fn a_version_can_be_leased_before_it_is_published_and_after() {
    let slot = Slot::new(AMPLE);
    let fresh = version(1);
    let hook = |lease: Lease<Plugin>| lease.enter(|call| call.payload().name);
    assert_eq!(hook(fresh.lease(Holder::new("prepare", 0))), Ok(1));
    slot.publish(fresh).expect("open");
    let old = slot.withdraw().expect("live");
    let stop = old.lease(Holder::new("stop", 0));
    assert!(!old.is_drained());
    assert_eq!(hook(stop), Ok(1));
    let drained = old.try_drained().expect("hooks have returned");
    assert_eq!(drained.detach_threads(), 0);
    assert_eq!(drained.finish().expect("detached").counters.calls, 0);
}

#[test]
fn a_thread_detaches_once_with_its_next_call_on_any_slot() {
    let (slot, other) = (slot_with(1, AMPLE), slot_with(2, AMPLE));
    let detached = slot.enter(|call| Arc::clone(&call.payload().detached)).expect("live");
    // On the other slot the thread is attached already: its hot path is open.
    assert_eq!(ask(&other), Ok(2));
    let drained = slot.withdraw().expect("live").try_drained().expect("idle");
    let pending = other.enter(|_| drained.detach_threads()).expect("live");
    assert_eq!((pending, detached.load(SeqCst)), (1, 0), "not from inside of a call");
    assert_eq!(ask(&other), Ok(2));
    assert_eq!(detached.load(SeqCst), 1);
    assert_eq!(drained.detach_threads(), 0);
    assert_eq!(drained.finish().expect("detached").destructors, 1);
    clean_up(&other);
}

#[test]
fn a_thread_that_passes_by_detaches() {
    let slot = slot_with(1, AMPLE);
    let (step, stepped) = (Arc::new(Barrier::new(2)), Arc::clone(&slot));
    let theirs = Arc::clone(&step);
    let thread = thread::spawn(move || {
        assert_eq!(ask(&stepped), Ok(1));
        theirs.wait();
        theirs.wait();
        pass_by();
        theirs.wait();
        theirs.wait();
    });
    step.wait();
    let drained = slot.withdraw().expect("live").try_drained().expect("idle");
    assert_eq!(drained.detach_threads(), 1);
    step.wait();
    step.wait();
    assert_eq!(drained.detach_threads(), 0);
    step.wait();
    thread.join().expect("it returns");
    drop(drained.finish().expect("detached"));
}

#[test]
fn an_idle_thread_is_abandoned_and_its_counts_are_kept() {
    let slot = slot_with(1, AMPLE);
    let detached = slot.enter(|call| Arc::clone(&call.payload().detached)).expect("live");
    let (leave, told) = channel::<()>();
    let called = Arc::new(Barrier::new(2));
    let (theirs, theirs_called) = (Arc::clone(&slot), Arc::clone(&called));
    let thread = thread::spawn(move || {
        assert_eq!(ask(&theirs), Ok(1));
        theirs_called.wait();
        told.recv().expect("the test tells");
    });
    called.wait();
    let drained = slot.withdraw().expect("live").try_drained().expect("idle");
    assert_eq!(drained.detach_threads(), 1);
    let drained = drained.finish().expect_err("a thread is attached");
    assert_eq!(drained.abandon(), 1);
    let finished = drained.finish().expect("abandoned");
    assert_eq!(finished.counters.calls, 2);
    leave.send(()).expect("it waits");
    thread.join().expect("it returns");
    assert_eq!(detached.load(SeqCst), 1, "only the thread that was not abandoned");
}

#[test]
fn a_detach_that_panics_keeps_the_version_in_memory() {
    let slot = Slot::new(AMPLE);
    let payload = Plugin { detach: || panic!("expected by the test"), ..plugin(1) };
    slot.publish(Version::new(payload).expect("few")).expect("open");
    assert_eq!(ask(&slot), Ok(1));
    let drained = slot.withdraw().expect("live").try_drained().expect("idle");
    assert_eq!(drained.detach_threads(), 1);
    assert_eq!(drained.abandon(), 0);
    drop(drained.finish().expect_err("nobody knows how far it came"));
}

#[test]
fn a_revived_version_serves_again_and_its_threads_stay_attached() {
    let slot = slot_with(1, AMPLE);
    assert_eq!(ask(&slot), Ok(1));
    let first = replace(&slot, 2);
    assert_eq!(ask(&slot), Ok(2));
    let second = slot.publish(first.revive()).expect("open").expect("one was live");
    assert_eq!(ask(&slot), Ok(1));
    let first = slot.publish(second.revive()).expect("open").expect("one was live");
    let second = slot.publish(first.revive()).expect("open").expect("one was live");
    assert_eq!(ask(&slot), Ok(1));
    let first = slot.withdraw().expect("live").try_drained().expect("idle");
    assert_eq!(first.detach_threads(), 0);
    let finished = first.finish().expect("detached");
    assert_eq!((finished.counters.calls, finished.destructors), (3, 1));
    let drained = second.try_drained().expect("idle");
    assert_eq!(drained.detach_threads(), 0);
    drop(drained.finish().expect("detached"));
}

#[test]
fn a_closed_gate_makes_calls_wait_for_the_new_version() {
    let slot = slot_with(1, AMPLE);
    let closed = slot.close().expect("live");
    assert!(matches!(slot.state(), SlotState::Closed(_)));
    let answer = ask_elsewhere(&slot);
    assert!(answer.recv_timeout(SHORT).is_err(), "it waits");
    assert!(closed.is_drained());
    let sealed = closed.seal();
    assert!(sealed.is_drained());
    assert!(matches!(slot.state(), SlotState::Sealed(_)));
    let export = sealed.lease(Holder::new("export", 0));
    assert_eq!(export.enter(|call| call.payload().name), Ok(1));
    drop(export);
    let old = sealed.open(version(2));
    assert_eq!(answer.recv_timeout(AMPLE), Ok(Ok(2)));
    let drained = old.try_drained().expect("sealed and drained");
    assert_eq!(drained.detach_threads(), 0);
    assert_eq!(drained.finish().expect("detached").counters.calls, 0);
    clean_up(&slot);
}

#[test]
fn a_gate_that_is_dropped_opens_on_the_old_version() {
    let slot = slot_with(1, AMPLE);
    for seal in [false, true] {
        let closed = slot.close().expect("open");
        let answer = ask_elsewhere(&slot);
        assert!(answer.recv_timeout(SHORT).is_err(), "it waits");
        if seal {
            closed.seal().reopen();
        } else {
            drop(closed);
        }
        assert_eq!(answer.recv_timeout(AMPLE), Ok(Ok(1)));
    }
    assert_eq!(clean_up(&slot), 2);
}

#[test]
fn waiting_at_a_gate_is_bounded() {
    let slot = slot_with(1, SHORT);
    let closed = slot.close().expect("live");
    assert_eq!(ask(&slot), Err(Refused::GateTimeout));
    assert!(matches!(slot.lease(Holder::new("late", 0)), Err(Refused::GateTimeout)));
    drop(closed);
    assert_eq!(ask(&slot), Ok(1));
    assert_eq!(clean_up(&slot), 1);
}

#[test]
fn a_hand_over_excludes_other_changes() {
    let slot = slot_with(1, AMPLE);
    let closed = slot.close().expect("live");
    assert_eq!(slot.close().err(), Some(GateRefused::Busy));
    assert_eq!(slot.withdraw().err(), Some(GateRefused::Busy));
    let NotPublished { version: refused, reason } = slot.publish(version(2)).expect_err("the gate is held");
    assert_eq!(reason, GateRefused::Busy);
    drop(closed);
    let old = slot.publish(refused).expect("open").expect("one was live");
    drop(old.try_drained().expect("idle").finish().expect("never called"));
    clean_up(&slot);
}

#[test]
fn a_nested_call_passes_the_gate_that_its_own_thread_is_behind() {
    let (slot, between) = (slot_with(1, AMPLE), slot_with(2, AMPLE));
    let closed = slot.enter(|_| {
        let closed = slot.close().expect("live");
        // Directly, and through another plugin.
        assert_eq!(ask(&slot), Ok(1));
        assert_eq!(between.enter(|_| ask(&slot)), Ok(Ok(1)));
        let lease = slot.lease(Holder::new("nested", 0)).expect("passes");
        assert_eq!(lease.name, 1);
        assert_eq!(closed.in_flight(), InFlight { stack: 1, leases: 1 });
        closed
    });
    let closed = closed.expect("admitted");
    assert!(closed.is_drained());
    drop(closed);
    clean_up(&slot);
    clean_up(&between);
}

#[test]
fn a_token_passes_the_gate_while_its_call_runs() {
    let slot = slot_with(1, SHORT);
    let visitor = Visitor::enter(&slot);
    let token = visitor.token;
    let closed = slot.close().expect("live");
    assert_eq!(ask(&slot), Err(Refused::GateTimeout));
    assert_eq!(slot.enter_chained(token, Route::Sequence, |call| call.payload().name), Ok(1));
    // And what that call causes in turn, by another plugin and thread.
    let between = slot_with(2, SHORT);
    let nested = thread::scope(|scope| {
        let nest = || between.enter_chained(token, Route::Sequence, |_| (ask(&slot), current_chain()));
        scope.spawn(nest).join().expect("it returns")
    });
    assert_eq!(nested.map(|(answer, _)| answer), Ok(Ok(1)));
    visitor.leave();
    let stale = slot.enter_chained(token, Route::Sequence, |call| call.payload().name);
    assert_eq!(stale, Err(Refused::GateTimeout));
    drop(closed);
    clean_up(&slot);
    clean_up(&between);
}

#[test]
fn a_token_ends_with_its_root_call_even_if_the_thread_calls_again() {
    let slot = slot_with(1, SHORT);
    let token = slot.enter(|_| current_chain()).expect("live");
    slot.enter(|_| {
        let again = current_chain();
        assert_ne!(again, token);
        assert_eq!(slot.enter(|_| current_chain()), Ok(again));
        let closed = slot.close().expect("live");
        let elsewhere = |token| {
            let call = || slot.enter_chained(token, Route::Sequence, |call| call.payload().name);
            thread::scope(|scope| scope.spawn(call).join().expect("it returns"))
        };
        assert_eq!(elsewhere(token), Err(Refused::GateTimeout));
        assert_eq!(elsewhere(again), Ok(1));
        drop(closed);
    })
    .expect("live");
    clean_up(&slot);
}

#[test]
fn a_chain_of_leases_leads_to_the_version_that_it_began_in() {
    let (slot, between) = (slot_with(1, SHORT), slot_with(2, SHORT));
    let first = slot.lease(Holder::new("first", 0)).expect("live");
    // A task of the first plugin calls the second, which takes a lease.
    let second = first.enter(|_| {
        assert_eq!(current_chain(), first.chain());
        between.lease(Holder::new("second", 0))
    });
    let second = second.expect("admitted").expect("live");
    let closed = slot.close().expect("live");
    assert_eq!(second.enter(|_| ask(&slot)), Ok(Ok(1)));
    let third = slot.lease(Holder::new("third", 0).in_chain(second.chain()));
    drop(third.expect("passes"));
    drop(first);
    assert_eq!(second.enter(|_| ask(&slot)), Ok(Err(Refused::GateTimeout)));
    drop((second, closed));
    clean_up(&slot);
    clean_up(&between);
}

#[test]
fn a_sealed_gate_lets_no_chain_pass() {
    let slot = slot_with(1, SHORT);
    let visitor = Visitor::enter(&slot);
    let sealed = slot.close().expect("live").seal();
    assert!(!sealed.is_drained());
    let refused = slot.enter_chained(visitor.token, Route::Sequence, |call| call.payload().name);
    assert_eq!(refused, Err(Refused::GateTimeout));
    visitor.leave();
    assert!(sealed.is_drained());
    drop(sealed);
    clean_up(&slot);
}

#[test]
fn tokens_that_were_never_given_out_are_as_good_as_none() {
    let slot = slot_with(1, Duration::from_millis(1));
    let visitor = Visitor::enter(&slot);
    let closed = slot.close().expect("live");
    let real = visitor.token.to_raw();
    for raw in [1, 42, u64::MAX, 1 << 63, real ^ 1, real + (1 << 44), real | 1 << 63] {
        let token = ChainToken::from_raw(raw);
        let refused = slot.enter_chained(token, Route::Sequence, |call| call.payload().name);
        assert_eq!(refused, Err(Refused::GateTimeout), "token {raw:#x}");
    }
    drop(closed);
    visitor.leave();
    clean_up(&slot);
}

#[test]
fn a_task_is_woken_when_the_gate_opens() {
    let slot = slot_with(1, AMPLE);
    let woken = Arc::new(AtomicBool::new(false));
    let waker = Waker::from(Arc::new(Flag(Arc::clone(&woken))));
    let mut context = Context::from_waker(&waker);
    let closed = slot.close().expect("live");
    let mut place = GatePlace::default();
    assert!(slot.poll_lease(&mut context, Route::Sequence, Holder::new("task", 0), &mut place).is_pending());
    assert!(!woken.load(SeqCst));
    let old = closed.seal().open(version(2));
    assert!(woken.load(SeqCst));
    match slot.poll_lease(&mut context, Route::Sequence, Holder::new("task", 0), &mut place) {
        Poll::Ready(Ok(lease)) => assert_eq!(lease.name, 2),
        other => panic!("expected a lease, got {other:?}"),
    }
    drop(old.try_drained().expect("idle").finish().expect("never called"));
    clean_up(&slot);
}

#[test]
fn a_task_that_gave_up_leaves_nothing_at_the_gate() {
    struct Silent;
    impl Wake for Silent {
        fn wake(self: Arc<Self>) {
            panic!("nobody waits with it any more");
        }
    }
    let slot = slot_with(1, AMPLE);
    let closed = slot.close().expect("live");
    let mut places: Vec<GatePlace> = Vec::new();
    let task = Arc::new(Silent);
    for _ in 0..100 {
        let waker = Waker::from(Arc::clone(&task));
        let mut context = Context::from_waker(&waker);
        let mut place = GatePlace::default();
        for _ in 0..3 {
            let polled = slot.poll_lease(&mut context, Route::Sequence, Holder::new("task", 0), &mut place);
            assert!(polled.is_pending());
        }
        places.push(place);
    }
    assert_eq!(Arc::strong_count(&task), 101, "one waker for each, however often it was polled");
    for place in &mut places {
        slot.leave_gate(place);
    }
    assert_eq!(Arc::strong_count(&task), 1);
    drop(closed);
    clean_up(&slot);
}

#[test]
fn a_waker_that_panics_keeps_nobody_from_the_new_version() {
    struct Bomb;
    impl Wake for Bomb {
        fn wake(self: Arc<Self>) {
            panic!("in the executor");
        }
    }
    let slot = slot_with(1, AMPLE);
    let closed = slot.close().expect("live");
    let waker = Waker::from(Arc::new(Bomb));
    let mut context = Context::from_waker(&waker);
    let (mut first, mut second) = (GatePlace::default(), GatePlace::default());
    assert!(slot.poll_lease(&mut context, Route::Sequence, Holder::new("task", 0), &mut first).is_pending());
    let woken = Arc::new(AtomicBool::new(false));
    let other = Waker::from(Arc::new(Flag(Arc::clone(&woken))));
    let mut context = Context::from_waker(&other);
    assert!(slot.poll_lease(&mut context, Route::Sequence, Holder::new("task", 0), &mut second).is_pending());
    let old = closed.seal().open(version(2));
    assert!(woken.load(SeqCst), "who waits beside it is woken");
    assert_eq!(ask(&slot), Ok(2));
    assert!(matches!(slot.state(), SlotState::Live(live) if live != old.id()));
    drop(old.try_drained().expect("idle").finish().expect("never called"));
    clean_up(&slot);
}

#[test]
fn a_chain_that_met_the_seal_passes_when_it_is_taken_back() {
    let slot = slot_with(1, AMPLE);
    let visitor = Visitor::enter(&slot);
    let sealed = slot.close().expect("live").seal();
    let (answer, answered) = channel();
    let (theirs, token) = (Arc::clone(&slot), visitor.token);
    let nested = thread::spawn(move || {
        answer
            .send(theirs.enter_chained(token, Route::Sequence, |call| call.payload().name))
            .expect("the test waits");
    });
    assert!(answered.recv_timeout(SHORT).is_err(), "a seal lets no chain pass");
    let closed = sealed.unseal();
    assert_eq!(answered.recv_timeout(AMPLE), Ok(Ok(1)));
    nested.join().expect("it returns");
    visitor.leave();
    let old = closed.seal().open(version(2));
    let drained = old.try_drained().expect("idle");
    assert_eq!(drained.detach_threads(), 0);
    drop(drained.finish().expect("detached"));
    clean_up(&slot);
}

#[test]
fn looking_counts_nothing_and_waits_for_nothing_whatever_the_gate_does() {
    let slot = slot_with(1, AMPLE);
    let look = |slot: &Slot<Plugin>| slot.look(Holder::new("status", 0)).map(|lease| lease.name);
    for _ in 0..100 {
        assert_eq!(look(&slot), Some(1));
    }
    assert_eq!(slot.counters(), Counters::default());
    let closed = slot.close().expect("live");
    assert_eq!(look(&slot), Some(1));
    let sealed = closed.seal();
    assert_eq!(look(&slot), Some(1));
    // It keeps the version, like any lease.
    let lease = slot.look(Holder::new("status", 0)).expect("there is one");
    let old = sealed.open(version(2));
    let old = old.try_drained().expect_err("somebody looks at it");
    assert_eq!((lease.name, look(&slot)), (1, Some(2)));
    drop(lease);
    drop(old.try_drained().expect("idle").finish().expect("never called"));
    assert_eq!(clean_up(&slot), 0);
    assert_eq!(look(&slot), None);
}

#[test]
fn a_call_inside_of_which_leases_are_taken_is_busy_and_not_stuck() {
    let slot = slot_with(1, Duration::from_secs(1));
    let stuck = slot.enter(|call| {
        let id = call.version();
        let of_ours = |stuck: Vec<StuckCall>| stuck.into_iter().filter(|call| call.version == id).count();
        let earlier = Scan::take();
        let idle = of_ours(Scan::take().stuck_since(&earlier));
        drop(slot.lease(Holder::new("test", 0)).expect("live"));
        (idle, of_ours(Scan::take().stuck_since(&earlier)))
    });
    assert_eq!(stuck, Ok((1, 0)));
    finish(slot.withdraw().expect("live"));
}

#[test]
fn the_watchdog_sees_calls_that_do_not_return_and_no_others() {
    let slot = slot_with(1, AMPLE);
    let SlotState::Live(stuck) = slot.state() else {
        panic!("it is live");
    };
    let ours = |calls: Vec<StuckCall>| -> Vec<_> {
        let ours = calls.into_iter().filter(|call| call.version == stuck);
        ours.map(|call| call.depth).collect()
    };
    let visitor = Visitor::enter(&slot);
    let before = Scan::take();
    assert_eq!(ask(&slot), Ok(1));
    let after = Scan::take();
    assert_eq!(ours(after.stuck_since(&before)), [0]);
    visitor.leave();
    let visitor = Visitor::enter(&slot);
    assert!(ours(Scan::take().stuck_since(&after)).is_empty(), "another call at the same place");
    visitor.leave();
    // Steps of one task are not one call that hangs.
    let lease = slot.lease(Holder::new("task", 0)).expect("live");
    let first = lease.enter(|_| Scan::take()).expect("admitted");
    let second = lease.enter(|_| Scan::take()).expect("admitted");
    assert!(ours(second.stuck_since(&first)).is_empty());
    drop(lease);
    clean_up(&slot);
}

#[test]
fn a_call_from_a_thread_local_destructor_is_counted_and_detached() {
    struct CallAtExit(Arc<Slot<Plugin>>);
    impl Drop for CallAtExit {
        fn drop(&mut self) {
            assert_eq!(ask(&self.0), Ok(1));
        }
    }
    thread_local! {
        static EARLY: RefCell<Option<CallAtExit>> = const { RefCell::new(None) };
        static LATE: RefCell<Option<CallAtExit>> = const { RefCell::new(None) };
    }
    let slot = slot_with(1, AMPLE);
    let theirs = Arc::clone(&slot);
    // One on either side of the record's own destructor, whatever the order.
    let thread = thread::spawn(move || {
        EARLY.set(Some(CallAtExit(Arc::clone(&theirs))));
        assert_eq!(ask(&theirs), Ok(1));
        LATE.set(Some(CallAtExit(theirs)));
    });
    thread.join().expect("it returns");
    let drained = slot.withdraw().expect("live").try_drained().expect("idle");
    let finished = drained.finish().expect("no thread is left attached");
    assert_eq!((finished.counters.calls, finished.destructors), (3, 2));
}

#[test]
fn a_destructor_that_calls_into_another_slot_does_not_stay_attached() {
    thread_local! {
        static NEXT: RefCell<Option<Arc<Slot<Plugin>>>> = const { RefCell::new(None) };
    }
    let (slot, next) = (Arc::new(Slot::new(AMPLE)), slot_with(2, AMPLE));
    let payload = Plugin {
        detach: || {
            let answer = NEXT.with_borrow(|next| next.as_deref().map(ask));
            assert_eq!(answer, Some(Ok(2)));
        },
        ..plugin(1)
    };
    slot.publish(Version::new(payload).expect("few")).expect("open");
    let (theirs, next_theirs) = (Arc::clone(&slot), Arc::clone(&next));
    let thread = thread::spawn(move || {
        // Registered first, so that it is still there when the record goes.
        NEXT.set(Some(next_theirs));
        assert_eq!(ask(&theirs), Ok(1));
    });
    thread.join().expect("it returns");
    for (slot, calls) in [(slot, 1), (next, 1)] {
        let drained = slot.withdraw().expect("live").try_drained().expect("idle");
        let finished = drained.finish().expect("no thread is left attached");
        assert_eq!((finished.counters.calls, finished.destructors), (calls, 1));
    }
}

/// The hot path must not read a clock, and the cold one must not come to
/// depend on one: waits are given as durations and measured by the kernel.
#[test]
fn the_core_names_no_clock() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/dispatch");
    let mut read = 0;
    let files = std::fs::read_dir(folder).expect("the sources are here");
    for path in files.map(|file| file.expect("readable").path()).filter(|path| path.is_file()) {
        let text = std::fs::read_to_string(&path).expect("readable");
        for clock in ["Instant", "SystemTime", "rdtsc", "clock_gettime"] {
            let named = text.contains(clock) && !path.ends_with("tests.rs");
            assert!(!named, "{} names {clock}", path.display());
        }
        read += 1;
    }
    assert!(read > 10, "all files of the core were looked at");
}
