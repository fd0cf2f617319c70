//! Callers that never end, and their own log of what was acknowledged.

use replug_host::{CallError, Plugin, failure::Failure};
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
};

/// Running callers.
pub struct Load {
    stop: Arc<AtomicBool>,
    calls: Arc<AtomicU64>,
    threads: Vec<JoinHandle<Log>>,
}

/// What the callers of a load saw.
#[derive(Debug, Default)]
pub struct Log {
    /// Calls that were answered.
    pub answered: u64,
    /// Acknowledged takes, by key.
    pub takes: BTreeMap<String, u64>,
    /// Failed calls, by code, with the first message of each.
    pub failed: BTreeMap<&'static str, (u64, String)>,
}

impl Log {
    fn failure(&mut self, error: &CallError) {
        let entry = self.failed.entry(error.code().as_str()).or_insert_with(|| (0, error.to_string()));
        entry.0 += 1;
    }

    fn merge(&mut self, other: Log) {
        self.answered += other.answered;
        for (key, count) in other.takes {
            *self.takes.entry(key).or_default() += count;
        }
        for (code, (count, message)) in other.failed {
            self.failed.entry(code).or_insert((0, message)).0 += count;
        }
    }

    /// Takes that the plugin does not count, or counts without having
    /// acknowledged them.
    ///
    /// # Panics
    /// When the limiter does not answer.
    pub fn lost_takes(&self, limiter: &Plugin) -> u64 {
        self.takes
            .iter()
            .map(|(key, acknowledged)| {
                let reply = limiter.call("count", key.as_bytes()).expect("the limiter answers");
                let counted: u64 = reply.text().expect("text").trim().parse().expect("a number");
                counted.abs_diff(*acknowledged)
            })
            .sum()
    }
}

impl Load {
    /// Threads that call `call` again and again.
    pub fn start(
        threads: usize,
        call: impl Fn(usize, u64, &mut Log) -> Result<(), CallError> + Send + Sync + 'static,
    ) -> Load {
        let (stop, calls, call) =
            (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)), Arc::new(call));
        let threads = (0..threads)
            .map(|number| {
                let (stop, calls, call) = (Arc::clone(&stop), Arc::clone(&calls), Arc::clone(&call));
                thread::spawn(move || {
                    let mut log = Log::default();
                    let mut turn = 0;
                    while !stop.load(Ordering::Acquire) {
                        match call(number, turn, &mut log) {
                            Ok(()) => log.answered += 1,
                            Err(error) => log.failure(&error),
                        }
                        calls.fetch_add(1, Ordering::Relaxed);
                        turn += 1;
                    }
                    log
                })
            })
            .collect();
        Load { stop, calls, threads }
    }

    /// Threads that take tokens of the limiter, each for keys of its own.
    pub fn takes(threads: usize, limiter: &Plugin) -> Load {
        let limiter = limiter.clone();
        Load::start(threads, move |number, turn, log| {
            let key = format!("caller{number}/key{}", turn % 8);
            let reply = limiter.call("take", format!(r#"{{"key":"{key}"}}"#).as_bytes())?;
            if reply.text().is_ok_and(|text| text.contains(r#""allowed":true"#)) {
                *log.takes.entry(key).or_default() += 1;
            }
            Ok(())
        })
    }

    /// Calls so far, answered or not.
    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    /// Waits for `more` further calls.
    pub fn wait_for(&self, more: u64) {
        let target = self.calls() + more;
        crate::harness::wait_until("further calls", || self.calls() >= target);
    }

    /// Stops the callers.
    ///
    /// # Panics
    /// When a caller panicked.
    pub fn stop(self) -> Log {
        self.stop.store(true, Ordering::Release);
        let mut all = Log::default();
        for thread in self.threads {
            all.merge(thread.join().expect("a caller does not panic"));
        }
        all
    }
}

/// The configuration of a limiter that never refuses.
pub fn unlimited() -> serde_json::Value {
    serde_json::json!({ "capacity": 1e15, "refill_per_s": 0.0 })
}
