//! What a split promises, one promise per test. As in `tests.rs`, records and
//! indices are shared with the other tests of this binary.
//!
//! long: one test for each promise, and the model that they are held against.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

/// A payload that notices calls after its time.
pub(super) struct Plugin {
    pub(super) name: u64,
    gone: Arc<AtomicBool>,
    late: Arc<AtomicU64>,
}

impl Plugin {
    fn answer(&self) -> u64 {
        if self.gone.load(SeqCst) {
            self.late.fetch_add(1, SeqCst);
        }
        self.name
    }
}

impl Payload for Plugin {
    fn detach_thread(&self, _: &Outside) -> u64 {
        0
    }
}

const BASELINE: u64 = 1;
const CHALLENGER: u64 = 2;

fn plugin(name: u64) -> Plugin {
    Plugin { name, gone: Arc::default(), late: Arc::default() }
}

pub(super) fn version(name: u64) -> Version<Plugin> {
    Version::new(plugin(name)).expect("tests use few versions")
}

fn share(basis_points: u16) -> Share {
    Share::from_basis_points(basis_points).expect("at most the whole")
}

fn split(basis_points: u16, seed: u64) -> Slot<Plugin> {
    let slot = Slot::new(Duration::from_secs(30));
    slot.publish(version(BASELINE)).expect("open");
    slot.split(version(CHALLENGER), share(basis_points), seed).expect("open");
    slot
}

fn ask(slot: &Slot<Plugin>, route: Route<'_>) -> u64 {
    slot.enter_routed(route, |call| call.payload().answer()).expect("live")
}

fn key(number: u64) -> [u8; 8] {
    number.to_le_bytes()
}

/// Ends a split and frees both versions; how many calls each served.
fn clean_up(slot: &Slot<Plugin>) -> (u64, u64) {
    let challenger = finish(slot.roll_back().expect("split"));
    (finish(slot.withdraw().expect("live")), challenger)
}

/// Frees a version that left, on whatever threads it was used; how many calls it
/// served.
pub(super) fn finish<P: Payload>(mut retired: Retired<P>) -> u64 {
    // Drained before or not: a call that found it late is seen until it has
    // looked again and gone elsewhere.
    let mut drained = loop {
        match retired.try_drained() {
            Ok(drained) => break drained,
            Err(not_yet) => retired = not_yet,
        }
        thread::yield_now();
    };
    loop {
        drained.detach_threads();
        drained.abandon();
        match drained.finish() {
            Ok(finished) => return finished.counters.calls,
            // A thread that ends is just detaching; it will be done.
            Err(not_yet) => drained = not_yet,
        }
        thread::yield_now();
    }
}

#[test]
fn calls_by_sequence_get_the_exact_share_on_every_thread() {
    let slot = Arc::new(split(500, 0));
    let calls = if cfg!(miri) { 100 } else { 10_000 };
    let callers: Vec<_> = (0..4)
        .map(|_| {
            let slot = Arc::clone(&slot);
            thread::spawn(move || (0..calls).filter(|_| ask(&slot, Route::Sequence) == CHALLENGER).count())
        })
        .collect();
    for caller in callers {
        assert_eq!(caller.join().expect("answers"), calls / 20);
    }
    let challenger = calls as u64 * 4 / 20;
    assert_eq!(clean_up(&slot), (challenger * 19, challenger));
}

#[test]
fn plain_calls_and_leases_are_calls_by_sequence() {
    let slot = split(5_000, 0);
    let asked: Vec<u64> =
        (0..100).map(|_| slot.enter(|call| call.payload().answer()).expect("live")).collect();
    assert_eq!(asked.iter().filter(|name| **name == CHALLENGER).count(), 50);
    let leases: Vec<_> = (0..10).map(|_| slot.lease(Holder::new("test", 0)).expect("live")).collect();
    assert_eq!(leases.iter().filter(|lease| lease.name == CHALLENGER).count(), 5);
    drop(leases);
    clean_up(&slot);
}

#[test]
fn many_threads_that_call_once_share_out_too() {
    let slot = Arc::new(split(2_500, 0));
    let count = if cfg!(miri) { 20 } else { 200 };
    // All alive at once, so that each has a record, and a place, of its own.
    let start = Arc::new(std::sync::Barrier::new(count));
    let threads: Vec<_> = (0..count)
        .map(|_| {
            let (slot, start) = (Arc::clone(&slot), Arc::clone(&start));
            thread::spawn(move || {
                start.wait();
                let answer = ask(&slot, Route::Sequence);
                start.wait();
                answer
            })
        })
        .collect();
    let challenger = threads.into_iter().map(|thread| thread.join().expect("answers"));
    let challenger = challenger.filter(|name| *name == CHALLENGER).count();
    let fair = count * 15 / 100..=count * 35 / 100;
    assert!(fair.contains(&challenger), "{challenger} of {count} at a quarter");
    clean_up(&slot);
}

/// Once, a thread that had entered the challenger left its record at the place
/// where it had found it, so that the next one chose the same: of threads one
/// after another, all could.
#[test]
fn threads_one_after_another_share_out_like_one() {
    let slot = Arc::new(split(500, 0));
    let threads = if cfg!(miri) { 40 } else { 2_000 };
    let ask_once = |_: &usize| {
        let slot = Arc::clone(&slot);
        thread::spawn(move || ask(&slot, Route::Sequence) == CHALLENGER).join().expect("answers")
    };
    let taken = (0..threads).filter(ask_once).count();
    // Other tests' threads take records too, so a few places may be lost.
    assert!(taken.abs_diff(threads / 20) <= threads / 50, "{taken} of {threads} at a twentieth");
    clean_up(&slot);
}

#[test]
fn whoever_is_told_an_arm_gets_it_whatever_the_share() {
    let slot = split(0, 0);
    assert_eq!(ask(&slot, Route::Arm(Arm::Challenger)), CHALLENGER);
    slot.set_share(Share::ALL).expect("split");
    assert_eq!(ask(&slot, Route::Arm(Arm::Baseline)), BASELINE);
    assert_eq!(ask(&slot, Route::Sequence), CHALLENGER);
    clean_up(&slot);
}

#[test]
fn routes_mean_nothing_without_a_split() {
    let slot = Slot::new(Duration::from_secs(30));
    slot.publish(version(BASELINE)).expect("open");
    for route in [Route::Sequence, Route::Key(b"k"), Route::Arm(Arm::Challenger)] {
        assert_eq!(ask(&slot, route), BASELINE);
    }
    assert_eq!(slot.roll_back().err(), Some(NotSplit));
    assert_eq!(slot.promote().err(), Some(NotSplit));
    assert_eq!(slot.set_share(Share::ALL).err(), Some(NotSplit));
    finish(slot.withdraw().expect("live"));
}

#[test]
fn a_split_needs_a_live_version_and_holds_the_slot() {
    let slot = Slot::new(Duration::from_secs(30));
    let refused = slot.split(version(CHALLENGER), Share::NONE, 0).expect_err("nothing is live");
    assert_eq!(refused.reason, GateRefused::NotActive);
    slot.publish(version(BASELINE)).expect("open");
    slot.split(refused.version, Share::NONE, 0).expect("open");
    assert!(matches!(slot.state(), SlotState::Split { share: Share::NONE, .. }));
    let third = slot.publish(version(3)).expect_err("split");
    assert_eq!(third.reason, GateRefused::Split);
    let third = slot.split(third.version, Share::ALL, 0).expect_err("split");
    assert_eq!(third.reason, GateRefused::Split);
    assert_eq!(slot.close().err(), Some(GateRefused::Split));
    assert_eq!(slot.withdraw().err(), Some(GateRefused::Split));
    finish(third.version.retire());
    clean_up(&slot);
}

#[test]
fn promoting_retires_the_baseline_and_rolling_back_the_challenger() {
    let slot = split(5_000, 0);
    let baseline = slot.promote().expect("split");
    assert_eq!(baseline.payload().name, BASELINE);
    assert_eq!(ask(&slot, Route::Key(b"k")), CHALLENGER);
    slot.split(baseline.revive(), Share::ALL, 1).expect("open");
    assert_eq!(ask(&slot, Route::Sequence), BASELINE);
    let back = slot.roll_back().expect("split");
    assert_eq!((back.payload().name, ask(&slot, Route::Sequence)), (BASELINE, CHALLENGER));
    finish(back);
    finish(slot.withdraw().expect("live"));
}

#[test]
fn a_version_that_leaves_a_split_is_never_entered_afterwards() {
    let slot = Arc::new(split(5_000, 7));
    let stop = Arc::new(AtomicBool::new(false));
    let callers: Vec<_> = (0..3_u64)
        .map(|caller| {
            let (slot, stop) = (Arc::clone(&slot), Arc::clone(&stop));
            thread::spawn(move || {
                let mut calls = 0_u64;
                while !stop.load(SeqCst) {
                    let key = key(calls);
                    let routes =
                        [Route::Sequence, Route::Key(&key), Route::Arm(Arm::Challenger), Route::Sequence];
                    ask(&slot, routes[((calls + caller) % 4) as usize]);
                    calls += 1;
                }
                calls
            })
        })
        .collect();
    let rounds = if cfg!(miri) { 5 } else { 300 };
    let late = Arc::<AtomicU64>::default();
    let challenger = || {
        let plugin = Plugin { late: Arc::clone(&late), ..plugin(CHALLENGER) };
        Version::new(plugin).expect("tests use few versions")
    };
    for round in 0..rounds {
        let leaves = if round % 2 == 0 { slot.roll_back() } else { slot.promote() }.expect("split");
        while !leaves.is_drained() {
            thread::yield_now();
        }
        leaves.payload().gone.store(true, SeqCst);
        slot.split(challenger(), share(5_000), round).expect("open");
        thread::yield_now();
        finish(leaves);
    }
    stop.store(true, SeqCst);
    let calls: u64 = callers.into_iter().map(|caller| caller.join().expect("answers")).sum();
    assert!(calls > 0);
    assert_eq!(late.load(SeqCst), 0);
    clean_up(&slot);
}

#[test]
fn the_slices_of_two_plugins_are_independent() {
    let (first, second) = (share(1_000), share(1_000));
    let keys = if cfg!(miri) { 5_000 } else { 100_000_u64 };
    let both = (0..keys)
        .filter(|number| first.takes(&key(*number), 1) && second.takes(&key(*number), 2))
        .count() as u64;
    let chance = keys / 100;
    let fair = chance * 8 / 10..chance * 12 / 10;
    assert!(fair.contains(&both), "{both} of {keys} keys, where chance has {chance}");
}

#[test]
fn the_place_of_a_key_is_that_of_its_xxh3() {
    // XXH3's 64 bits of no bytes with seed 0, by its reference implementation,
    // are 0x2d06_8005_38d3_94c2: 0.17588 of the whole.
    assert!(!share(1_758).takes(b"", 0));
    assert!(share(1_759).takes(b"", 0));
    // Keys of every length go by the hash with a seed alone, however it is made.
    let bytes = [7; 300];
    for length in 0..=bytes.len() {
        let key = &bytes[..length];
        let hash = twox_hash::XxHash3_64::oneshot_with_seed(42, key);
        let place = ((u128::from(hash) * 10_000) >> 64) as u16;
        assert!(!share(place).takes(key, 42) && share(place + 1).takes(key, 42), "{length} bytes");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 2 } else { 256 }))]

    #[test]
    fn no_key_goes_back_as_the_share_grows(
        key in prop::collection::vec(any::<u8>(), 0..40),
        seed: u64,
        mut steps in prop::collection::vec(0_u16..=10_000, 1..20),
    ) {
        steps.sort_unstable();
        let slot = split(0, seed);
        let answers: Vec<u64> = steps
            .iter()
            .map(|step| {
                slot.set_share(share(*step)).expect("split");
                ask(&slot, Route::Key(&key))
            })
            .collect();
        prop_assert!(answers.is_sorted(), "{answers:?}");
        let expected: Vec<u64> =
            steps.iter().map(|step| BASELINE + u64::from(share(*step).takes(&key, seed))).collect();
        prop_assert_eq!(answers, expected);
        clean_up(&slot);
    }

    #[test]
    fn any_run_of_calls_by_sequence_gets_its_share_to_within_one(
        shares in prop::collection::vec((0_u16..=10_000, 1_usize..200), 1..6),
    ) {
        let slot = split(0, 0);
        for (basis_points, calls) in shares {
            slot.set_share(share(basis_points)).expect("split");
            let got = (0..calls).filter(|_| ask(&slot, Route::Sequence) == CHALLENGER).count() as f64;
            let fair = calls as f64 * f64::from(basis_points) / 10_000.0;
            prop_assert!((got - fair).abs() < 1.0 + 1e-9, "{got} of {calls} at {basis_points}");
        }
        clean_up(&slot);
    }

    #[test]
    fn every_call_enters_what_a_model_of_the_slot_says(
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let slot = Slot::new(Duration::ZERO);
        let mut model = Model::default();
        let mut counted = BTreeMap::<u64, u64>::new();
        for step in steps {
            model.apply(&slot, step);
            let keyed = slot.enter_routed(Route::Key(b"key"), |call| call.payload().answer());
            prop_assert_eq!(keyed.ok(), model.expects(b"key"));
            if let Ok(name) = keyed {
                *counted.entry(name).or_default() += 1;
            }
        }
        for retired in model.leave(&slot) {
            let name = retired.payload().name;
            prop_assert_eq!(finish(retired), counted.get(&name).copied().unwrap_or(0), "of {}", name);
        }
    }
}

/// What a slot is asked to do.
#[derive(Debug, Clone, Copy)]
enum Step {
    Publish,
    Withdraw,
    Split(u16),
    SetShare(u16),
    Promote,
    RollBack,
    Close,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        Just(Step::Publish),
        Just(Step::Withdraw),
        (0_u16..=10_000).prop_map(Step::Split),
        (0_u16..=10_000).prop_map(Step::SetShare),
        Just(Step::Promote),
        Just(Step::RollBack),
        Just(Step::Close),
    ]
}

/// A slot without threads: what is live, and what is tried beside it.
#[derive(Default)]
struct Model {
    names: u64,
    live: Option<u64>,
    challenger: Option<(u64, Share)>,
    gone: Vec<Retired<Plugin>>,
}

impl Model {
    const SEED: u64 = 9;

    fn next(&mut self) -> Version<Plugin> {
        self.names += 1;
        version(self.names)
    }

    fn apply(&mut self, slot: &Slot<Plugin>, step: Step) {
        match step {
            Step::Publish => {
                let version = self.next();
                match slot.publish(version) {
                    Ok(old) => {
                        assert!(self.challenger.is_none());
                        assert_eq!(old.as_ref().map(|old| old.payload().name), self.live);
                        self.live = Some(self.names);
                        self.gone.extend(old);
                    }
                    Err(refused) => {
                        assert!(self.challenger.is_some());
                        self.gone.push(refused.version.retire());
                    }
                }
            }
            Step::Withdraw => {
                let withdrawn = slot.withdraw();
                assert_eq!(withdrawn.is_ok(), self.live.is_some() && self.challenger.is_none());
                if let Ok(old) = withdrawn {
                    self.live = None;
                    self.gone.push(old);
                }
            }
            Step::Split(basis_points) => {
                let version = self.next();
                match slot.split(version, share(basis_points), Self::SEED) {
                    Ok(()) => {
                        assert!(self.live.is_some() && self.challenger.is_none());
                        self.challenger = Some((self.names, share(basis_points)));
                    }
                    Err(refused) => {
                        assert!(self.live.is_none() || self.challenger.is_some());
                        self.gone.push(refused.version.retire());
                    }
                }
            }
            Step::SetShare(basis_points) => {
                assert_eq!(slot.set_share(share(basis_points)).is_ok(), self.challenger.is_some());
                if let Some((_, now)) = &mut self.challenger {
                    *now = share(basis_points);
                }
            }
            Step::Promote | Step::RollBack => self.end_split(slot, matches!(step, Step::Promote)),
            Step::Close => {
                let closed = slot.close();
                assert_eq!(closed.is_ok(), self.live.is_some() && self.challenger.is_none());
                if let Ok(closed) = closed {
                    // Whoever calls now would wait; with this timeout, not.
                    let refused = slot.enter_routed(Route::Key(b"key"), |_| ());
                    assert_eq!(refused, Err(Refused::GateTimeout));
                    closed.seal().reopen();
                }
            }
        }
    }

    fn end_split(&mut self, slot: &Slot<Plugin>, promote: bool) {
        let ended = if promote { slot.promote() } else { slot.roll_back() };
        assert_eq!(ended.is_ok(), self.challenger.is_some());
        let (Ok(left), Some((challenger, _))) = (ended, self.challenger.take()) else {
            return;
        };
        let leaves = if promote { self.live.replace(challenger) } else { Some(challenger) };
        assert_eq!(Some(left.payload().name), leaves);
        self.gone.push(left);
    }

    fn expects(&self, key: &[u8]) -> Option<u64> {
        match self.challenger {
            Some((challenger, share)) if share.takes(key, Self::SEED) => Some(challenger),
            _ => self.live,
        }
    }

    fn leave(mut self, slot: &Slot<Plugin>) -> Vec<Retired<Plugin>> {
        self.gone.extend(slot.roll_back().ok());
        self.gone.extend(slot.withdraw().ok());
        self.gone
    }
}
