//! From a rename in the plugin directory to the first answer of the new
//! version, as a caller in a loop sees it, with the time by stage.

use replug_host::{
    Plugin,
    event::{EventKind, StageTimes},
};
use replug_tests::{
    artifacts,
    harness::Harness,
    report::{Cell, Limit, Report, median, percentile},
};
use std::{fs, process::ExitCode, thread, time::Instant};

const DROPS: usize = 100;
/// Only 2.0.0 makes a table of it.
const TEXT: &[u8] = b"|a|b|\n|-|-|\n|1|2|\n";

fn main() -> ExitCode {
    let mut harness = Harness::new();
    harness.deploy(&artifacts::plugin("markdown-v1"), "markdown-1.0.0.so", "markdown@1.0.0");
    // As a release that was copied to the machine, on the same file system.
    let release = harness.data_dir().join("release.so");
    fs::copy(artifacts::plugin("markdown-v2"), &release).expect("copies");
    let mut total = Vec::new();
    let mut stages = Vec::new();
    for _ in 0..DROPS {
        let (time, of_stages) = drop_and_call(&mut harness, &release);
        total.push(time);
        stages.push(of_stages);
        // The file goes, and 1.0.0 serves again: the next drop is like the first.
        harness.delete("markdown-2.0.0.so");
        harness.unloaded("markdown@2.0.0");
    }
    let mut report = Report::new("drop-to-live");
    report.table(&format!(
        "{DROPS} drops of {} KiB, ms",
        fs::metadata(&release).expect("is there").len() / 1024
    ));
    let mut row = |stage: &str, samples: &[f64]| {
        report.row(&[
            ("stage", Cell::from(stage)),
            ("median", median(samples).into()),
            ("p99", percentile(samples, 99.0).into()),
            ("longest", percentile(samples, 100.0).into()),
        ]);
    };
    for (stage, micros) in STAGES {
        row(stage, &stages.iter().map(|stages| micros(stages) / 1e3).collect::<Vec<_>>());
    }
    let between = |stages: &StageTimes| {
        (stages.total_us as f64 - STAGES.iter().map(|(_, micros)| micros(stages)).sum::<f64>()) / 1e3
    };
    row("between the stages", &stages.iter().map(between).collect::<Vec<_>>());
    row("rename to first answer", &total);
    report.target("rename to first answer, median", median(&total), "ms", Limit::AtMost(15.0));
    harness.shutdown();
    report.finish()
}

type Micros = fn(&StageTimes) -> f64;

/// The way of a version, in order.
const STAGES: [(&str, Micros); 6] = [
    ("notice", |stages| stages.notice_us as f64),
    ("copy", |stages| stages.stage_us as f64),
    ("inspect", |stages| stages.inspect_us as f64),
    ("load", |stages| stages.load_us as f64),
    ("prepare and activate", |stages| stages.prepare_us as f64),
    ("store the pointer", |stages| stages.publish_ns as f64 / 1e3),
];

/// Milliseconds from the rename to the first answer of 2.0.0.
fn drop_and_call(harness: &mut Harness, release: &std::path::Path) -> (f64, StageTimes) {
    let plugin = harness.plugin("markdown");
    let source = harness.plugin_dir().join(".release");
    fs::copy(release, &source).expect("copies");
    let target = harness.plugin_dir().join("markdown-2.0.0.so");
    let (renamed, answered) = thread::scope(|scope| {
        let caller = scope.spawn(|| first_table(&plugin));
        let renamed = Instant::now();
        fs::rename(&source, &target).expect("renames");
        (renamed, caller.join().expect("no call fails"))
    });
    let published = harness.published("markdown@2.0.0");
    let EventKind::Published { stages, .. } = published.kind else { unreachable!("as was waited for") };
    (answered.duration_since(renamed).as_secs_f64() * 1e3, stages)
}

fn first_table(plugin: &Plugin) -> Instant {
    loop {
        let reply = plugin.call("render", TEXT).expect("no call fails");
        let answered = Instant::now();
        if reply.text().is_ok_and(|html| html.contains("<table>")) {
            return answered;
        }
    }
}
