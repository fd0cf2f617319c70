//! Injected time: what is monotonic, what the calendar says.
//!
//! Logic that depends on time takes a [`Clock`], so that tests move time by
//! hand instead of sleeping. Dwell times, deadlines and timeouts use
//! [`Clock::now`], which no clock jump touches; [`Clock::wall`] is for records
//! that people read, and never decides anything.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

/// Where the engine gets its time from.
pub trait Clock: Send + Sync {
    /// Monotonic time since a fixed start; comparable only within one clock.
    fn now(&self) -> Duration;

    /// Calendar time; may jump either way.
    fn wall(&self) -> SystemTime;
}

/// The machine's clocks. [`Clock::now`] is `CLOCK_MONOTONIC`, so that every
/// `SystemClock` of a machine, and every deadline that crosses the ABI, counts
/// from the same start.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Duration {
        Duration::from_nanos(monotonic_ns())
    }

    fn wall(&self) -> SystemTime {
        SystemTime::now()
    }
}

/// Nanoseconds of `CLOCK_MONOTONIC`: the unit and the clock of every deadline
/// that is handed across the ABI, where an `Instant` cannot go.
pub fn monotonic_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid, writable timespec for the length of the call.
    let status = unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    // Linux always has this clock; it counts from boot and is never negative.
    debug_assert_eq!(status, 0, "CLOCK_MONOTONIC cannot be read");
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// A clock that moves only when it is told to; both readings move together.
///
/// ```
/// use replug_host::clock::{Clock, ManualClock};
/// use std::time::Duration;
///
/// let clock = ManualClock::default();
/// clock.advance(Duration::from_secs(60));
/// assert_eq!(clock.now(), Duration::from_secs(60));
/// ```
#[derive(Debug, Default)]
pub struct ManualClock {
    elapsed: Mutex<Duration>,
}

impl ManualClock {
    /// Moves the clock forward.
    pub fn advance(&self, by: Duration) {
        *self.elapsed.lock().unwrap_or_else(PoisonError::into_inner) += by;
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Duration {
        *self.elapsed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wall(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + self.now()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_clock_and_abi_deadlines_count_from_the_same_start() {
        let before = monotonic_ns();
        let now = SystemClock.now().as_nanos() as u64;
        let after = monotonic_ns();
        assert!(before <= now && now <= after);
    }

    #[test]
    fn a_manual_clock_moves_only_by_hand() {
        let clock = ManualClock::default();
        assert_eq!(clock.now(), Duration::ZERO);
        clock.advance(Duration::from_millis(5));
        assert_eq!(clock.now(), Duration::from_millis(5));
        assert_eq!(clock.wall(), SystemTime::UNIX_EPOCH + Duration::from_millis(5));
    }
}
