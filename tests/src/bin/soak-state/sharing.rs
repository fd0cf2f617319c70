//! Two versions that write the same rows: every update counts once.

use replug_host::{PluginStatus, dispatch::Share};
use replug_tests::{
    artifacts,
    harness::{Harness, How, wait_until},
    load::Load,
    report::{Limit, Report},
};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    thread,
    time::{Duration, Instant},
};

/// Rows that all write.
const ROWS: u64 = 7;
const THREADS: usize = 4;
/// Of the whole time, what is spent beside the commit, and beside the rollback.
const LATER_PART: u32 = 4;
/// Calls that each version has to have served.
const CALLS_MIN: f64 = 1_000.0;

/// What came of it.
pub(crate) struct Sharing {
    stages: Vec<Stage>,
    /// Calls that each version served during the trial.
    calls: [u64; 2],
}

struct Stage {
    name: &'static str,
    seconds: f64,
    updates: u64,
    failed: u64,
    /// Updates that are not counted, or counted without having been made.
    off: u64,
}

impl Sharing {
    /// Two versions write for this time; then one is committed, and gone back
    /// from, beside the same load.
    pub(crate) fn run(time: Duration) -> Sharing {
        let mut harness = Harness::with(|host| host.probation(Duration::from_secs(3_600)));
        let library = |major: u64| artifacts::plugin(&format!("sessions-v{major}"));
        harness.deploy(&library(1), "sessions-1.0.0.so", "sessions@1.0.0");
        harness.activate("sessions", "1.0.0").expect("serves");
        harness.drop_file(How::Rename, &library(2), "sessions-2.0.0.so");
        wait_until("the second version", || plugin(&harness).versions.len() == 2);
        let sessions = harness.plugin("sessions");
        let fill = json!({"from": 0, "count": ROWS}).to_string();
        sessions.call("fill", fill.as_bytes()).expect("is filled");

        let name = sessions.name().clone();
        let share = Share::from_basis_points(5_000).expect("a half");
        let second = "2.0.0".parse().expect("a version");
        let mut counted = Counted { harness, made: BTreeMap::new() };
        counted.harness.host.try_version(&name, second, share).wait().expect("is tried");
        let mut calls = [0; 2];
        let later = time / LATER_PART;
        let stages = vec![
            counted.beside("a trial of one half", time, |harness| {
                let plugin = plugin(harness);
                calls = [plugin.calls, plugin.trial.map_or(0, |trial| trial.calls)];
            }),
            counted.beside("promoted and committed", later, |harness| {
                harness.host.promote(&name).wait().expect("is promoted");
                harness.host.commit(&name).wait().expect("is committed");
            }),
            counted.beside("back at 1.0.0", later, |harness| {
                harness.activate("sessions", "1.0.0").expect("goes back");
            }),
        ];
        counted.harness.shutdown();
        Sharing { stages, calls }
    }

    pub(crate) fn print(&self, report: &mut Report) {
        report.table(&format!("{THREADS} threads that write the same {ROWS} rows"));
        for stage in &self.stages {
            report.row(&[
                ("stage", stage.name.into()),
                ("seconds", stage.seconds.into()),
                ("updates", stage.updates.into()),
                ("per s", (stage.updates as f64 / stage.seconds).into()),
            ]);
        }
    }

    pub(crate) fn judge(&self, report: &mut Report) {
        let sum = |of: fn(&Stage) -> u64| self.stages.iter().map(of).sum::<u64>() as f64;
        let none = Limit::AtMost(0.0);
        report.target("shared rows: failed calls", sum(|stage| stage.failed), "calls", none);
        report.target("shared rows: updates lost or made twice", sum(|stage| stage.off), "updates", none);
        let fewest = self.calls.into_iter().min().unwrap_or_default() as f64;
        report.target("shared rows: calls of each version", fewest, "calls", Limit::AtLeast(CALLS_MIN));
    }
}

fn plugin(harness: &Harness) -> PluginStatus {
    harness.host.status().plugin("sessions").expect("is known").clone()
}

/// A host, and the updates that were made in it.
struct Counted {
    harness: Harness,
    made: BTreeMap<String, u64>,
}

impl Counted {
    /// Writes for this time, does something in the middle of it, and counts.
    fn beside(&mut self, name: &'static str, time: Duration, change: impl FnOnce(&Harness)) -> Stage {
        let begun = Instant::now();
        let sessions = self.harness.plugin("sessions");
        let load = Load::start(THREADS, move |number, turn, log| {
            let token = format!("t{}", (number as u64 + turn) % ROWS);
            sessions.call("touch", token.as_bytes())?;
            *log.takes.entry(token).or_default() += 1;
            Ok(())
        });
        // sleep: this is how long the load lasts, before the change and after it.
        thread::sleep(time / 2);
        change(&self.harness);
        // sleep: as above.
        thread::sleep(time / 2);
        let log = load.stop();
        let seconds = begun.elapsed().as_secs_f64();
        for (code, (count, message)) in &log.failed {
            eprintln!("{count} calls failed with {code}: {message}");
        }
        for (token, made) in &log.takes {
            *self.made.entry(token.clone()).or_default() += made;
        }
        let failed = log.failed.values().map(|(count, _)| count).sum();
        Stage { name, seconds, updates: log.takes.values().sum(), failed, off: self.off() }
    }

    fn off(&self) -> u64 {
        let sessions = self.harness.plugin("sessions");
        let off = |(token, made): (&String, &u64)| {
            let reply = sessions.call("get", token.as_bytes()).expect("it is there");
            let row: Value = serde_json::from_str(reply.text().expect("text")).expect("JSON");
            row["hits"].as_u64().map_or(*made, |hits| hits.abs_diff(*made))
        };
        self.made.iter().map(off).sum()
    }
}
