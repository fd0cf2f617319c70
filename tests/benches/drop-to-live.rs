//! From a rename in the plugin directory to the first answer of the new version, as a
//! caller in a loop sees it, with the time by stage: of a stateless plugin that is loaded
//! at once, and of one with a snapshot of 1 MiB that is rehearsed first.
//!
//! The rehearsal is held by this very program, which is its own helper.

use replug_host::{
    Plugin,
    event::{EventKind, RehearsedStep, StageTimes},
    rehearse::Rehearsal,
};
use replug_tests::{
    artifacts,
    harness::Harness,
    load::unlimited,
    report::{Cell, Limit, Report, median, percentile},
};
use std::{
    env, fs,
    path::{Path, PathBuf},
    process::ExitCode,
    thread,
    time::Instant,
};

/// The argument by which this program is told that it is the helper.
const REHEARSE: &str = "rehearse";

const DROPS: usize = 100;
/// Only 2.0.0 makes a table of it.
const TEXT: &[u8] = b"|a|b|\n|-|-|\n|1|2|\n";

const REHEARSED_DROPS: usize = 40;
/// Keys of a limiter whose snapshot has 1 MiB.
const BUCKETS: u64 = (1 << 20) / 106;

fn main() -> ExitCode {
    if env::args().nth(1).as_deref() == Some(REHEARSE) {
        return replug_host::RehearsalHelper::default().run();
    }
    let mut report = Report::new("drop-to-live");
    at_once(&mut report);
    rehearsed(&mut report);
    report.finish()
}

/// A plugin without state, and no rehearsal.
fn at_once(report: &mut Report) {
    let mut harness = Harness::new();
    harness.deploy(&artifacts::plugin("markdown-v1"), "markdown-1.0.0.so", "markdown@1.0.0");
    let release = Release::of(&harness, "markdown-v2", "markdown-2.0.0.so");
    let plugin = harness.plugin("markdown");
    let makes_tables = || {
        plugin.call("render", TEXT).expect("no call fails").text().is_ok_and(|html| html.contains("<table>"))
    };
    let drops: Vec<Drop> = (0..DROPS)
        .map(|_| {
            let drop = release.drop_and_call(&mut harness, "markdown@2.0.0", makes_tables);
            // The file goes, and 1.0.0 serves again: the next drop is like the first.
            harness.delete(release.name);
            harness.unloaded("markdown@2.0.0");
            drop
        })
        .collect();
    let kib = fs::metadata(&release.file).expect("is there").len() / 1024;
    report.table(&format!("{DROPS} drops of {kib} KiB, ms"));
    let total = print(report, &drops);
    report.target("rename to first answer, median", total, "ms", Limit::AtMost(15.0));
    harness.shutdown();
}

/// A plugin with a snapshot, which is migrated, and rehearsed with it.
fn rehearsed(report: &mut Report) {
    let own = env::current_exe().expect("own path");
    let rehearsal = Rehearsal::by(own).arg(REHEARSE);
    let mut harness = Harness::with(|host| host.config("limiter", unlimited()).rehearsal(rehearsal));
    harness.deploy(&artifacts::plugin("limiter-v2"), "limiter-2.0.0.so", "limiter@2.0.0");
    let plugin = harness.plugin("limiter");
    fill(&plugin);
    let release = Release::of(&harness, "limiter-v3", "limiter-3.0.0.so");
    // Only 3.0.0 has it.
    let knows_tenants = || plugin.call("tenant", br#"{"tenant":"client"}"#).is_ok();
    let drops: Vec<Drop> = (0..REHEARSED_DROPS)
        .map(|_| {
            let drop = release.drop_and_call(&mut harness, "limiter@3.0.0", knows_tenants);
            harness.delete(release.name);
            harness.unloaded("limiter@3.0.0");
            drop
        })
        .collect();
    report.table(&format!("{REHEARSED_DROPS} drops, rehearsed, with a snapshot of 1 MiB, ms"));
    let total = print(report, &drops);
    let name = "rehearsed, 1 MiB of state: rename to first answer, median";
    report.target(name, total, "ms", Limit::AtMost(100.0));
    let steps = drops.first().map(|drop| drop.steps.clone()).unwrap_or_default();
    report.table("the rehearsal itself, by step, ms");
    for (index, RehearsedStep { step, .. }) in steps.iter().enumerate() {
        let of_step = |drop: &Drop| drop.steps.get(index).map_or(0.0, |step| step.micros as f64 / 1e3);
        row(report, step, &drops.iter().map(of_step).collect::<Vec<_>>());
    }
    harness.shutdown();
}

fn fill(limiter: &Plugin) {
    for bucket in 0..BUCKETS {
        let body = format!(r#"{{"key":"client/{bucket:073}"}}"#);
        limiter.call("take", body.as_bytes()).expect("takes");
    }
}

type Micros = fn(&StageTimes) -> f64;

/// The way of a version, in order.
const STAGES: [(&str, Micros); 8] = [
    ("notice", |stages| stages.notice_us as f64),
    ("copy", |stages| stages.stage_us as f64),
    ("inspect", |stages| stages.inspect_us as f64),
    ("rehearse", |stages| stages.rehearse_us as f64),
    ("load", |stages| stages.load_us as f64),
    ("prepare and activate", |stages| stages.prepare_us as f64),
    ("hand over behind the gate", |stages| stages.pause_us as f64),
    ("store the pointer", |stages| stages.publish_ns as f64 / 1e3),
];

/// A row for each stage; the median of all of it, in milliseconds.
fn print(report: &mut Report, drops: &[Drop]) -> f64 {
    for (stage, micros) in STAGES {
        row(report, stage, &drops.iter().map(|drop| micros(&drop.stages) / 1e3).collect::<Vec<_>>());
    }
    let between = |drop: &Drop| {
        let known = STAGES.iter().map(|(_, micros)| micros(&drop.stages)).sum::<f64>();
        (drop.stages.total_us as f64 - known) / 1e3
    };
    row(report, "between the stages", &drops.iter().map(between).collect::<Vec<_>>());
    let total: Vec<f64> = drops.iter().map(|drop| drop.total_ms).collect();
    row(report, "rename to first answer", &total);
    median(&total)
}

fn row(report: &mut Report, stage: &str, samples: &[f64]) {
    report.row(&[
        ("stage", Cell::from(stage)),
        ("median", median(samples).into()),
        ("p99", percentile(samples, 99.0).into()),
        ("longest", percentile(samples, 100.0).into()),
    ]);
}

/// One drop.
struct Drop {
    /// Milliseconds from the rename to the first answer.
    total_ms: f64,
    stages: StageTimes,
    /// What was rehearsed.
    steps: Vec<RehearsedStep>,
}

/// A release that was copied to the machine, on the same file system.
struct Release {
    file: PathBuf,
    name: &'static str,
}

impl Release {
    fn of(harness: &Harness, package: &str, name: &'static str) -> Release {
        let file = harness.data_dir().join("release.so");
        fs::copy(artifacts::plugin(package), &file).expect("copies");
        Release { file, name }
    }

    /// Renames it in while a caller asks whether it `answers`.
    fn drop_and_call(&self, harness: &mut Harness, version: &str, answers: impl Fn() -> bool + Sync) -> Drop {
        let source: &Path = &harness.plugin_dir().join(".release");
        fs::copy(&self.file, source).expect("copies");
        let target = harness.plugin_dir().join(self.name);
        let (renamed, answered) = thread::scope(|scope| {
            let caller = scope.spawn(|| {
                loop {
                    let is_new = answers();
                    let now = Instant::now();
                    if is_new {
                        return now;
                    }
                }
            });
            let renamed = Instant::now();
            fs::rename(source, target).expect("renames");
            (renamed, caller.join().expect("no call fails"))
        });
        let (mut steps, mut stages) = (Vec::new(), StageTimes::default());
        harness.expect(&format!("{version} serving"), |event| {
            let is_it = event.version.as_deref().is_some_and(|id| id.starts_with(version));
            match &event.kind {
                EventKind::Rehearsed { steps: done, .. } if is_it => steps.clone_from(done),
                EventKind::Published { stages: of_it, .. } if is_it => {
                    stages = *of_it;
                    return true;
                }
                _ => {}
            }
            false
        });
        Drop { total_ms: answered.duration_since(renamed).as_secs_f64() * 1e3, stages, steps }
    }
}
