//! Dispatch under load: real threads, versions that come and go as fast as
//! they can, and payloads that notice when they are used too late.
//!
//! The scenarios run with either barrier, which a process chooses once: each
//! of the test binaries that include this file chooses one.
//!
//! long: the scenarios are shared by two test programs.

use replug_host::dispatch::{
    ChainToken, Drained, Holder, Outside, Payload, Refused, Retired, Route, Slot, Version, current_chain,
    pass_by,
};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

/// How long each scenario runs. Miri interprets, but finds races and missing
/// fences that a real machine seldom shows.
const LOAD: Duration = Duration::from_millis(if cfg!(miri) { 10_000 } else { 1_200 });
/// How many versions have to come and go, or nothing was stressed.
const ENOUGH: u64 = if cfg!(miri) { 2 } else { 20 };
/// How long anything may take before the test gives up.
const DEADLINE: Duration = Duration::from_secs(120);
const CALLERS: u64 = 3;

/// Stands for a plugin in a library: whoever runs it after its time finds out.
struct Plugin {
    number: u64,
    /// False once no call may run any more. Never freed, like `loaded`.
    serving: &'static AtomicBool,
    /// False once the library would be unmapped.
    loaded: &'static AtomicBool,
    /// What must not be lost when one version hands over to the next.
    state: AtomicU64,
    /// How many threads have thread-locals of this plugin, ever.
    users: AtomicU64,
}

thread_local! {
    /// The plugins that have thread-locals on this thread.
    static USED: RefCell<BTreeSet<u64>> = const { RefCell::new(BTreeSet::new()) };
    /// The plugins that this thread is inside of.
    static INSIDE: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
}

impl Payload for Plugin {
    fn detach_thread(&self, _: &Outside) -> u64 {
        self.check(self.loaded);
        let _ = INSIDE.try_with(|inside| {
            assert!(!inside.borrow().contains(&self.number), "detached inside of a call");
        });
        // At a thread's end this may be gone before.
        let _ = USED.try_with(|used| {
            assert!(used.borrow_mut().remove(&self.number), "detached twice, or never used");
        });
        self.check(self.loaded);
        1
    }
}

impl Plugin {
    fn check(&self, flag: &AtomicBool) {
        if !flag.load(SeqCst) {
            // Not a panic, which a thread's end or a detach might swallow.
            eprintln!("version {} was used after its time", self.number);
            std::process::abort();
        }
    }

    /// What a call does, with whatever it calls in turn.
    fn run<R>(&self, nested: impl FnOnce() -> R) -> R {
        self.check(self.serving);
        if USED.with_borrow_mut(|used| used.insert(self.number)) {
            self.users.fetch_add(1, SeqCst);
        }
        INSIDE.with_borrow_mut(|inside| inside.push(self.number));
        let result = nested();
        assert_eq!(INSIDE.with_borrow_mut(Vec::pop), Some(self.number));
        self.check(self.serving);
        result
    }
}

fn version(state: u64) -> Version<Plugin> {
    static NUMBERS: AtomicU64 = AtomicU64::new(1);
    let plugin = Plugin {
        number: NUMBERS.fetch_add(1, SeqCst),
        serving: Box::leak(Box::new(AtomicBool::new(true))),
        loaded: Box::leak(Box::new(AtomicBool::new(true))),
        state: AtomicU64::new(state),
        users: AtomicU64::new(0),
    };
    Version::new(plugin).expect("few live at once")
}

fn slot() -> Slot<Plugin> {
    let slot = Slot::new(DEADLINE);
    assert!(slot.publish(version(0)).expect("open").is_none());
    slot
}

/// Calls and errors of the versions that are gone.
#[derive(Default)]
struct Served {
    calls: AtomicU64,
    errors: AtomicU64,
    versions: AtomicU64,
    abandoned: AtomicU64,
}

impl Served {
    /// Takes a version the whole way out. After `patience` rounds of asking
    /// threads to detach, gives them up.
    fn unload(&self, mut retired: Retired<Plugin>, patience: u32) {
        let deadline = deadline();
        let mut drained: Drained<Plugin> = loop {
            match retired.try_drained() {
                Ok(drained) => break drained,
                Err(not_yet) => retired = not_yet,
            }
            assert!(Instant::now() < deadline, "never drained: {:?}", retired.in_flight());
            thread::yield_now();
        };
        let (serving, loaded) = (drained.payload().serving, drained.payload().loaded);
        serving.store(false, SeqCst);
        let mut rounds = 0;
        let mut abandoned = 0;
        let finished = loop {
            if drained.detach_threads() > 0 && rounds >= patience {
                abandoned += drained.abandon() as u64;
            }
            match drained.finish() {
                Ok(finished) => break finished,
                Err(not_yet) => drained = not_yet,
            }
            assert!(Instant::now() < deadline, "never detached");
            rounds += 1;
            thread::yield_now();
        };
        loaded.store(false, SeqCst);
        // Each thread that used it left it exactly once, one way or the other.
        let users = finished.payload.users.load(SeqCst);
        assert_eq!(finished.destructors + abandoned, users);
        self.calls.fetch_add(finished.counters.calls, SeqCst);
        self.errors.fetch_add(finished.counters.errors, SeqCst);
        self.versions.fetch_add(1, SeqCst);
        self.abandoned.fetch_add(abandoned, SeqCst);
    }
}

/// What the callers believe to have done.
#[derive(Default)]
struct Made {
    calls: AtomicU64,
    errors: AtomicU64,
}

fn deadline() -> Instant {
    Instant::now() + DEADLINE
}

/// Xorshift: enough to vary what threads do, the same in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

/// Calls `slots[0]`, which calls `slots[1]`, which calls `slots[0]`, ...
fn nest(slots: &[Slot<Plugin>; 2], at: usize, deeper: u64, made: &Made) {
    made.calls.fetch_add(1, SeqCst);
    let call = slots[at % 2].enter(|call| {
        call.payload().run(|| {
            if deeper > 0 {
                nest(slots, at + 1, deeper - 1, made);
            }
        });
        if deeper == 1 {
            call.fail();
            made.errors.fetch_add(1, SeqCst);
        }
    });
    call.expect("a version is always live");
}

/// Calls, nested and cyclic, leases and short-lived threads, over two slots
/// whose versions are replaced all the time: nothing is used after it is
/// finished, and every call is counted once.
pub(crate) fn every_call_runs_on_a_version_in_memory_and_is_counted_once() {
    let slots = [slot(), slot()];
    let (made, served) = (Made::default(), Served::default());
    let stop = AtomicBool::new(false);
    let lease = |dice: &mut Dice| {
        made.calls.fetch_add(1, SeqCst);
        let at = dice.roll(2) as usize;
        let lease = slots[at].lease(Holder::new("stress", 0)).expect("live");
        if dice.roll(2) == 0 {
            nest(&slots, at, 2, &made);
        }
        lease.enter(|call| call.payload().run(|| {})).expect("room");
        lease
    };
    let work = |dice: &mut Dice| {
        if dice.roll(8) == 0 {
            drop(lease(dice));
        } else {
            nest(&slots, dice.roll(2) as usize, dice.roll(4), &made);
        }
    };
    thread::scope(|scope| {
        let (stop, slots, served) = (&stop, &slots, &served);
        let mut callers = Vec::new();
        for seed in 1..=CALLERS {
            let (work, lease) = (&work, &lease);
            callers.push(scope.spawn(move || {
                let mut dice = Dice(seed * 0x9E37_79B9);
                let mut kept = Vec::new();
                while !stop.load(SeqCst) {
                    work(&mut dice);
                    match dice.roll(16) {
                        0 if kept.len() < 4 => kept.push(lease(&mut dice)),
                        1..4 => drop(kept.pop()),
                        _ => {}
                    }
                }
            }));
        }
        let born = &work;
        callers.push(scope.spawn(move || {
            for seed in 1.. {
                if stop.load(SeqCst) {
                    break;
                }
                let mut dice = Dice(seed * 0xB529_7A4D);
                let brief = || (0..dice.roll(20)).for_each(|_| born(&mut dice));
                scope_and_join(brief);
            }
        }));
        for (at, patience) in [(0, 3), (1, 50)] {
            scope.spawn(move || {
                while !stop.load(SeqCst) {
                    let old = slots[at].publish(version(0)).expect("open");
                    served.unload(old.expect("one was live"), patience);
                }
            });
        }
        // sleep: the load is meant to last this long.
        thread::sleep(LOAD);
        stop.store(true, SeqCst);
        drop(callers);
    });
    for slot in &slots {
        served.unload(slot.withdraw().expect("live"), 3);
    }
    assert_eq!(served.calls.into_inner(), made.calls.into_inner());
    assert_eq!(served.errors.into_inner(), made.errors.into_inner());
    let versions = served.versions.into_inner();
    assert!(versions > ENOUGH, "only {versions} versions: nothing was stressed");
}

/// A thread that is gone, thread-locals and all, when this returns.
fn scope_and_join(work: impl FnOnce() + Send) {
    thread::scope(|scope| scope.spawn(work).join().expect("it returns"));
}

/// Adds one to the state, `nested` times within, and maybe through another
/// thread that carries the chain's token.
fn update(slot: &Slot<Plugin>, chain: ChainToken, nested: u64, hop: bool) -> Result<u64, Refused> {
    slot.enter_chained(chain, Route::Sequence, |call| {
        let plugin = call.payload();
        plugin.run(|| {
            let before = plugin.number;
            let mut done = 1;
            if nested > 0 {
                let below = || update(slot, ChainToken::ROOT, nested - 1, false);
                done += if hop {
                    let token = current_chain();
                    let carry = || update(slot, token, nested - 1, false);
                    thread::scope(|scope| scope.spawn(carry).join().expect("it returns"))?
                } else {
                    below()?
                };
            }
            // A plain read and write would lose updates of other callers; what
            // the gate must not lose is all of this.
            plugin.state.fetch_add(1, SeqCst);
            assert_eq!(before, plugin.number);
            Ok(done)
        })
    })?
}

/// The state moves from version to version behind the gate while root calls,
/// nested calls and calls of other threads in the chain go on: no update is
/// lost, none is refused, and nothing moves while the gate is sealed.
pub(crate) fn no_update_is_lost_when_state_is_handed_over() {
    let slot = slot();
    let (updates, served) = (AtomicU64::new(0), Served::default());
    let stop = AtomicBool::new(false);
    let mut opened = 0;
    thread::scope(|scope| {
        for seed in 1..=CALLERS {
            let (slot, stop, updates) = (&slot, &stop, &updates);
            scope.spawn(move || {
                let mut dice = Dice(seed * 0x9E37_79B9);
                while !stop.load(SeqCst) {
                    let (nested, hop) = (dice.roll(4), dice.roll(16) == 0);
                    let done = update(slot, ChainToken::ROOT, nested, hop);
                    updates.fetch_add(done.expect("waits, but is served"), SeqCst);
                }
            });
        }
        let (end, mut dice) = (Instant::now() + LOAD, Dice(7));
        while Instant::now() < end {
            let closed = slot.close().expect("one hand-over at a time");
            if dice.roll(8) == 0 {
                closed.reopen();
                continue;
            }
            let deadline = deadline();
            while !closed.is_drained() {
                assert!(Instant::now() < deadline, "never drained: {:?}", closed.in_flight());
                thread::yield_now();
            }
            let sealed = closed.seal();
            while !sealed.is_drained() {
                assert!(Instant::now() < deadline, "never drained: {:?}", sealed.in_flight());
                thread::yield_now();
            }
            let export = sealed.lease(Holder::new("export", 0));
            let state = export.state.load(SeqCst);
            thread::yield_now();
            assert_eq!(state, export.state.load(SeqCst), "a call runs behind a sealed gate");
            drop(export);
            if dice.roll(8) == 0 {
                sealed.reopen();
            } else {
                served.unload(sealed.open(version(state)), 3);
                opened += 1;
            }
        }
        stop.store(true, SeqCst);
    });
    let last = slot.withdraw().expect("live");
    assert_eq!(last.payload().state.load(SeqCst), updates.load(SeqCst));
    served.unload(last, 3);
    assert_eq!(served.calls.into_inner(), updates.into_inner());
    assert!(opened > ENOUGH, "only {opened} hand-overs: nothing was stressed");
}

/// Threads detach while the one that unloads gives up on them at once: each
/// leaves each version exactly once, and never a finished one.
pub(crate) fn a_thread_is_detached_or_abandoned_but_never_both() {
    let slot = slot();
    let served = Served::default();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for seed in 1..=CALLERS {
            let (slot, stop) = (&slot, &stop);
            scope.spawn(move || {
                let mut dice = Dice(seed * 0x9E37_79B9);
                while !stop.load(SeqCst) {
                    match dice.roll(4) {
                        0 => pass_by(),
                        1 => scope_and_join(|| {
                            slot.enter(|call| call.payload().run(|| {})).expect("live");
                        }),
                        _ => slot.enter(|call| call.payload().run(|| {})).expect("live"),
                    }
                }
            });
        }
        let end = Instant::now() + LOAD;
        let mut dice = Dice(7);
        while Instant::now() < end {
            let old = slot.publish(version(0)).expect("open").expect("one was live");
            served.unload(old, dice.roll(3) as u32);
        }
        stop.store(true, SeqCst);
    });
    served.unload(slot.withdraw().expect("live"), 0);
    let versions = served.versions.into_inner();
    let abandoned = served.abandoned.into_inner();
    assert!(versions > ENOUGH, "only {versions} versions: nothing was stressed");
    assert!(cfg!(miri) || abandoned > 0, "no thread was abandoned: nothing was raced");
}

/// A payload that does nothing but know whether it may still be called.
struct Lean(&'static AtomicBool);

impl Payload for Lean {
    fn detach_thread(&self, _: &Outside) -> u64 {
        0
    }
}

/// Two versions take turns as fast as they drain, under callers in a tight
/// loop; each is marked as gone at the very moment in which it is found
/// drained.
///
/// Without validation this fails within milliseconds, when callers outnumber
/// the cores and are stopped half-way in. Without the barrier it fails with
/// one caller that runs at the publisher's side: most times in an optimised
/// build, seldom in a debug build, always under Miri.
pub(crate) fn a_version_is_drained_only_when_nobody_can_still_enter_it() {
    take_turns(1, std::hint::spin_loop, From::Outside);
    take_turns(CALLERS, thread::yield_now, From::Outside);
    take_turns(1, std::hint::spin_loop, From::Inside);
    take_turns(1, std::hint::spin_loop, From::Kicked);
}

/// Where the callers call from.
#[derive(Clone, Copy, PartialEq)]
enum From {
    /// They do nothing else.
    Outside,
    /// A call of another slot.
    Inside,
    /// Threads that were asked to detach from another version.
    Kicked,
}

fn take_turns(callers: u64, wait: fn(), from: From) {
    let lean = || {
        let serving = Box::leak(Box::new(AtomicBool::new(true)));
        Version::new(Lean(serving)).expect("few live at once")
    };
    let (slot, beside) = (Slot::new(DEADLINE), Slot::new(DEADLINE));
    slot.publish(lean()).expect("open");
    beside.publish(lean()).expect("open");
    let stop = AtomicBool::new(false);
    let mut turns = 0;
    let ask = || {
        slot.enter(|call| {
            let serving = call.payload().0;
            // Longer than a store takes to become visible.
            (0..8).any(|_| !serving.load(Relaxed))
        })
    };
    thread::scope(|scope| {
        for _ in 0..callers {
            scope.spawn(|| {
                beside.enter(|_| ()).expect("live");
                while !stop.load(Relaxed) {
                    let is_gone = match from {
                        From::Inside => beside.enter(|_| ask()).expect("live"),
                        From::Outside | From::Kicked => ask(),
                    };
                    if is_gone != Ok(false) {
                        eprintln!("a version was taken away from a call");
                        std::process::abort();
                    }
                }
            });
        }
        while beside.counters().calls < callers {
            thread::yield_now();
        }
        if from == From::Kicked {
            leave(beside.withdraw().expect("live"));
        }
        let mut spare = lean();
        let end = Instant::now() + LOAD;
        while Instant::now() < end {
            for _ in 0..if cfg!(miri) { 1 } else { 64 } {
                spare.payload().0.store(true, SeqCst);
                let old = slot.publish(spare).expect("open").expect("one was live");
                while !old.is_drained() {
                    wait();
                }
                old.payload().0.store(false, SeqCst);
                spare = old.revive();
                turns += 1;
            }
        }
        stop.store(true, Relaxed);
        drop(spare);
    });
    assert!(turns > ENOUGH, "only {turns} turns: nothing was stressed");
    drop(slot.withdraw());
    drop(beside.withdraw());
}

/// Has all threads detach by themselves.
fn leave(mut left: Retired<Lean>) {
    let drained = loop {
        match left.try_drained() {
            Ok(drained) => break drained,
            Err(not_yet) => left = not_yet,
        }
        thread::yield_now();
    };
    while drained.detach_threads() > 0 {
        thread::yield_now();
    }
    drop(drained.finish().expect("all detached"));
}
