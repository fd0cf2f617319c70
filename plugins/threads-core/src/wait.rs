//! Threads that wait: one in a call, one beside all calls.

use replug_plugin_api::{Context, Result};
use std::{
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// Holds the caller's thread for `time`, on a condition variable that nobody
/// notifies.
pub fn sleep_blocking(time: Duration) {
    let never = Mutex::new(());
    let guard = never.lock().unwrap_or_else(PoisonError::into_inner);
    let waited = Condvar::new().wait_timeout_while(guard, time, |()| true);
    drop(waited);
}

/// Starts a thread that counts `beats` until the host stops the instance.
///
/// # Errors
/// When the system cannot start another thread.
pub fn heartbeat(context: &Context, pause: Duration, beats: &Arc<AtomicU64>) -> Result<()> {
    let beats = Arc::clone(beats);
    context.spawn("heartbeat", move |stop| {
        loop {
            // Relaxed: a statistic.
            beats.fetch_add(1, Ordering::Relaxed);
            if stop.wait(pause) {
                break;
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn a_blocking_sleep_lasts_as_long_as_asked() {
        let began = Instant::now();
        let time = Duration::from_millis(20);
        sleep_blocking(time);
        assert!(began.elapsed() >= time);
    }
}
