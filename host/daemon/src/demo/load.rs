//! Threads that call the plugins for as long as the demo runs, and keep their
//! own log of what was acknowledged.

use super::corpus::Document;
use replug_host::Plugin;
use serde::Deserialize;
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
};

/// Client keys that each thread takes tokens for.
const KEYS_PER_THREAD: usize = 16;

/// Errors that are kept to be shown.
const ERRORS_KEPT_MAX: usize = 10;

/// What all threads count together.
#[derive(Default)]
pub(super) struct Totals {
    pub(super) answers_v1: AtomicU64,
    pub(super) answers_v2: AtomicU64,
    pub(super) answers_both: AtomicU64,
    pub(super) takes: AtomicU64,
    pub(super) wrong: AtomicU64,
    pub(super) failed: AtomicU64,
    pub(super) errors: Mutex<Vec<String>>,
    limiter_is_there: AtomicBool,
    stop: AtomicBool,
}

impl Totals {
    pub(super) fn answers(&self) -> u64 {
        [&self.answers_v1, &self.answers_v2, &self.answers_both]
            .iter()
            .map(|n| n.load(Ordering::Relaxed))
            .sum()
    }

    fn failed(&self, error: String) {
        self.failed.fetch_add(1, Ordering::Relaxed);
        let mut errors = self.errors.lock().unwrap_or_else(PoisonError::into_inner);
        if errors.len() < ERRORS_KEPT_MAX {
            errors.push(error);
        }
    }
}

/// The running threads.
pub(super) struct Load {
    pub(super) totals: Arc<Totals>,
    threads: Vec<JoinHandle<BTreeMap<String, u64>>>,
}

#[derive(Deserialize)]
struct Taken {
    allowed: bool,
}

impl Load {
    /// Starts `threads` threads that render the documents again and again.
    pub(super) fn start(
        threads: u16,
        documents: &Arc<Vec<Document>>,
        markdown: &Plugin,
        limiter: &Plugin,
    ) -> Load {
        let totals = Arc::new(Totals::default());
        let threads = (0..threads)
            .map(|number| {
                let caller = Caller {
                    number: usize::from(number),
                    documents: Arc::clone(documents),
                    markdown: markdown.clone(),
                    limiter: limiter.clone(),
                    totals: Arc::clone(&totals),
                    acknowledged: BTreeMap::new(),
                };
                thread::spawn(move || caller.run())
            })
            .collect();
        Load { totals, threads }
    }

    /// From now on the threads take tokens too.
    pub(super) fn limiter_is_there(&self) {
        self.totals.limiter_is_there.store(true, Ordering::Release);
    }

    /// Stops the threads; the takes that were acknowledged, by key.
    pub(super) fn stop(self) -> BTreeMap<String, u64> {
        self.totals.stop.store(true, Ordering::Release);
        let mut acknowledged = BTreeMap::new();
        for thread in self.threads {
            match thread.join() {
                Ok(log) => acknowledged.extend(log),
                Err(_) => self.totals.failed("a calling thread panicked".to_owned()),
            }
        }
        acknowledged
    }
}

struct Caller {
    number: usize,
    documents: Arc<Vec<Document>>,
    markdown: Plugin,
    limiter: Plugin,
    totals: Arc<Totals>,
    acknowledged: BTreeMap<String, u64>,
}

impl Caller {
    fn run(mut self) -> BTreeMap<String, u64> {
        let mut turn = self.number;
        while !self.totals.stop.load(Ordering::Acquire) {
            self.render(turn % self.documents.len());
            if self.totals.limiter_is_there.load(Ordering::Acquire) {
                self.take(turn % KEYS_PER_THREAD);
            }
            turn += 1;
        }
        self.acknowledged
    }

    fn render(&self, document: usize) {
        let document = &self.documents[document];
        let reply = match self.markdown.call("render", document.markdown.as_bytes()) {
            Ok(reply) => reply,
            Err(error) => return self.totals.failed(error.to_string()),
        };
        let html = reply.body();
        let counter = match (html == document.as_v1.as_bytes(), html == document.as_v2.as_bytes()) {
            (true, true) => &self.totals.answers_both,
            (true, false) => &self.totals.answers_v1,
            (false, true) => &self.totals.answers_v2,
            (false, false) => &self.totals.wrong,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    fn take(&mut self, key: usize) {
        // Keys of a thread are its own, so that its log of them is complete.
        let key = format!("caller{}/key{key}", self.number);
        let body = format!(r#"{{"key":"{key}"}}"#);
        let reply = match self.limiter.call("take", body.as_bytes()) {
            Ok(reply) => reply,
            Err(error) => return self.totals.failed(error.to_string()),
        };
        match serde_json::from_slice::<Taken>(reply.body()) {
            Ok(Taken { allowed: true }) => {
                *self.acknowledged.entry(key).or_default() += 1;
                self.totals.takes.fetch_add(1, Ordering::Relaxed);
            }
            Ok(Taken { allowed: false }) => {}
            Err(error) => self.totals.failed(format!("limiter answered {error}")),
        }
    }
}
