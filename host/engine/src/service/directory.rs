//! The plugins of a host, by name.

use super::{
    error::CallError,
    kept::{KeptCall, KeptCalls},
    plugin_tables::Tables,
    serving::Serving,
    timer::Timer,
};
use crate::{
    clock::monotonic_ns,
    dispatch::{Arm, Refused, Route, Slot},
    id::PluginName,
    load::{AnswerLimits, Interfaces},
};
use arc_swap::ArcSwap;
use replug_abi::Status;
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

/// Bounds of calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ServiceLimits {
    /// How long a call waits at a closed gate.
    pub(crate) gate_timeout: Duration,
    /// Bytes of a call's body.
    pub(crate) body_bytes_max: usize,
    /// Bytes of an answer's body.
    pub(crate) answer_bytes_max: usize,
    /// Calls of one plugin in flight; unbounded without.
    pub(crate) in_flight_max: Option<usize>,
}

/// One plugin: where its versions are published, whichever that is.
pub(crate) struct Entry {
    pub(crate) name: PluginName,
    pub(crate) slot: Slot<Serving>,
    in_flight: AtomicUsize,
    /// Calls whose deadline had passed when their answer came, or that were
    /// cancelled by it.
    pub(crate) deadlines_passed: AtomicU64,
    /// Callers that go to one arm of a split, whatever its share.
    pins: ArcSwap<BTreeMap<String, Arm>>,
    /// The calls that came last, if they are to be kept.
    kept: Option<KeptCalls>,
    changing: parking_lot::Mutex<()>,
}

/// The right to change what a plugin's slot publishes, held until it is written
/// down everywhere who serves. No hook runs and nothing is waited for meanwhile.
pub(crate) type Change<'a> = parking_lot::MutexGuard<'a, ()>;

impl Entry {
    /// Counts a call in, if the limit allows. Without a limit nothing is
    /// counted here: several threads would write one counter.
    pub(super) fn admit(self: &Arc<Self>, limits: &ServiceLimits) -> Result<Admitted, CallError> {
        let Some(max) = limits.in_flight_max else {
            return Ok(Admitted(None));
        };
        // Relaxed: a bound on load, which orders nothing.
        if self.in_flight.fetch_add(1, Ordering::Relaxed) >= max {
            self.in_flight.fetch_sub(1, Ordering::Relaxed);
            return Err(CallError::Overloaded { plugin: self.name.clone(), in_flight_max: max });
        }
        Ok(Admitted(Some(Arc::clone(self))))
    }

    /// Refuses a body that is larger than allowed; keeps the call if that is asked.
    pub(super) fn take_in(&self, limits: &ServiceLimits, method: &str, body: &[u8]) -> Result<(), CallError> {
        let bytes_max = limits.body_bytes_max;
        if body.len() <= bytes_max {
            if let Some(kept) = &self.kept {
                kept.note(method, body);
            }
            return Ok(());
        }
        Err(CallError::TooLarge { plugin: self.name.clone(), what: "the body", bytes_max })
    }

    /// How a call chooses its version while two of them serve: a caller that is
    /// pinned by its pin, others by their key, the rest by sequence.
    pub(super) fn route<'k>(&self, caller: &str, key: &'k [u8]) -> Route<'k> {
        if !caller.is_empty()
            && let Some(arm) = self.pins.load().get(caller)
        {
            return Route::Arm(*arm);
        }
        if key.is_empty() { Route::Sequence } else { Route::Key(key) }
    }

    /// Waits for whoever changes what the slot publishes just now.
    pub(crate) fn change(&self) -> Change<'_> {
        self.changing.lock()
    }

    /// The same, but for no longer than this: a journal of tables is told what
    /// changes, and its disk may hang.
    pub(crate) fn change_within(&self, patience: Duration) -> Option<Change<'_>> {
        self.changing.try_lock_for(patience)
    }

    /// The calls that came last, the oldest first; none unless they are kept.
    pub(crate) fn kept_calls(&self) -> Vec<KeptCall> {
        self.kept.as_ref().map(KeptCalls::all).unwrap_or_default()
    }

    /// Puts other pins in the place of those that there are.
    pub(crate) fn pin(&self, pins: BTreeMap<String, Arm>) {
        self.pins.store(Arc::new(pins));
    }

    /// The callers that go to one arm, by name.
    pub(crate) fn pins(&self) -> Arc<BTreeMap<String, Arm>> {
        self.pins.load_full()
    }

    /// Counts a call as late if its answer came after its deadline, or if the
    /// plugin itself gave up at it.
    pub(super) fn note_deadline(&self, deadline_ns: u64, status: Status) {
        let late = deadline_ns != 0 && monotonic_ns() > deadline_ns;
        if late || status == Status::DEADLINE {
            // A statistic, which orders nothing.
            self.deadlines_passed.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Counts a call out when it ends.
pub(super) struct Admitted(Option<Arc<Entry>>);

impl Drop for Admitted {
    fn drop(&mut self) {
        if let Some(entry) = &self.0 {
            entry.in_flight.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// How a name is known. A name costs nothing once nobody holds its entry,
/// unless a file of it was seen: names may come from the callers of a service.
#[derive(Clone)]
enum Known {
    /// Somebody asked for it.
    Asked(Weak<Entry>),
    /// A file of it was to be started.
    Seen(Arc<Entry>),
}

impl Known {
    fn entry(&self) -> Option<Arc<Entry>> {
        match self {
            Known::Asked(entry) => entry.upgrade(),
            Known::Seen(entry) => Some(Arc::clone(entry)),
        }
    }
}

/// All plugins of one host, and what their calls share.
pub(crate) struct Directory {
    entries: ArcSwap<BTreeMap<PluginName, Known>>,
    changing: Mutex<()>,
    pub(crate) limits: ServiceLimits,
    /// The typed interfaces that may be called; of every version of this host.
    pub(crate) interfaces: Interfaces,
    /// The tables of all plugins.
    pub(crate) tables: Arc<Tables>,
    /// How many calls of which plugins are kept.
    keep_calls: BTreeMap<String, usize>,
    pub(super) timer: Timer,
    stopped: AtomicBool,
}

impl Directory {
    pub(crate) fn new(limits: ServiceLimits, interfaces: Interfaces, tables: Arc<Tables>) -> Self {
        Directory {
            entries: ArcSwap::default(),
            changing: Mutex::new(()),
            limits,
            interfaces,
            tables,
            keep_calls: BTreeMap::new(),
            timer: Timer::default(),
            stopped: AtomicBool::new(false),
        }
    }

    /// Keeps so many calls of these plugins. To be said before the first entry.
    pub(crate) fn keeping_calls(mut self, count_by_plugin: BTreeMap<String, usize>) -> Self {
        self.keep_calls = count_by_plugin;
        self
    }

    /// The plugin of this name, if the host has heard of it.
    pub(crate) fn find(&self, name: &str) -> Option<Arc<Entry>> {
        self.entries.load().get(name).and_then(Known::entry)
    }

    /// The plugin of this name, which may not have a version yet.
    pub(crate) fn entry(&self, name: &PluginName) -> Arc<Entry> {
        if let Some(entry) = self.find(name.as_str()) {
            return entry;
        }
        self.change(|entries| {
            // Those that nobody holds are gone for good: nobody can hold them
            // again. Names that come and go thereby leave nothing behind.
            entries.retain(|_, known| known.entry().is_some());
            if let Some(entry) = entries.get(name).and_then(Known::entry) {
                return entry;
            }
            let entry = Arc::new(Entry {
                name: name.clone(),
                slot: Slot::new(self.limits.gate_timeout),
                in_flight: AtomicUsize::new(0),
                deadlines_passed: AtomicU64::new(0),
                pins: ArcSwap::default(),
                kept: self.keep_calls.get(name.as_str()).map(|count| KeptCalls::new(*count)),
                changing: parking_lot::Mutex::new(()),
            });
            entries.insert(name.clone(), Known::Asked(Arc::downgrade(&entry)));
            entry
        })
    }

    /// A version of the plugin is about to be started: from now on it is one of
    /// [`all`](Self::all).
    pub(crate) fn see(&self, name: &PluginName) {
        if let Some(Known::Seen(_)) = self.entries.load().get(name) {
            return;
        }
        let entry = self.entry(name);
        self.change(|entries| entries.insert(name.clone(), Known::Seen(entry)));
    }

    /// All plugins of which the host was to start a version, by name.
    pub(crate) fn all(&self) -> Vec<Arc<Entry>> {
        let entries = self.entries.load();
        let seen = entries.values().filter(|known| matches!(known, Known::Seen(_)));
        seen.filter_map(Known::entry).collect()
    }

    fn change<R>(&self, change: impl FnOnce(&mut BTreeMap<PluginName, Known>) -> R) -> R {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut entries = BTreeMap::clone(&self.entries.load());
        let result = change(&mut entries);
        self.entries.store(Arc::new(entries));
        result
    }

    /// The host has ended: calls that are still pending are told so.
    pub(crate) fn stop(&self) {
        // Release: partner is `is_stopped`. Before the timer, which wakes those
        // that wait, so that they find it.
        self.stopped.store(true, Ordering::Release);
        self.timer.stop();
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    /// Why a call did not reach a plugin.
    #[cold]
    pub(super) fn refused(&self, entry: &Entry, source: Refused) -> CallError {
        if source == Refused::NotActive && self.is_stopped() {
            return CallError::Stopped;
        }
        CallError::Refused { plugin: entry.name.clone(), source }
    }

    pub(crate) fn answer_limits(&self) -> AnswerLimits {
        AnswerLimits { body_bytes_max: self.limits.answer_bytes_max }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{table::Limits, table_store::TableStoreOptions};

    fn directory() -> Directory {
        let limits = ServiceLimits {
            gate_timeout: Duration::ZERO,
            body_bytes_max: 0,
            answer_bytes_max: 0,
            in_flight_max: None,
        };
        let tables = Tables::new(Limits::NONE, "nowhere".into(), TableStoreOptions::default());
        Directory::new(limits, Interfaces::default(), tables)
    }

    fn name(name: &str) -> PluginName {
        name.parse().expect("a name")
    }

    #[test]
    fn who_only_looks_does_not_wait_for_a_change_that_takes_long() {
        let entry = directory().entry(&name("slow"));
        let change = entry.change();
        assert!(entry.change_within(Duration::from_millis(1)).is_none());
        drop(change);
        assert!(entry.change_within(Duration::from_millis(1)).is_some());
    }

    #[test]
    fn names_that_are_only_asked_for_leave_nothing_behind() {
        let directory = directory();
        let held = directory.entry(&name("held"));
        for number in 0..100 {
            let _ = directory.entry(&name(&format!("plugin{number}")));
        }
        assert!(directory.entries.load().len() <= 3);
        assert!(directory.all().is_empty());
        assert!(directory.find("plugin7").is_none());
        directory.see(&name("held"));
        assert!(directory.all().iter().all(|entry| Arc::ptr_eq(entry, &held)));
        assert_eq!(directory.all().len(), 1);
        drop(held);
        assert!(directory.find("held").is_some());
    }
}
