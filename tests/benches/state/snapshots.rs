//! What handing a snapshot over costs by its size, with the sample plugin
//! `limiter`, of which 3.0.0 has other keys than 2.0.0: the pause is the time
//! that the gate is closed. Everything in it grows with the state, which is what
//! tables are for; so nothing here has a limit but what `bench swap` asks of the
//! smallest one.
//!
//! The engine tells the gate's time and its parts. The steps are in the export on
//! the way down, and in the restore on the way up; `migrate` is what is left for
//! plugins that cannot do that. Saving is timed apart, as it runs beside calls.

use replug_host::event::{EventKind, StageTimes};
use replug_tests::{
    artifacts,
    harness::{Harness, is},
    load::unlimited,
    report::{Report, median, percentile},
};
use std::time::{Duration, Instant};

/// Wanted bytes of a snapshot, and how often it is handed over.
const SIZES: [(u64, usize); 3] = [(1 << 10, 40), (1 << 20, 20), (100 << 20, 6)];
/// What a bucket takes in a snapshot, with such a key.
const BUCKET_BYTES: u64 = 106;
const KEY_BYTES: usize = 80;

pub(crate) fn measure(report: &mut Report) {
    report.table("snapshots handed over between two schemas, ms");
    for (bytes, times) in SIZES {
        let mut harness = limiter();
        let buckets = fill(&harness, bytes);
        let saved = save(&mut harness);
        let handed: Vec<_> = (0..times).map(|turn| hand_over(&mut harness, turn)).collect();
        for (way, first) in [("down", 0), ("up", 1)] {
            let turns = || handed.iter().skip(first).step_by(2);
            let ms = |figure: fn(&StageTimes) -> u64| -> Vec<f64> {
                turns().map(|(stages, _)| figure(stages) as f64 / 1e3).collect()
            };
            let pauses = ms(|stages| stages.pause_us);
            report.row(&[
                ("bytes", turns().next().map_or(0, |(_, bytes)| *bytes).into()),
                ("buckets", buckets.into()),
                ("way", way.into()),
                ("pause, median", median(&pauses).into()),
                ("longest", percentile(&pauses, 100.0).into()),
                ("export", median(&ms(|stages| stages.export_us)).into()),
                ("migrate", median(&ms(|stages| stages.migrate_us)).into()),
                ("restore", median(&ms(|stages| stages.restore_us)).into()),
                ("prepare", median(&ms(|stages| stages.prepare_us)).into()),
                ("whole swap", median(&ms(|stages| stages.total_us)).into()),
                ("save beside calls", (saved.as_secs_f64() * 1e3).into()),
            ]);
        }
        harness.shutdown();
    }
}

fn limiter() -> Harness {
    let mut harness = Harness::with(|host| host.config("limiter", unlimited()));
    for major in [2, 3] {
        let library = artifacts::plugin(&format!("limiter-v{major}"));
        harness.deploy(&library, &format!("limiter-{major}.0.0.so"), &format!("limiter@{major}.0.0"));
    }
    harness
}

/// As many buckets as make a snapshot of about this size.
fn fill(harness: &Harness, bytes: u64) -> u64 {
    let (limiter, buckets) = (harness.plugin("limiter"), bytes.div_ceil(BUCKET_BYTES));
    for bucket in 0..buckets {
        let body = format!(r#"{{"key":"client/{bucket:0width$}"}}"#, width = KEY_BYTES - "client/".len());
        limiter.call("take", body.as_bytes()).expect("takes");
    }
    buckets
}

/// How long saving takes while the plugin serves.
fn save(harness: &mut Harness) -> Duration {
    let begun = Instant::now();
    harness.host.save_state().wait().expect("saves");
    harness.expect("the snapshot", |event| matches!(event.kind, EventKind::StateSaved { .. }));
    begun.elapsed()
}

/// What the stages took, and the bytes that were restored.
fn hand_over(harness: &mut Harness, turn: usize) -> (StageTimes, u64) {
    let next = ["2.0.0", "3.0.0"][turn % 2];
    harness.activate("limiter", next).expect("activates");
    let (full, mut published, mut restored) = (format!("limiter@{next}"), None, 0);
    harness.expect("the unload of the version before", |event| {
        match &event.kind {
            EventKind::StateHandedOver { bytes, .. } => restored = *bytes,
            EventKind::Published { stages, .. } if is(event, &full) => published = Some(*stages),
            _ => {}
        }
        published.is_some() && matches!(event.kind, EventKind::Unloaded { .. })
    });
    (published.expect("as was waited for"), restored)
}
