//! One bucket: its level, and how it fills again.

use std::time::{Duration, Instant};

/// How large buckets are and how fast they fill.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate {
    /// Tokens in a full bucket.
    pub capacity: f64,
    /// Tokens per second; 0 for buckets that never fill again.
    pub refill_per_s: f64,
}

impl Rate {
    /// Whether buckets can work at this rate.
    ///
    /// # Errors
    /// Names the number that is wrong.
    pub fn check(&self) -> Result<(), String> {
        if !(self.capacity.is_finite() && self.capacity > 0.0) {
            return Err(format!("capacity must be above 0, found {}", self.capacity));
        }
        if !(self.refill_per_s.is_finite() && self.refill_per_s >= 0.0) {
            return Err(format!("refill_per_s must be 0 or above, found {}", self.refill_per_s));
        }
        Ok(())
    }
}

/// What is left of one client's tokens, and how often the client took some.
///
/// The time of the last refill is not part of it: a bucket that is handed over
/// fills again from the moment of the hand-over, so a pause gives no tokens.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bucket {
    /// Tokens.
    pub level: f64,
    /// Takes that were allowed, ever. Exact.
    pub taken: u64,
}

impl Bucket {
    pub(crate) fn full(rate: &Rate) -> Self {
        Bucket { level: rate.capacity, taken: 0 }
    }
}

/// A bucket in use.
pub(crate) struct Filling {
    pub(crate) bucket: Bucket,
    filled_at: Instant,
}

impl Filling {
    pub(crate) fn new(bucket: Bucket, now: Instant) -> Self {
        Filling { bucket, filled_at: now }
    }

    /// Takes `cost` tokens if there are so many. Whether there were.
    pub(crate) fn take(&mut self, rate: &Rate, cost: f64, now: Instant) -> bool {
        self.fill(rate, now.saturating_duration_since(self.filled_at));
        self.filled_at = self.filled_at.max(now);
        let allowed = self.bucket.level >= cost;
        if allowed {
            self.bucket.level -= cost;
            self.bucket.taken += 1;
        }
        allowed
    }

    fn fill(&mut self, rate: &Rate, time: Duration) {
        let level = self.bucket.level + rate.refill_per_s * time.as_secs_f64();
        self.bucket.level = level.min(rate.capacity);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate { capacity: 2.0, refill_per_s: 1.0 };

    #[test]
    fn an_empty_bucket_refuses_until_it_has_filled_again() {
        let start = Instant::now();
        let mut filling = Filling::new(Bucket::full(&RATE), start);
        assert!(filling.take(&RATE, 1.0, start));
        assert!(filling.take(&RATE, 1.0, start));
        assert!(!filling.take(&RATE, 1.0, start));
        assert!(!filling.take(&RATE, 1.0, start + Duration::from_millis(500)));
        assert!(filling.take(&RATE, 1.0, start + Duration::from_secs(1)));
        assert_eq!(filling.bucket.taken, 3);
    }

    #[test]
    fn a_bucket_holds_no_more_than_its_capacity() {
        let start = Instant::now();
        let mut filling = Filling::new(Bucket::full(&RATE), start);
        let later = start + Duration::from_secs(3600);
        assert!(!filling.take(&RATE, 2.5, later));
        assert_eq!(filling.bucket.level, RATE.capacity);
    }

    #[test]
    fn a_time_before_the_last_one_takes_nothing_away() {
        let start = Instant::now();
        let later = start + Duration::from_secs(10);
        let mut filling = Filling::new(Bucket::full(&RATE), later);
        assert!(filling.take(&RATE, 2.0, later));
        assert!(!filling.take(&RATE, 1.0, start));
        assert!(!filling.take(&RATE, 1.0, later));
    }

    #[test]
    fn rates_that_cannot_work_are_named() {
        let check = |capacity, refill_per_s| {
            let rate = Rate { capacity, refill_per_s };
            rate.check().err().unwrap_or_default()
        };
        assert_eq!(check(1.0, 0.0), "");
        assert!(check(0.0, 1.0).contains("capacity"));
        assert!(check(f64::NAN, 1.0).contains("capacity"));
        assert!(check(1.0, -1.0).contains("refill"));
        assert!(check(1.0, f64::INFINITY).contains("refill"));
    }
}
