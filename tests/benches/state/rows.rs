//! Getting and putting a row of a table, as a plugin's code sees it, over a
//! concurrent map (`dashmap`) that the plugin keeps by itself, with the same
//! typed rows. The map's rows do not survive the version, are in no older
//! version's shape, and are not counted: the ratio is the price of that.
//!
//! Rounds take turns, and keys are random. What a durable put costs stands
//! beside it, without a limit: that is the disk's.

use replug_host::{Plugin, event::EventKind};
use replug_tests::{
    artifacts,
    harness::{Harness, How, is},
    report::{Cell, Limit, Report, median, rounds},
};
use serde_json::json;
use std::cell::Cell as Counter;

const ROWS: u64 = 1_000_000;
const ROUNDS: usize = 15;
const COUNT: u64 = 100_000;
/// Rows of a durable table, and puts in a round.
const DURABLE_ROWS: u64 = 2_000;
const DURABLE_COUNT: u64 = 500;
const DURABLE_ROUNDS: usize = 5;

const VERSION: &str = "bench-table@1.0.0";

pub(crate) fn measure(report: &mut Report) {
    let mut harness = Harness::new();
    deploy(&mut harness).expect("a table in memory is always to be had");
    let plugin = harness.plugin("bench-table");
    fill(&plugin, ROWS);
    let seed = Counter::new(0);
    let run = |place: &str, operation: &str| time(&plugin, place, operation, COUNT, &seed);
    let measured = rounds(
        ROUNDS,
        &mut [
            ("get, table", &mut || run("table", "get")),
            ("get, map", &mut || run("map", "get")),
            ("put, table", &mut || run("table", "put")),
            ("put, map", &mut || run("map", "put")),
        ],
    );
    harness.shutdown();
    report.table(&format!("one row of {ROWS} by a random key, median of {ROUNDS} rounds"));
    for name in measured.names() {
        report.row(&[("operation", name.into()), ("ns", measured.median(name).into())]);
    }
    for durability in ["process", "disk"] {
        durable(report, durability);
    }
    for operation in ["get", "put"] {
        let ratio = measured.median_ratio(&format!("{operation}, table"), &format!("{operation}, map"));
        let name = format!("{operation} of a table over a map in the plugin");
        report.target(&name, ratio, "ratio", Limit::AtMost(2.0));
    }
}

/// A host that refuses, or that keeps the rows no longer than itself, has no such
/// tables, and its figure would say nothing.
fn durable(report: &mut Report, durability: &str) {
    let config = json!({ "durability": durability });
    let mut harness = Harness::with(|host| host.config("bench-table", config.clone()));
    let figure = deploy(&mut harness).map(|()| {
        let (plugin, seed) = (harness.plugin("bench-table"), Counter::new(0));
        fill(&plugin, DURABLE_ROWS);
        let puts = || time(&plugin, "table", "put", DURABLE_COUNT, &seed);
        median(&std::iter::repeat_with(puts).take(DURABLE_ROUNDS).collect::<Vec<f64>>())
    });
    let (_, home) = harness.shutdown();
    let figure = figure.and_then(|ns| {
        let mut again = Harness::again(home, |host| host.config("bench-table", config));
        again.published(VERSION);
        let reply = again.plugin("bench-table").call("count", b"").expect("counts");
        let kept = reply.text().expect("text") == DURABLE_ROWS.to_string();
        again.shutdown();
        if kept { Ok(ns) } else { Err("the rows ended with their host") }
    });
    let cell = figure.map_or_else(|why| Cell::from(format!("not available: {why}")), Cell::from);
    report.row(&[("operation", format!("put, table kept for the {durability}").into()), ("ns", cell)]);
}

/// Drops the plugin; the code of the failure if the host refuses its table.
fn deploy(harness: &mut Harness) -> Result<(), &'static str> {
    harness.drop_file(How::Rename, &artifacts::plugin("bench-table"), "bench-table-1.0.0.so");
    let outcome = harness.expect("the deployment", |event| {
        let ends = matches!(event.kind, EventKind::Published { .. } | EventKind::DeployFailed { .. });
        ends && is(event, VERSION)
    });
    match &outcome.kind {
        EventKind::DeployFailed { failure, .. } => Err(failure.code),
        _ => Ok(()),
    }
}

fn fill(plugin: &Plugin, rows: u64) {
    plugin.call("fill", rows.to_string().as_bytes()).expect("there is room");
}

/// Nanoseconds per operation; each time with other keys.
fn time(plugin: &Plugin, place: &str, operation: &str, count: u64, seed: &Counter<u64>) -> f64 {
    seed.set(seed.get() + 1);
    let run = json!({ "place": place, "operation": operation, "count": count, "seed": seed.get() });
    let reply = plugin.call("run", run.to_string().as_bytes()).expect("no operation fails");
    reply.text().expect("text").parse().expect("a number")
}
