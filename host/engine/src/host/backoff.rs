//! When what failed through no fault of its own is tried again: pure
//! bookkeeping, moved by the command loop's tick.

use std::{
    borrow::Borrow,
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// The first pause between two tries, and the longest.
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);

/// What is to be tried again: versions of a plugin, files.
#[derive(Debug)]
pub(super) struct Backoff<K> {
    retries: BTreeMap<K, Retry>,
}

impl<K> Default for Backoff<K> {
    fn default() -> Self {
        Backoff { retries: BTreeMap::new() }
    }
}

#[derive(Debug)]
struct Retry {
    pause: Duration,
    /// When the pause ends; `None` once it has.
    until: Option<Instant>,
}

impl<K: Ord + Clone> Backoff<K> {
    /// A try failed: the next one comes after a pause, twice as long as the one
    /// before. Returns the pause.
    pub(super) fn failed(&mut self, what: K, now: Instant) -> Duration {
        let pause = self.retries.get(&what).map_or(FIRST, |retry| (retry.pause * 2).min(LONGEST));
        self.retries.insert(what, Retry { pause, until: Some(now + pause) });
        pause
    }

    /// Whether its pause has not ended.
    pub(super) fn is_waiting(&self, what: &K) -> bool {
        self.retries.get(what).is_some_and(|retry| retry.until.is_some())
    }

    /// How long it still waits.
    pub(super) fn left(&self, what: &K, now: Instant) -> Option<Duration> {
        Some(self.retries.get(what)?.until?.saturating_duration_since(now))
    }

    /// Ends the pauses that are over: what may be tried now.
    pub(super) fn end_pauses(&mut self, now: Instant) -> Vec<K> {
        let over = self.retries.iter_mut().filter_map(|(what, retry)| {
            retry.until.take_if(|until| *until <= now)?;
            Some(what.clone())
        });
        over.collect()
    }

    /// It succeeded, or somebody wants it now.
    pub(super) fn forget<Q>(&mut self, what: &Q)
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        self.retries.remove(what);
    }

    /// Forgets all but what is still there.
    pub(super) fn keep(&mut self, is_there: impl Fn(&K) -> bool) {
        self.retries.retain(|what, _| is_there(what));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_minute_and_start_over_when_forgotten() {
        let mut backoff = Backoff::default();
        let mut now = Instant::now();
        let mut pauses = Vec::new();
        for _ in 0..8 {
            let pause = backoff.failed("a", now);
            assert!(backoff.is_waiting(&"a"));
            assert!(backoff.end_pauses(now + pause - Duration::from_millis(1)).is_empty());
            now += pause;
            assert_eq!(backoff.end_pauses(now), ["a"]);
            assert!(!backoff.is_waiting(&"a"), "it may be tried");
            pauses.push(pause.as_secs());
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
        backoff.forget("a");
        assert_eq!(backoff.failed("a", now), FIRST);
    }
}
