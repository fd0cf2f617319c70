//! Sync work on the caller's thread: a thread-local with a destructor, the
//! thread's name, a compiled pattern, a cache, now and then a thread.

use regex::Regex;
use replug_plugin_api::{Error, Result};
use std::{
    cell::RefCell,
    collections::HashMap,
    sync::{
        LazyLock, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

/// Never dropped: a compiled pattern owns hundreds of kilobytes.
static WORD: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"\b[\w']+\b").expect("the pattern is a constant, and compiles"));

/// Never dropped, and filled as calls come.
static CACHE: LazyLock<Mutex<HashMap<String, usize>>> = LazyLock::new(Mutex::default);

/// Texts that the cache keeps; later ones are counted again each time.
const CACHE_MAX: usize = 1024;

/// Threads that were here and have left; counted by the destructor.
static SCRATCHES_DROPPED: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::new(Scratch::default());
}

/// What a thread keeps between its calls.
#[derive(Default)]
struct Scratch {
    calls: u64,
    text: String,
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Relaxed: a statistic.
        SCRATCHES_DROPPED.fetch_add(1, Ordering::Relaxed);
    }
}

/// The sync work of one instance.
pub struct Churn {
    spawn_every: u64,
    calls: AtomicU64,
}

/// What one call found.
#[derive(Debug, PartialEq, Eq)]
pub struct Churned {
    /// The number of the call in this instance, from 1.
    pub call: u64,
    /// The number of the call on this thread, from 1.
    pub call_of_thread: u64,
    /// The thread's name, if it has one.
    pub thread: String,
    /// Words of the text.
    pub words: usize,
}

impl Churn {
    /// `spawn_every`: every how many calls a thread is spawned; 0 for never.
    pub fn new(spawn_every: u64) -> Self {
        Churn { spawn_every, calls: AtomicU64::new(0) }
    }

    /// Counts the words of `text` with everything at once.
    ///
    /// # Errors
    /// When the system cannot start another thread.
    pub fn run(&self, text: &str) -> Result<Churned> {
        let call = self.calls.fetch_add(1, Ordering::Relaxed) + 1;
        let words = if self.spawn_every != 0 && call.is_multiple_of(self.spawn_every) {
            count_on_a_thread(text.to_owned())?
        } else {
            count(text)
        };
        Ok(Churned {
            call,
            call_of_thread: touch_scratch(text),
            thread: thread::current().name().unwrap_or("unnamed").to_owned(),
            words,
        })
    }

    /// Destructors of thread-locals that have run since the library was loaded.
    pub fn destructors_run(&self) -> u64 {
        SCRATCHES_DROPPED.load(Ordering::Relaxed)
    }
}

fn count_on_a_thread(text: String) -> Result<usize> {
    let thread = thread::Builder::new().name("churn".to_owned()).spawn(move || {
        touch_scratch(&text);
        count(&text)
    })?;
    thread.join().map_err(|_| Error::new("churn.panicked", "the thread of the call panicked"))
}

fn count(text: &str) -> usize {
    let mut cache = CACHE.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(words) = cache.get(text) {
        return *words;
    }
    let words = WORD.find_iter(text).count();
    if cache.len() < CACHE_MAX {
        cache.insert(text.to_owned(), words);
    }
    words
}

fn touch_scratch(text: &str) -> u64 {
    SCRATCH.with_borrow_mut(|scratch| {
        scratch.text.clear();
        scratch.text.push_str(text);
        scratch.calls += 1;
        scratch.calls
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_counted_on_both_kinds_of_threads() {
        let churn = Churn::new(2);
        for call in 1..=4 {
            let churned = churn.run("don't panic, ever").expect("run");
            assert_eq!((churned.call, churned.words), (call, 3));
        }
    }

    #[test]
    fn a_thread_that_ends_runs_its_destructor() {
        let churn = Churn::new(1);
        let before = churn.destructors_run();
        churn.run("a").expect("run");
        // `join` returns after the thread's destructors have run.
        assert!(churn.destructors_run() > before);
    }

    #[test]
    fn the_cache_stops_growing() {
        for text in 0..CACHE_MAX * 2 {
            assert_eq!(count(&format!("word{text}")), 1);
        }
        let cached = CACHE.lock().expect("no panic under the lock").len();
        assert_eq!(cached, CACHE_MAX);
    }
}
