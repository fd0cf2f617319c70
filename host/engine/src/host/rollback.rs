//! Going back at once: to the version that is kept ready, or out of a trial.
//!
//! A version that was replaced is kept as it is for the time of the probation,
//! loaded and active, so that the way back is a pointer. Going back does not
//! wait for the command loop, which may be in the middle of another plugin's
//! hook: it runs on the thread of whoever asks. What is left to do after the
//! pointer is stored, the loop does on its next turn.

use super::{
    control::{Control, nanos},
    shared::{Shared, Standby},
};
use crate::{
    dispatch::{NotSplit, Retired},
    event::{EventKind, FailureReport},
    failure::{Code, Failure as _},
    id::{PluginName, VersionId},
    service::{Entry, Serving},
};
use std::time::{Duration, Instant};

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
    /// Calls that were in flight on the version that is left.
    pub in_flight: usize,
}

impl Shared {
    /// Makes the version before serve again.
    pub(super) fn roll_back(&self, name: &PluginName) -> Result<RolledBack, FailureReport> {
        let accepted = Instant::now();
        let entry = self.directory.find(name.as_str()).ok_or_else(|| not_warm(name))?;
        // Held to the end, so that a deployment that has just ended keeps
        // nothing else ready before it is written down who serves.
        let mut standby = self.standby();
        let (left, to) = match entry.slot.roll_back() {
            Ok(challenger) => (challenger, None),
            Err(NotSplit) => {
                let ready = standby.remove(name).ok_or_else(|| not_warm(name))?;
                let id = ready.id.clone();
                match serve_again(&entry, ready) {
                    Ok(left) => (left, Some(id)),
                    Err(refused) => {
                        let (ready, failure) = *refused;
                        standby.insert(name.clone(), ready);
                        return Err(failure);
                    }
                }
            }
        };
        let stored = accepted.elapsed();
        left.settle();
        let barrier = accepted.elapsed() - stored;
        let in_flight = left.in_flight().stack;
        let from = left.payload().id().clone();
        self.returned().push(left);
        let to = {
            let mut catalog = self.catalog();
            let versions = catalog.get_mut(name.as_str());
            let to = to.or_else(|| versions.as_ref()?.active().cloned()).unwrap_or_else(|| from.clone());
            if let Some(versions) = versions {
                versions.rolled_back(&from, &to);
            }
            to
        };
        drop(standby);
        let (stored_ns, barrier_ns) = (nanos(stored), nanos(barrier));
        let kind =
            EventKind::RolledBack { to: to.to_string(), in_flight: in_flight as u64, stored_ns, barrier_ns };
        self.event(Some(&from), kind);
        self.nudge();
        Ok(RolledBack { from, to, stored, barrier, in_flight })
    }
}

impl Control {
    /// Keeps a version that was replaced ready for the time of the probation;
    /// without one it comes back, to be unloaded.
    pub(super) fn stand_by(&self, retired: Retired<Serving>) -> Option<Retired<Serving>> {
        if self.options.probation.is_zero() {
            return Some(retired);
        }
        let id = retired.payload().id().clone();
        let until = Instant::now() + self.options.probation;
        let before = self.shared.standby().insert(id.name.clone(), Standby { id, retired, until });
        before.map(|before| before.retired)
    }

    /// Takes what is kept ready, so that nothing goes back to it meanwhile.
    pub(super) fn stand_down(&mut self, name: &PluginName) -> Option<Standby> {
        self.shared.standby().remove(name)
    }

    /// Ends the probation of the version that serves: the one before is
    /// unloaded. Returns which serves.
    pub(super) fn commit(&mut self, name: &PluginName) -> Result<VersionId, FailureReport> {
        let Some(standby) = self.stand_down(name) else {
            return Err(not_warm(name));
        };
        self.unload(standby.retired, None);
        let active = self.shared.catalog().get(name.as_str()).and_then(|versions| versions.active().cloned());
        let active = active.unwrap_or(standby.id);
        self.shared.event(Some(&active), EventKind::Committed);
        Ok(active)
    }

    /// Unloads what was rolled back, and commits what has served long enough.
    pub(super) fn end_probations(&mut self, now: Instant) {
        let returned = std::mem::take(&mut *self.shared.returned());
        for retired in returned {
            let name = retired.payload().id().name.clone();
            self.unload(retired, None);
            self.reconcile_all(vec![name]);
        }
        let over = |standby: &Standby| standby.until <= now;
        let names: Vec<PluginName> = {
            let standby = self.shared.standby();
            standby.iter().filter(|(_, standby)| over(standby)).map(|(name, _)| name.clone()).collect()
        };
        for name in names {
            // Gone meanwhile if it was rolled back.
            let _ = self.commit(&name);
        }
    }
}

/// Publishes what is kept ready; returns what it replaced, or itself.
fn serve_again(entry: &Entry, ready: Standby) -> Result<Retired<Serving>, Box<(Standby, FailureReport)>> {
    let Standby { id, retired, until } = ready;
    match entry.slot.publish(retired.revive()) {
        // Whoever takes a plugin out of service stands down first.
        Ok(left) => Ok(left.expect("what is kept ready stands behind what serves")),
        Err(refused) => {
            let failure = FailureReport::with_code(refused.code(), refused.to_string());
            let ready = Standby { id, retired: refused.version.retire(), until };
            Err(Box::new((ready, failure)))
        }
    }
}

fn not_warm(name: &PluginName) -> FailureReport {
    let message = format!("no version of {name} is kept ready to go back to");
    FailureReport::with_code(Code::RollbackNotWarm, message)
}
