//! Wakes async calls whose deadline has passed. Callers need no runtime, so
//! this is a thread of the host. It begins with the first call that has to wait,
//! since many hosts never have one, and sleeps while there is nothing to wait
//! for.

use crate::{clock::monotonic_ns, dispatch::wake};
use std::{
    collections::BTreeMap,
    sync::{Arc, Condvar, Mutex, PoisonError},
    task::Waker,
    thread::{self, JoinHandle},
    time::Duration,
};

/// One entry: a deadline and the number that keeps equal ones apart.
pub(crate) type Key = (u64, u64);

#[derive(Debug, Default)]
pub(crate) struct Timer {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: BTreeMap<Key, Waker>,
    next: u64,
    stopped: bool,
    /// None until the first call waits.
    thread: Option<JoinHandle<()>>,
}

impl Timer {
    /// Wakes `waker` once: at the deadline (`CLOCK_MONOTONIC`, nanoseconds), or
    /// when the timer stops; at once if it has stopped, or if the system gives no
    /// thread: who is woken looks at its deadline itself, and asks again.
    pub(crate) fn wake_at(&self, deadline_ns: u64, waker: Waker) -> Key {
        let mut state = self.shared.lock();
        let key = (deadline_ns, state.next);
        state.next += 1;
        if state.stopped || !self.runs(&mut state) {
            drop(state);
            wake(waker);
            return key;
        }
        let is_first = state.waiting.first_key_value().is_none_or(|(first, _)| key < *first);
        state.waiting.insert(key, waker);
        drop(state);
        if is_first {
            self.shared.changed.notify_one();
        }
        key
    }

    /// Whether there is a thread, which there is from now on if the system has one.
    fn runs(&self, state: &mut State) -> bool {
        if state.thread.is_none() {
            let shared = Arc::clone(&self.shared);
            let begun = thread::Builder::new().name("replug-timer".to_owned()).spawn(move || shared.run());
            state.thread = begun.inspect_err(|error| tracing::warn!(%error, "no thread for deadlines")).ok();
        }
        state.thread.is_some()
    }

    /// Takes an entry back.
    pub(crate) fn cancel(&self, key: Key) {
        let waker = self.shared.lock().waiting.remove(&key);
        // Foreign code, and so after the lock.
        drop(waker);
    }

    /// Ends the thread, and wakes all that wait: nobody would later.
    pub(crate) fn stop(&self) {
        let thread = {
            let mut state = self.shared.lock();
            state.stopped = true;
            state.thread.take()
        };
        self.shared.changed.notify_one();
        if let Some(thread) = thread {
            // It does nothing that panics: wakers are kept from it.
            let _ = thread.join();
        }
        let waiting = std::mem::take(&mut self.shared.lock().waiting);
        waiting.into_values().for_each(wake);
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        let mut state = self.lock();
        while !state.stopped {
            let Some((&(deadline_ns, _), _)) = state.waiting.first_key_value() else {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let left = deadline_ns.saturating_sub(monotonic_ns());
            if left > 0 {
                let left = Duration::from_nanos(left);
                state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
                continue;
            }
            if let Some((_, waker)) = state.waiting.pop_first() {
                // Outside of the lock: waking may run any code.
                drop(state);
                wake(waker);
                state = self.lock();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{sync::mpsc, task::Wake};

    struct Tell(mpsc::SyncSender<u32>, u32);

    impl Wake for Tell {
        fn wake(self: Arc<Self>) {
            self.0.send(self.1).expect("the test listens");
        }
    }

    #[test]
    fn deadlines_are_woken_in_order_and_cancelled_ones_are_not() {
        let timer = Timer::default();
        let (send, receive) = mpsc::sync_channel(8);
        let waker = |number| Waker::from(Arc::new(Tell(send.clone(), number)));
        let now = monotonic_ns();
        timer.wake_at(now + 1_000_000_000, waker(3));
        let second = timer.wake_at(now + 900_000_000, waker(2));
        timer.wake_at(now + 10_000_000, waker(1));
        timer.cancel(second);
        let within = Duration::from_secs(30);
        assert_eq!(receive.recv_timeout(within), Ok(1));
        assert_eq!(receive.recv_timeout(within), Ok(3));
        timer.stop();
        assert!(receive.try_recv().is_err());
    }

    #[test]
    fn who_waits_when_the_timer_stops_is_woken_and_who_comes_later_at_once() {
        let timer = Timer::default();
        let (send, receive) = mpsc::sync_channel(8);
        let waker = |number| Waker::from(Arc::new(Tell(send.clone(), number)));
        timer.wake_at(u64::MAX, waker(1));
        timer.stop();
        assert_eq!(receive.try_recv(), Ok(1));
        timer.wake_at(u64::MAX, waker(2));
        assert_eq!(receive.try_recv(), Ok(2));
    }

    #[test]
    fn a_waker_that_panics_takes_no_deadline_from_others() {
        struct Bomb;
        impl Wake for Bomb {
            fn wake(self: Arc<Self>) {
                panic!("in the executor");
            }
        }
        let timer = Timer::default();
        let (send, receive) = mpsc::sync_channel(1);
        timer.wake_at(1, Waker::from(Arc::new(Bomb)));
        timer.wake_at(2, Waker::from(Arc::new(Tell(send, 2))));
        assert_eq!(receive.recv_timeout(Duration::from_secs(30)), Ok(2));
    }
}
