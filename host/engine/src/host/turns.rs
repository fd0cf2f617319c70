//! Who of many may go on now.

use std::{
    num::NonZero,
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

/// How often who waits looks whether he is to stop.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// So many turns at a time.
pub(super) struct Turns {
    free: Mutex<usize>,
    freed: Condvar,
}

/// Gives its place up when it is dropped.
pub(super) struct Turn(Arc<Turns>);

impl Turns {
    /// As many as there are cores to work on, and few even where there are many.
    pub(super) fn for_this_machine() -> Turns {
        Turns::new(thread::available_parallelism().map_or(1, NonZero::get).min(4))
    }

    fn new(count: usize) -> Turns {
        Turns { free: Mutex::new(count), freed: Condvar::new() }
    }

    /// Waits for a turn; none if `stop` is set before there is one.
    pub(super) fn take(self: &Arc<Self>, stop: &AtomicBool) -> Option<Turn> {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            // Relaxed: any time soon.
            if stop.load(Ordering::Relaxed) {
                return None;
            }
            if *free > 0 {
                *free -= 1;
                return Some(Turn(Arc::clone(self)));
            }
            let waited = self.freed.wait_timeout(free, LOOK_EVERY);
            free = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        *self.0.free.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.0.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    #[test]
    fn no_more_have_a_turn_than_there_are_and_all_get_one() {
        let (turns, goes_on) = (Arc::new(Turns::new(2)), AtomicBool::new(false));
        let (now, most, done) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let turn = turns.take(&goes_on).expect("nobody stops");
                    most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    thread::yield_now();
                    now.fetch_sub(1, Ordering::SeqCst);
                    done.fetch_add(1, Ordering::SeqCst);
                    drop(turn);
                });
            }
        });
        assert_eq!(done.into_inner(), 8);
        assert!(most.into_inner() <= 2);
    }

    #[test]
    fn who_is_told_to_stop_waits_no_longer() {
        let (turns, stop) = (Arc::new(Turns::new(1)), AtomicBool::new(false));
        let held = turns.take(&stop).expect("is free");
        thread::scope(|scope| {
            let waits = scope.spawn(|| turns.take(&stop).is_none());
            stop.store(true, Ordering::Relaxed);
            assert!(waits.join().expect("does not panic"));
        });
        drop(held);
    }
}
