//! Taking the status of a plugin. Waits for nothing but a version that is being
//! stored just now, and not long for that; counts as no call.

use super::{
    shared::{Leaving, Returned, Shared},
    status::{
        DistrustedStatus, LeaseStatus, PinnedCaller, PinnedTo, PluginState, PluginStatus, SweepStatus,
        TableDurability, TableStatus, TrialStatus, UnloadingStatus, VersionStatus,
    },
    sweeps::{Swept, TableSweep},
};
use crate::{
    clock::monotonic_ns,
    dispatch::{Arm, Holder, Retired, SlotState},
    pipeline::Unloading,
    service::{Entry, Serving, TableOf},
};
use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

/// How long a status waits for whoever changes which version serves.
const PATIENCE: Duration = Duration::from_millis(250);

impl Shared {
    pub(super) fn status_of(&self, entry: &Entry) -> PluginStatus {
        let record = self.records().get(&entry.name).copied().unwrap_or_default();
        // Who serves stands in the slot and in the catalog: both are read while
        // neither is changed, which takes moments. If it takes longer a disk
        // hangs, and a status of two moments is better than none.
        let change = entry.change_within(PATIENCE);
        let counters = entry.slot.counters();
        // Before the look below, which is a lease itself.
        let leases = leases(&entry.slot.holders());
        let looked = entry.slot.look(Holder::new("status", monotonic_ns()));
        let mut status = PluginStatus {
            name: entry.name.to_string(),
            state: match entry.slot.state() {
                SlotState::Absent => PluginState::Absent,
                SlotState::Live(_) => PluginState::Active,
                SlotState::Split { .. } => PluginState::Split,
                SlotState::Closed(_) | SlotState::Sealed(_) => PluginState::HandingOver,
            },
            active: looked.as_ref().map(|lease| lease.id().to_string()),
            pinned: None,
            calls: counters.calls,
            errors: counters.errors,
            // Relaxed: a count that orders nothing.
            deadlines_passed: entry.deadlines_passed.load(Ordering::Relaxed),
            in_flight: entry.slot.in_flight().stack as u64,
            leases,
            heap_bytes: None,
            threads: 0,
            versions: Vec::new(),
            trial: trial(entry),
            pinned_callers: pinned_callers(entry),
            standby: self
                .standby()
                .get(&entry.name)
                .map(|standby| standby.retired.payload().id().to_string()),
            distrusted: Vec::new(),
            unloading: self.on_the_way_out(entry),
            tables: self.tables_of(entry),
            sweep_paused: self.sweep_pauses.contains(&entry.name),
            last_pause_us: record.last_pause_us,
            unloads_proven: record.unloads_proven,
        };
        let now = Instant::now();
        if let Some(versions) = self.catalog().get(entry.name.as_str()) {
            status.pinned = versions.pinned().map(ToString::to_string);
            status.versions = versions
                .present()
                .map(|present| VersionStatus {
                    id: present.id.to_string(),
                    path: present.path.display().to_string(),
                    refused: versions.is_refused(&present.id)
                        || versions.is_older_than(&present.id).is_some(),
                    retry_in_ms: versions.retry_in(&present.id, now).map(|left| left.as_millis() as u64),
                })
                .collect();
        }
        let distrusted = self.distrusted(entry).into_iter().map(|(id, failure)| DistrustedStatus {
            id: id.to_string(),
            code: failure.code.to_owned(),
            reason: failure.message,
        });
        status.distrusted = distrusted.collect();
        drop(change);
        // What the version itself is asked for, it may take its time for.
        if let Some(loaded) = looked.as_ref().map(|lease| lease.loaded()) {
            status.heap_bytes = loaded.heap().map(|heap| heap.bytes);
            status.threads = loaded.threads().count();
        }
        status
    }

    fn tables_of(&self, entry: &Entry) -> Vec<TableStatus> {
        let swept = self.descents.of(&entry.name);
        let swept = swept.or_else(|| self.sweeps().get(&entry.name).map(TableSweep::progress));
        let swept = swept.unwrap_or_default();
        let paused = self.sweep_pauses.contains(&entry.name);
        let tables = self.directory.tables.of(&entry.name);
        let status = tables.iter().map(|TableOf { table, durability }| {
            let size = table.size();
            let swept = swept.iter().find(|swept| swept.table == table.name());
            TableStatus {
                name: table.name().to_owned(),
                rows: size.rows,
                bytes: size.bytes,
                schema: table.record().base,
                durability: TableDurability::of(*durability),
                sweep: swept.map(|swept| of_sweep(swept, paused)),
            }
        });
        status.collect()
    }

    fn on_the_way_out(&self, entry: &Entry) -> Vec<UnloadingStatus> {
        let leaving: Vec<_> =
            self.leaving().iter().filter(|leaving| leaving.id.name == entry.name).map(of_leaving).collect();
        let returned = self.returned();
        let returned: Vec<_> = returned
            .iter()
            .filter(|returned| returned.retired.payload().id().name == entry.name)
            .map(|Returned { retired, since }| of_retired(retired, "draining", *since))
            .collect();
        let unloads = self.unloads();
        let unloads = unloads.iter().filter(|u| u.id.name == entry.name && !u.is_done());
        leaving.into_iter().chain(returned).chain(unloads.map(of_unloading)).collect()
    }
}

/// The version that is being tried; none of it changes meanwhile.
fn trial(entry: &Entry) -> Option<TrialStatus> {
    let SlotState::Split { share, .. } = entry.slot.state() else {
        return None;
    };
    let counters = entry.slot.counters_at(Arm::Challenger)?;
    let in_flight = entry.slot.in_flight_at(Arm::Challenger)?.stack as u64;
    // Before the look below, as above.
    let leases = leases(&entry.slot.holders_at(Arm::Challenger)?);
    let challenger = entry.slot.look_at(Arm::Challenger, Holder::new("status", monotonic_ns()))?;
    Some(TrialStatus {
        id: challenger.id().to_string(),
        share_basis_points: share.basis_points(),
        calls: counters.calls,
        errors: counters.errors,
        in_flight,
        leases,
    })
}

fn pinned_callers(entry: &Entry) -> Vec<PinnedCaller> {
    let pinned = |(caller, arm): (&String, &Arm)| PinnedCaller {
        caller: caller.clone(),
        to: match arm {
            Arm::Baseline => PinnedTo::Active,
            Arm::Challenger => PinnedTo::Trial,
        },
    };
    entry.pins().iter().map(pinned).collect()
}

fn of_leaving(leaving: &Leaving) -> UnloadingStatus {
    let stage = if leaving.saving { "saving" } else { "draining" };
    of_retired(&leaving.retired, stage, leaving.since)
}

fn of_retired(retired: &Retired<Serving>, stage: &str, since: Instant) -> UnloadingStatus {
    UnloadingStatus {
        id: retired.payload().id().to_string(),
        stage: stage.to_owned(),
        since_us: micros(since.elapsed()),
        in_flight: retired.in_flight().stack as u64,
        leases: leases(&retired.holders()),
        pins: Vec::new(),
    }
}

fn of_unloading(unloading: &Unloading) -> UnloadingStatus {
    let status = unloading.status();
    UnloadingStatus {
        id: unloading.id.to_string(),
        stage: status.stage.as_str().to_owned(),
        since_us: micros(status.since.elapsed()),
        in_flight: status.in_flight.stack as u64,
        leases: leases(&status.holders),
        pins: status.pins,
    }
}

fn of_sweep(swept: &Swept, paused: bool) -> SweepStatus {
    let progress = swept.progress;
    let rows_per_s = progress.rows_done as f64 / swept.worked.as_secs_f64().max(f64::EPSILON);
    SweepStatus {
        rows_done: progress.rows_done,
        rows_left: progress.rows_left,
        failed: progress.left,
        rows_per_s,
        left_s: progress.rows_left as f64 / rows_per_s.max(1.0),
        paused: paused && !swept.done,
        done: swept.done,
    }
}

fn leases(holders: &[Holder]) -> Vec<LeaseStatus> {
    let now = monotonic_ns();
    let lease = |holder: &Holder| LeaseStatus {
        holder: holder.label.to_owned(),
        age_us: now.saturating_sub(holder.since) / 1_000,
    };
    holders.iter().map(lease).collect()
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
