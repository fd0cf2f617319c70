//! Memory of rows that were freed, given back to the system now and then: on a thread of its
//! own, since it takes milliseconds if there were many, and callers are spared it.

use crate::table;
use std::{
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// Between two times. What is needed again sooner is not given away.
const EVERY: Duration = Duration::from_secs(10);

#[derive(Default)]
pub(super) struct SpareMemory {
    /// None until the first look.
    due: Option<Instant>,
    thread: Option<JoinHandle<()>>,
}

impl SpareMemory {
    /// Begins to give it back if it is time, and the last time is over.
    pub(super) fn look(&mut self, now: Instant) {
        let due = *self.due.get_or_insert(now + EVERY);
        let is_free = self.thread.as_ref().is_none_or(JoinHandle::is_finished);
        if now < due || !is_free || !table::is_prepared() {
            return;
        }
        self.due = Some(now + EVERY);
        // Without a thread to be had it is done the next time.
        self.thread = thread::Builder::new().name("replug-memory".to_owned()).spawn(table::give_back).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::{Limits, Table};

    #[test]
    fn memory_is_given_back_when_it_is_time_and_by_one_thread_at_a_time() {
        let _table = Table::new("rows", Limits::NONE);
        let (mut spare, begun) = (SpareMemory::default(), Instant::now());
        spare.look(begun);
        spare.look(begun + EVERY / 2);
        assert!(spare.thread.is_none(), "it is too early");
        spare.look(begun + EVERY);
        let thread = spare.thread.take().expect("it is time");
        thread.join().expect("does not panic");
        spare.look(begun + EVERY * 3 / 2);
        assert!(spare.thread.is_none(), "it was done a moment ago");
    }
}
