//! Models of the gate: state is handed over, calls wait, chains pass.

use super::*;
use std::task::{Context, Poll, Wake, Waker};

/// Hands the state over as the engine does, for as long as it takes.
fn hand_over(slot: &Slot<Plugin>) {
    let mut closed = slot.close().expect("open");
    loop {
        while !closed.is_drained() {
            thread::yield_now();
        }
        let sealed = closed.seal();
        if sealed.is_drained() {
            let state = sealed.lease(Holder::new("export", 0)).state();
            let _old = sealed.open(Plugin::new(state).version());
            return;
        }
        closed = sealed.unseal();
    }
}

fn add(slot: &Slot<Plugin>) -> Result<(), Refused> {
    slot.enter(|call| call.payload().add())
}

fn state(slot: &Slot<Plugin>) -> u64 {
    slot.enter(|call| call.payload().state()).expect("live")
}

/// Mutations: a barrier that is issued before the gate closes; nobody woken
/// when it opens.
#[test]
fn no_update_is_lost_when_state_is_handed_over() {
    model("hand-over", Some(3), || {
        let slot = Plugin::new(0).slot();
        add(&slot).expect("live");
        let theirs = Arc::clone(&slot);
        let engine = spawn(move || hand_over(&theirs));
        add(&slot).expect("it waits");
        join(engine);
        assert_eq!(state(&slot), 2);
    });
}

/// Mutation: a closed gate that lets no chain pass (both wait for ever).
#[test]
fn a_nested_call_passes_the_gate_that_waits_for_its_caller() {
    model("nested call at the gate", Some(3), || {
        let slot = Plugin::new(0).slot();
        add(&slot).expect("live");
        let theirs = Arc::clone(&slot);
        let engine = spawn(move || hand_over(&theirs));
        let nested = slot.enter(|call| {
            call.payload().add();
            add(&slot)
        });
        nested.expect("it waits").expect("it passes");
        join(engine);
        assert_eq!(state(&slot), 3);
    });
}

/// A seal that came too early is taken back, and whoever met it goes on.
///
/// Mutation: nobody roused by `unseal`.
#[test]
fn a_nested_call_that_met_the_seal_is_woken_when_it_is_taken_back() {
    model("unsealed gate", Some(3), || {
        let slot = Plugin::new(0).slot();
        let both = slot.enter(|_| {
            let theirs = Arc::clone(&slot);
            let engine = spawn(move || {
                let closed = theirs.close().expect("open").seal().unseal();
                while !closed.is_drained() {
                    thread::yield_now();
                }
            });
            (add(&slot), engine)
        });
        let (nested, engine) = both.expect("live");
        nested.expect("it passes");
        join(engine);
    });
}

/// Mutations: as for the nested call, and for the hand-over.
#[test]
fn a_chained_call_passes_the_gate_that_waits_for_its_chain() {
    model("chained call at the gate", Some(2), || {
        let slot = Plugin::new(0).slot();
        let both = slot.enter(|call| {
            call.payload().add();
            let theirs = Arc::clone(&slot);
            let engine = spawn(move || hand_over(&theirs));
            let thread = add_elsewhere(&slot);
            (join(thread), engine)
        });
        let (chained, engine) = both.expect("live");
        chained.expect("it passes");
        join(engine);
        assert_eq!(state(&slot), 2);
    });
}

/// The chain moves from a thread that has not been looked at to one that has.
///
/// Mutations: a hazard that is stored after the slot's lock is given back; a
/// gate that is not sealed; no second look after sealing; a second question
/// whether the chain passes.
#[test]
fn a_chain_that_changes_threads_is_not_missed_by_the_seal() {
    model("chain that moves", Some(2), || {
        let slot = Plugin::new(0).slot();
        let both = slot.enter(|call| {
            call.payload().add();
            let theirs = Arc::clone(&slot);
            (spawn(move || hand_over(&theirs)), add_elsewhere(&slot))
        });
        let (engine, thread) = both.expect("live");
        join(thread).expect("it passes or waits");
        join(engine);
        assert_eq!(state(&slot), 2);
    });
}

/// A call on another thread, caused by the one that is running on this.
fn add_elsewhere(slot: &Arc<Slot<Plugin>>) -> JoinHandle<Result<(), Refused>> {
    let (theirs, token) = (Arc::clone(slot), current_chain());
    spawn(move || theirs.enter_chained(token, Route::Sequence, |call| call.payload().add()))
}

/// Mutations: nobody woken; a live pointer that is not put back.
#[test]
fn whoever_waits_at_a_gate_is_woken_when_it_is_given_up() {
    model("reopened gate", None, || {
        let slot = Plugin::new(0).slot();
        let theirs = Arc::clone(&slot);
        let engine = spawn(move || theirs.close().expect("open").seal().reopen());
        run(&slot).expect("it waits");
        join(engine);
    });
}

struct Unpark(thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Mutations: a waker that is not called; one that is kept after the lock was
/// given back in between.
#[test]
fn a_task_that_parks_at_a_gate_is_woken() {
    model("task at the gate", None, || {
        let slot = Plugin::new(0).slot();
        let theirs = Arc::clone(&slot);
        let engine = spawn(move || theirs.close().expect("open").seal().open(Plugin::new(0).version()));
        let waker = Waker::from(Arc::new(Unpark(thread::current())));
        let mut place = GatePlace::default();
        let lease = loop {
            let holder = Holder::new("task", 0);
            match slot.poll_lease(&mut Context::from_waker(&waker), Route::Sequence, holder, &mut place) {
                Poll::Ready(lease) => break lease,
                Poll::Pending => thread::park(),
            }
        };
        drop(lease.expect("live"));
        let _old = join(engine);
    });
}
