//! The gate against a model of it: whatever is asked of a slot, in whatever
//! order, calls, leases, chains and tasks fare as a few plain fields say.
//!
//! All on one thread, where the gate is exact; what threads do to each other
//! is for `models/`.

use super::split_tests::{Plugin, finish, version};
use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 4 } else { 512 }))]

    #[test]
    fn every_call_fares_at_the_gate_as_a_model_of_it_says(
        steps in prop::collection::vec(step(), 1..80),
    ) {
        // Whoever would wait is refused at once.
        let slot = Slot::new(Duration::ZERO);
        let mut model = Model::new(&slot);
        for step in steps {
            model.take(step);
            model.looks_right();
        }
        model.leave();
    }
}

/// What is asked of the slot; numbers choose among leases.
#[derive(Debug, Clone, Copy)]
enum Step {
    Publish,
    Withdraw,
    Close,
    Seal,
    Unseal,
    Open,
    Reopen,
    Call,
    Lease,
    DropLease(usize),
    /// With the token of a lease, as from another thread.
    Chained(usize),
    /// From inside of a lease.
    Nested(usize),
    /// A task that asks for a lease and waits if it must.
    Task,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => Just(Step::Publish),
        1 => Just(Step::Withdraw),
        4 => Just(Step::Close),
        4 => Just(Step::Seal),
        2 => Just(Step::Unseal),
        2 => Just(Step::Open),
        1 => Just(Step::Reopen),
        3 => Just(Step::Call),
        3 => Just(Step::Lease),
        2 => any::<usize>().prop_map(Step::DropLease),
        4 => any::<usize>().prop_map(Step::Chained),
        4 => any::<usize>().prop_map(Step::Nested),
        2 => Just(Step::Task),
    ]
}

/// The right to open the gate, as far as it has gone.
enum Held<'s> {
    None,
    Closed(Closed<'s, Plugin>),
    Sealed(Sealed<'s, Plugin>),
}

struct CountWakes(AtomicUsize);

impl Wake for CountWakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, SeqCst);
    }
}

/// A slot without threads, and what was made with the real one.
struct Model<'s> {
    slot: &'s Slot<Plugin>,
    held: Held<'s>,
    names: u64,
    live: Option<u64>,
    leases: Vec<(u64, Lease<Plugin>)>,
    calls: BTreeMap<u64, u64>,
    gone: Vec<Retired<Plugin>>,
    waiting: Vec<GatePlace>,
    wakes: Arc<CountWakes>,
    expected_wakes: usize,
}

impl<'s> Model<'s> {
    fn new(slot: &'s Slot<Plugin>) -> Self {
        Model {
            slot,
            held: Held::None,
            names: 0,
            live: None,
            leases: Vec::new(),
            calls: BTreeMap::new(),
            gone: Vec::new(),
            waiting: Vec::new(),
            wakes: Arc::new(CountWakes(AtomicUsize::new(0))),
            expected_wakes: 0,
        }
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Publish | Step::Withdraw | Step::Close => self.change(step),
            Step::Seal | Step::Unseal | Step::Open | Step::Reopen => self.move_gate(step),
            Step::Call => {
                let expected = self.expects(None);
                let answer = self.slot.enter(|call| call.payload().name);
                self.answered(answer, expected);
            }
            Step::Lease => {
                let expected = self.expects(None);
                let lease = self.slot.lease(Holder::new("test", 0));
                self.leased(lease, expected);
            }
            Step::DropLease(number) => {
                if let Some(place) = self.place(number) {
                    drop(self.leases.swap_remove(place));
                }
            }
            Step::Chained(number) => {
                let Some(place) = self.place(number) else { return };
                let (name, lease) = &self.leases[place];
                let expected = self.expects(Some(*name));
                let call = |call: Entered<'_, Plugin>| call.payload().name;
                let answer = self.slot.enter_chained(lease.chain(), Route::Sequence, call);
                self.answered(answer, expected);
            }
            Step::Nested(number) => {
                let Some(place) = self.place(number) else { return };
                let (name, lease) = &self.leases[place];
                let expected = self.expects(Some(*name));
                let answer = lease.enter(|_| self.slot.enter(|call| call.payload().name));
                self.answered(answer.expect("a lease is never refused"), expected);
            }
            Step::Task => self.task(),
        }
    }

    /// The answer of a call whose chain is in a version, or that has none.
    fn expects(&self, chain: Option<u64>) -> Result<u64, Refused> {
        let live = self.live.ok_or(Refused::NotActive)?;
        match self.held {
            Held::None => Ok(live),
            Held::Closed(_) if chain == Some(live) => Ok(live),
            Held::Closed(_) | Held::Sealed(_) => Err(Refused::GateTimeout),
        }
    }

    fn answered(&mut self, answer: Result<u64, Refused>, expected: Result<u64, Refused>) {
        assert_eq!(answer, expected);
        if let Ok(name) = answer {
            *self.calls.entry(name).or_default() += 1;
        }
    }

    fn leased(&mut self, lease: Result<Lease<Plugin>, Refused>, expected: Result<u64, Refused>) {
        self.answered(lease.as_ref().map(|lease| lease.name).map_err(|refused| *refused), expected);
        self.leases.extend(lease.ok().map(|lease| (lease.name, lease)));
    }

    fn task(&mut self) {
        let waker = Waker::from(Arc::clone(&self.wakes));
        let mut place = GatePlace::default();
        let holder = Holder::new("task", 0);
        let polled =
            self.slot.poll_lease(&mut Context::from_waker(&waker), Route::Sequence, holder, &mut place);
        match (polled, self.expects(None)) {
            (Poll::Pending, Err(Refused::GateTimeout)) => self.waiting.push(place),
            (Poll::Pending, expected) => panic!("it waits, where {expected:?} was due"),
            (Poll::Ready(lease), expected) => self.leased(lease, expected),
        }
    }

    /// What asks for the gate to be open.
    fn change(&mut self, step: Step) {
        let busy = !matches!(self.held, Held::None);
        let refused = if busy { GateRefused::Busy } else { GateRefused::NotActive };
        let allowed = !busy && self.live.is_some();
        match step {
            Step::Publish => {
                self.names += 1;
                match self.slot.publish(version(self.names)) {
                    Ok(old) => {
                        assert!(!busy);
                        self.live = Some(self.names);
                        self.gone.extend(old);
                    }
                    Err(not) => {
                        assert!(busy && not.reason == GateRefused::Busy);
                        self.gone.push(not.version.retire());
                    }
                }
            }
            Step::Withdraw => match self.slot.withdraw() {
                Ok(old) => {
                    assert!(allowed);
                    self.live = None;
                    self.gone.push(old);
                }
                Err(reason) => assert!(!allowed && reason == refused),
            },
            _ => match self.slot.close() {
                Ok(closed) => {
                    assert!(allowed);
                    self.held = Held::Closed(closed);
                }
                Err(reason) => assert!(!allowed && reason == refused),
            },
        }
    }

    /// What whoever holds the gate does; nothing, if nobody does.
    fn move_gate(&mut self, step: Step) {
        self.held = match (std::mem::replace(&mut self.held, Held::None), step) {
            (Held::Closed(closed), Step::Seal) => Held::Sealed(closed.seal()),
            (Held::Sealed(sealed), Step::Unseal) => {
                self.all_woken();
                Held::Closed(sealed.unseal())
            }
            (Held::Sealed(sealed), Step::Open) => {
                self.all_woken();
                self.names += 1;
                let (wakes, mut awake) = (&self.wakes.0, None);
                let before = wakes.load(SeqCst);
                let old = sealed.open_then(version(self.names), || awake = Some(wakes.load(SeqCst)));
                assert_eq!(awake, Some(before), "told when it is open, before anybody is woken");
                assert_eq!(Some(old.payload().name), self.live.replace(self.names));
                self.gone.push(old);
                Held::None
            }
            (Held::Closed(closed), Step::Reopen) => {
                self.all_woken();
                closed.reopen();
                Held::None
            }
            (Held::Sealed(sealed), Step::Reopen) => {
                self.all_woken();
                sealed.reopen();
                Held::None
            }
            (held, _) => held,
        };
    }

    fn all_woken(&mut self) {
        self.expected_wakes += std::mem::take(&mut self.waiting).len();
    }

    /// What can be seen from outside, after each step.
    fn looks_right(&self) {
        assert_eq!(self.wakes.0.load(SeqCst), self.expected_wakes);
        let leases_of = |name| self.leases.iter().filter(|(of, _)| *of == name).count();
        let expected = InFlight { stack: 0, leases: self.live.map_or(0, leases_of) };
        assert_eq!(self.slot.in_flight(), expected);
        let drained = match (&self.held, self.slot.state()) {
            (Held::None, SlotState::Absent) => return assert_eq!(self.live, None),
            (Held::None, SlotState::Live(_)) => expected.is_none(),
            (Held::Closed(closed), SlotState::Closed(_)) => closed.is_drained(),
            (Held::Sealed(sealed), SlotState::Sealed(_)) => sealed.is_drained(),
            (_, state) => panic!("the slot is {state:?}"),
        };
        assert_eq!(drained, expected.is_none());
        let looked = self.slot.look(Holder::new("status", 0));
        assert_eq!(looked.map(|lease| lease.name), self.live);
        for old in &self.gone {
            assert_eq!(old.is_drained(), leases_of(old.payload().name) == 0);
        }
    }

    fn place(&self, number: usize) -> Option<usize> {
        number.checked_rem(self.leases.len())
    }

    /// Gives everything up, and checks each version's counters.
    fn leave(mut self) {
        self.held = Held::None;
        self.leases.clear();
        for place in &mut self.waiting {
            self.slot.leave_gate(place);
        }
        self.gone.extend(self.slot.withdraw().ok());
        for retired in self.gone {
            let name = retired.payload().name;
            assert_eq!(finish(retired), self.calls.get(&name).copied().unwrap_or(0), "of version {name}");
        }
    }
}
