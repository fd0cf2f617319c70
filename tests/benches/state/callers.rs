//! A caller that never ends, and how long its calls took.
//!
//! It is one thread, so that the host has a core of its own on the smallest
//! machine. Even so the longest call of all is one in which the scheduler gave
//! the core to another thread, of whatever program, for a turn of some
//! milliseconds. The kernel counts these for each thread: the longest of the
//! other calls, in which the caller had its core or waited for something, is
//! told apart. A host that makes callers wait, at a gate or a lock, or gives them
//! its own work to do, is seen in that.

use hdrhistogram::Histogram;
use replug_host::Plugin;
use std::{
    hint::black_box,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Instant,
};

/// What a caller saw in a window.
pub(crate) struct Seen {
    times: Histogram<u64>,
    longest_kept_ns: u64,
    /// How often it left its core meanwhile.
    pub(crate) switches: Switches,
}

impl Seen {
    /// The longest call of all.
    pub(crate) fn longest_us(&self) -> f64 {
        self.times.max() as f64 / 1e3
    }

    /// The longest in which the scheduler did not take the core away.
    pub(crate) fn longest_kept_us(&self) -> f64 {
        self.longest_kept_ns as f64 / 1e3
    }

    pub(crate) fn quantile_us(&self, quantile: f64) -> f64 {
        self.times.value_at_quantile(quantile) as f64 / 1e3
    }
}

/// What a caller who reads sessions at random among `rows` sees while `body`
/// runs.
pub(crate) fn during<T>(sessions: &Plugin, rows: u64, body: impl FnOnce() -> T) -> (T, Seen) {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let caller = scope.spawn(|| call_until(&done, sessions, rows));
        let end = End(&done);
        let result = body();
        drop(end);
        (result, caller.join().expect("does not panic"))
    })
}

/// Ends the caller, also when a body panics that it would outlive.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

fn call_until(done: &AtomicBool, sessions: &Plugin, rows: u64) -> Seen {
    let mut times = Histogram::new(3).expect("three digits are within its range");
    let (mut random, mut longest_kept_ns) = (Random::new(rows), 0);
    let first = Switches::of_this_thread();
    let mut last = first;
    while !done.load(Ordering::Acquire) {
        let token = format!("t{}", random.below(rows));
        let begun = Instant::now();
        black_box(sessions.call("get", token.as_bytes()).expect("no call fails"));
        let took_ns = begun.elapsed().as_nanos() as u64;
        // The histogram grows with what it is given, so that nothing is cut off.
        times.record(took_ns).expect("it grows");
        let switches = Switches::of_this_thread();
        if switches.forced == last.forced {
            longest_kept_ns = longest_kept_ns.max(took_ns);
        }
        last = switches;
    }
    let switches = Switches { waits: last.waits - first.waits, forced: last.forced - first.forced };
    Seen { times, longest_kept_ns, switches }
}

/// How often a thread has left its core.
#[derive(Clone, Copy)]
pub(crate) struct Switches {
    /// Of its own accord: to wait for something.
    pub(crate) waits: u64,
    /// Because the scheduler gave it to another.
    pub(crate) forced: u64,
}

impl Switches {
    fn of_this_thread() -> Switches {
        // SAFETY: plain numbers, for which zeros are values.
        let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
        // SAFETY: the place is ours and of the right type.
        let status = unsafe { libc::getrusage(libc::RUSAGE_THREAD, &mut usage) };
        assert_eq!(status, 0, "the kernel knows this thread");
        let count = |count| u64::try_from(count).expect("a count");
        Switches { waits: count(usage.ru_nvcsw), forced: count(usage.ru_nivcsw) }
    }
}

/// Numbers without an order (xorshift64), the same for the same seed.
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}
