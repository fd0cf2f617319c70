//! Calls that do not return, found by looking twice.

use crate::dispatch::{Scan, StuckCall};
use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// Looks at all calls now and then, and says which have been running since a
/// look that is old enough.
pub(super) struct StuckCalls {
    after: Duration,
    looks: VecDeque<(Instant, Scan)>,
    reported: Vec<StuckCall>,
}

/// Looks that are kept: what is older than the last of them is told apart by
/// that one.
const LOOKS_MAX: usize = 4;

impl StuckCalls {
    pub(super) fn new(after: Duration) -> Self {
        StuckCalls { after, looks: VecDeque::new(), reported: Vec::new() }
    }

    /// How long to wait between two looks.
    pub(super) fn interval(&self) -> Duration {
        self.after / (LOOKS_MAX as u32 - 1)
    }

    /// Compares a look with earlier ones. Returns the calls that are newly found stuck, and for how
    /// long at least.
    pub(super) fn look(&mut self, now: Instant, scan: Scan) -> Vec<(StuckCall, Duration)> {
        let mut found = Vec::new();
        if let Some((then, oldest)) = self.looks.front()
            && now.duration_since(*then) >= self.after
        {
            let stuck = scan.stuck_since(oldest);
            for call in &stuck {
                if !self.reported.contains(call) {
                    found.push((*call, now.duration_since(*then)));
                }
            }
            self.reported = stuck;
        }
        self.looks.push_back((now, scan));
        while self.looks.len() > LOOKS_MAX {
            self.looks.pop_front();
        }
        found
    }
}
