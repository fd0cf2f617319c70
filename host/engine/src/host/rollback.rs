//! Going back at once: to the version that is kept ready, or out of a trial.
//!
//! A version that was replaced is kept as it is for the time of the probation,
//! loaded and active, so that the way back is a pointer. Going back does not
//! wait for the command loop, which may be in the middle of another plugin's
//! hook: it runs on the thread of whoever asks. So does what tables are told then,
//! which may wait for a disk; the plugin's next step waits for that, and the loop
//! does not. What else is left to do after the pointer is stored, the loop does on
//! its next turn.

use super::{
    control::{Control, nanos},
    lock::DataLock,
    shared::{Returned, Shared, Standby},
};
use crate::{
    clock::monotonic_ns,
    dispatch::{Holder, NotPublished, NotSplit, Retired},
    event::{EventKind, EventLog, FailureReport},
    failure::Code,
    id::{PluginName, VersionId},
    service::{Entry, Serving},
};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// A plugin went back to the version before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RolledBack {
    /// The version that serves no more. It is not tried again until its file
    /// changes.
    pub from: VersionId,
    /// The version that serves again.
    pub to: VersionId,
    /// From the command to the stored pointer.
    pub stored: Duration,
    /// How long the barrier took that came after, and made calls in flight
    /// visible.
    pub barrier: Duration,
    /// Calls that were in flight on the version that is left; leases, as async
    /// calls have them, are not counted.
    pub in_flight: usize,
}

impl Shared {
    /// Makes the version before serve again.
    pub(super) fn roll_back(
        &self,
        name: &PluginName,
        from: Option<&VersionId>,
    ) -> Result<RolledBack, FailureReport> {
        let accepted = Instant::now();
        let entry = self.directory.find(name.as_str()).ok_or_else(|| unknown_plugin(name))?;
        let change = entry.change();
        self.is_latest(name, from)?;
        let (left, to) = match entry.slot.roll_back() {
            Ok(challenger) => (challenger, None),
            Err(NotSplit) => {
                let Standby { retired, until } = self.standby().remove(name).ok_or_else(|| not_warm(name))?;
                let id = retired.payload().id().clone();
                let left = serve_again(&entry, retired).map_err(|NotPublished { version, reason }| {
                    self.standby().insert(name.clone(), Standby { retired: version.retire(), until });
                    FailureReport::of(&reason)
                })?;
                (left, Some(id))
            }
        };
        let stored = accepted.elapsed();
        left.settle();
        let barrier = accepted.elapsed() - stored;
        let in_flight = left.in_flight().stack;
        let serving = entry.slot.look(Holder::new("tables", monotonic_ns()));
        let theirs = serving.map(|serving| Arc::clone(serving.tables()));
        let tables = Arc::clone(left.payload().tables());
        let from = left.payload().id().clone();
        // Nothing is begun with the plugin before its tables know of it, and a host that
        // ends waits for all that is written of it.
        let way_back = WayBack::begin(self, name);
        let to = self.write_down(&from, to);
        // After the catalog: who takes it from here looks there what to do next.
        self.returned().push(Returned { retired: left, since: accepted });
        let (stored_ns, barrier_ns) = (nanos(stored), nanos(barrier));
        let event =
            EventKind::RolledBack { to: to.to_string(), in_flight: in_flight as u64, stored_ns, barrier_ns };
        let event = self.note(&from, event);
        drop(change);
        EventLog::tell(&event);
        // It is tables that may wait for a disk, and nobody waits for this thread.
        if let Err(problem) = tables.roll_back(theirs.as_deref()) {
            self.event(Some(&from), EventKind::StateProblem { failure: FailureReport::of(&problem) });
        }
        // It is done; that a host which starts again knows of it is another matter.
        if let Err(failure) = self.keep_choices() {
            self.event(Some(&from), EventKind::StateProblem { failure });
        }
        drop(way_back);
        Ok(RolledBack { from, to, stored, barrier, in_flight })
    }

    /// Whether `from` is what came last: the version that is being tried, or the
    /// one that serves.
    fn is_latest(&self, name: &PluginName, from: Option<&VersionId>) -> Result<(), FailureReport> {
        let Some(from) = from else { return Ok(()) };
        let catalog = self.catalog();
        let latest = catalog.get(name.as_str()).and_then(|versions| versions.trial().or(versions.active()));
        if latest == Some(from) {
            return Ok(());
        }
        let message = match latest {
            Some(latest) => format!("{from} was to be left, and {latest} serves"),
            None => format!("{from} was to be left, and no version serves"),
        };
        Err(FailureReport::with_code(Code::RollbackNotWarm, message))
    }

    /// Notes who serves in the catalog; without `to` it is who did before.
    fn write_down(&self, from: &VersionId, to: Option<VersionId>) -> VersionId {
        let mut catalog = self.catalog();
        let versions = catalog.get_mut(from.name.as_str()).expect("what serves is in the catalog");
        let to = to.or_else(|| versions.active().cloned()).expect("a trial stands beside what serves");
        versions.rolled_back(from, &to);
        to
    }
}

/// Tells the loop when it is over, that of a panic too.
struct WayBack<'a> {
    shared: &'a Shared,
    name: &'a PluginName,
    /// A host that ends waits for it, but not for ever.
    lock: Option<Arc<DataLock>>,
}

impl<'a> WayBack<'a> {
    fn begin(shared: &'a Shared, name: &'a PluginName) -> Self {
        shared.ways_back().under_way.push(name.clone());
        WayBack { shared, name, lock: shared.lock.upgrade() }
    }
}

impl Drop for WayBack<'_> {
    fn drop(&mut self) {
        // First, so that the directory is free when the host has ended.
        drop(self.lock.take());
        let mut ways_back = self.shared.ways_back();
        if let Some(at) = ways_back.under_way.iter().position(|name| name == self.name) {
            let name = ways_back.under_way.swap_remove(at);
            ways_back.ended.push(name);
        }
        drop(ways_back);
        self.shared.nudge();
    }
}

impl Control {
    /// Keeps a version that was replaced ready for the time of the probation, if
    /// there is one and `may_go_back`. What was kept before, and `old` if it is
    /// not kept, come back to be unloaded.
    pub(super) fn stand_by(
        &self,
        name: &PluginName,
        old: Option<Retired<Serving>>,
        may_go_back: bool,
    ) -> Vec<Retired<Serving>> {
        let mut standby = self.shared.standby();
        let mut left: Vec<_> = standby.remove(name).map(|before| before.retired).into_iter().collect();
        match old {
            Some(retired) if may_go_back && !self.options.probation.is_zero() => {
                let until = Instant::now() + self.options.probation;
                standby.insert(name.clone(), Standby { retired, until });
            }
            old => left.extend(old),
        }
        left
    }

    /// Ends the probation of the version that serves: the one before is
    /// unloaded, if there is one. Returns which serves.
    pub(super) fn commit(&mut self, name: &PluginName) -> Result<VersionId, FailureReport> {
        let entry = self.shared.directory.find(name.as_str()).ok_or_else(|| unknown_plugin(name))?;
        let (standby, active, event) = {
            let _change = entry.change();
            let active =
                self.shared.catalog().get(name.as_str()).and_then(|versions| versions.active().cloned());
            let active = active.ok_or_else(|| not_warm(name))?;
            let standby = self.shared.standby().remove(name);
            if self.commit_at.remove(name).is_none() && standby.is_none() {
                return Err(not_warm(name));
            }
            let event = self.shared.note(&active, EventKind::Committed);
            (standby, active, event)
        };
        EventLog::tell(&event);
        if let Some(standby) = standby {
            self.unload(standby.retired, None);
        }
        Ok(active)
    }

    /// Unloads what was rolled back, and commits what has served long enough.
    pub(super) fn end_probations(&mut self, now: Instant) {
        let returned = std::mem::take(&mut *self.shared.returned());
        for Returned { retired, .. } in returned {
            let name = retired.payload().id().name.clone();
            self.unload(retired, None);
            // Files may have come while it was tried.
            self.reconcile_all(vec![name]);
        }
        let over: Vec<PluginName> = {
            let standby = self.shared.standby();
            let over = standby.iter().filter(|(_, standby)| standby.until <= now);
            over.map(|(name, _)| name.clone()).collect()
        };
        for name in over {
            // It may have been rolled back meanwhile.
            let _ = self.commit(&name);
        }
    }
}

/// Publishes what is kept ready; returns what it replaced. Refused while a gate is
/// closed, for the version that comes next.
fn serve_again(entry: &Entry, ready: Retired<Serving>) -> Result<Retired<Serving>, NotPublished<Serving>> {
    // The right to change is held: no trial begins meanwhile, and no plugin is
    // taken out of service.
    let left = entry.slot.publish(ready.revive())?;
    Ok(left.expect("what is kept ready stands behind what serves"))
}

fn unknown_plugin(name: &PluginName) -> FailureReport {
    FailureReport::with_code(Code::CallUnknownPlugin, format!("no file of plugin {name} was seen"))
}

fn not_warm(name: &PluginName) -> FailureReport {
    let message = format!("no version of {name} is kept ready to go back to");
    FailureReport::with_code(Code::RollbackNotWarm, message)
}
