//! Where events are kept and read.

use super::{Event, EventKind, SCHEMA_VERSION};
use std::{
    collections::VecDeque,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// Events that a late reader can still get.
pub const EVENTS_KEPT_MAX: usize = 2_048;

/// Where a host writes its events.
#[derive(Debug, Default)]
pub(crate) struct EventLog {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    kept: VecDeque<Arc<Event>>,
    last: u64,
    closed: bool,
}

impl EventLog {
    /// Numbers an event and keeps it; it is then to be [told](Self::tell). Runs
    /// no foreign code, so it may come while a lock is held.
    pub(crate) fn note(
        &self,
        plugin: Option<String>,
        version: Option<String>,
        kind: EventKind,
    ) -> Arc<Event> {
        let event = self.lock().push(plugin, version, kind, unix_ms());
        self.changed.notify_all();
        event
    }

    /// Tells whoever traces the host, which is foreign code and may read this
    /// log.
    pub(crate) fn tell(event: &Event) {
        tracing::debug!(
            event = event.kind.name(),
            plugin = event.plugin.as_deref().unwrap_or(""),
            version = event.version.as_deref().unwrap_or(""),
            "event {}",
            event.sequence
        );
    }

    /// Numbers an event, keeps it and tells it.
    pub(crate) fn write(&self, plugin: Option<String>, version: Option<String>, kind: EventKind) {
        Self::tell(&self.note(plugin, version, kind));
    }

    /// No event comes any more; readers are told.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn push(
        &mut self,
        plugin: Option<String>,
        version: Option<String>,
        kind: EventKind,
        unix_ms: u64,
    ) -> Arc<Event> {
        let unix_ms = self.kept.back().map_or(unix_ms, |before| before.unix_ms.max(unix_ms));
        let sequence = self.last + 1;
        let event = Arc::new(Event { schema: SCHEMA_VERSION, sequence, unix_ms, plugin, version, kind });
        if self.kept.len() == EVENTS_KEPT_MAX {
            self.kept.pop_front();
        }
        self.kept.push_back(Arc::clone(&event));
        self.last = sequence;
        event
    }
}

fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// A reader's place in a host's events.
///
/// Not shared between threads; each reader has its own.
#[derive(Debug, Clone)]
pub struct Events {
    log: Arc<EventLog>,
    next: u64,
}

/// What a reader of events gets.
#[derive(Debug, Clone, PartialEq)]
pub enum Next {
    /// The next event.
    Event(Arc<Event>),
    /// The reader was too slow: this many events are lost to it.
    Lost(u64),
    /// Nothing happened in time.
    Nothing,
    /// The host has ended.
    Ended,
}

impl Events {
    /// Reads what comes from now on.
    pub(crate) fn from_now(log: Arc<EventLog>) -> Self {
        let next = log.lock().last + 1;
        Events { log, next }
    }

    /// Reads from a number on; 1 is the first event.
    pub(crate) fn from_sequence(log: Arc<EventLog>, sequence: u64) -> Self {
        Events { log, next: sequence.max(1) }
    }

    /// Waits for the next event, at most `timeout`; [`Duration::MAX`] is no
    /// limit.
    pub fn next_within(&mut self, timeout: Duration) -> Next {
        self.next_until(Instant::now().checked_add(timeout))
    }

    fn next_until(&mut self, until: Option<Instant>) -> Next {
        let log = Arc::clone(&self.log);
        let mut state = log.lock();
        loop {
            let first = state.last + 1 - state.kept.len() as u64;
            if self.next < first {
                let lost = first - self.next;
                self.next = first;
                return Next::Lost(lost);
            }
            if let Some(event) = usize::try_from(self.next - first).ok().and_then(|at| state.kept.get(at)) {
                self.next += 1;
                return Next::Event(Arc::clone(event));
            }
            if state.closed {
                return Next::Ended;
            }
            let Some(until) = until else {
                state = log.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Next::Nothing;
            }
            state = log.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits for an event that `wanted` accepts; `None` when none came in time.
    pub fn wait_for(
        &mut self,
        timeout: Duration,
        mut wanted: impl FnMut(&Event) -> bool,
    ) -> Option<Arc<Event>> {
        let until = Instant::now().checked_add(timeout);
        loop {
            match self.next_until(until) {
                Next::Event(event) if wanted(&event) => return Some(event),
                Next::Event(_) | Next::Lost(_) => {}
                Next::Nothing | Next::Ended => return None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_reader_is_told_what_it_lost() {
        let log = Arc::new(EventLog::default());
        let mut reader = Events::from_now(Arc::clone(&log));
        for _ in 0..EVENTS_KEPT_MAX + 3 {
            log.write(None, None, EventKind::Retired);
        }
        assert_eq!(reader.next_within(Duration::ZERO), Next::Lost(3));
        assert!(matches!(reader.next_within(Duration::ZERO), Next::Event(event) if event.sequence == 4));
    }

    #[test]
    fn a_reader_waits_and_is_told_the_end() {
        let log = Arc::new(EventLog::default());
        let mut reader = Events::from_sequence(Arc::clone(&log), 0);
        assert_eq!(reader.next_within(Duration::ZERO), Next::Nothing);
        log.write(Some("a".into()), None, EventKind::Retired);
        log.close();
        assert!(matches!(reader.next_within(Duration::ZERO), Next::Event(_)));
        assert_eq!(reader.next_within(Duration::from_secs(60)), Next::Ended);
    }

    #[test]
    fn times_never_go_back_though_the_clock_be_set_back() {
        let mut state = State::default();
        let mut at = |ms| state.push(None, None, EventKind::Retired, ms).unix_ms;
        assert_eq!([at(5), at(3), at(6)], [5, 5, 6]);
    }

    #[test]
    fn a_reader_without_a_limit_waits_for_what_comes() {
        let log = Arc::new(EventLog::default());
        let mut reader = Events::from_now(Arc::clone(&log));
        let waiting = std::thread::spawn(move || reader.wait_for(Duration::MAX, |_| true));
        log.write(None, None, EventKind::Retired);
        let event = waiting.join().expect("no panic").expect("it came");
        assert_eq!(event.sequence, 1);
    }
}
