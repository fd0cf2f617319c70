//! What is shown while the demo runs: redrawn in place on a terminal, a line
//! now and then elsewhere.

use super::load::Totals;
use replug_host::{Host, PluginStatus};
use std::{
    fmt::Write as _,
    io::{self, IsTerminal, Write},
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

/// How often the table is drawn.
const REDRAW: Duration = Duration::from_millis(100);
/// How often a line is printed where nothing can be redrawn.
const LINE: Duration = Duration::from_millis(1000);

pub(super) struct Table {
    redraws: bool,
    drawn_lines: usize,
    last: Option<Instant>,
    begun: Instant,
}

impl Table {
    pub(super) fn new() -> Self {
        Table { redraws: io::stdout().is_terminal(), drawn_lines: 0, last: None, begun: Instant::now() }
    }

    /// Says what is being done, above the table.
    pub(super) fn say(&mut self, text: &str) {
        self.wipe();
        println!("{:7.2} s  {text}", self.begun.elapsed().as_secs_f64());
    }

    /// Draws the table, if it is time to.
    pub(super) fn draw(&mut self, host: &Host, totals: &Totals) {
        let interval = if self.redraws { REDRAW } else { LINE };
        if self.last.is_some_and(|last| last.elapsed() < interval) {
            return;
        }
        self.last = Some(Instant::now());
        let mut text = String::from(
            "  plugin     version                     calls   in flight   pause us   unloading               proven\n",
        );
        for plugin in &host.status().plugins {
            row(&mut text, plugin);
        }
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "  answers {} (v1 {}, v2 {}, alike {})   takes {}   wrong {}   failed {}",
            totals.answers(),
            totals.answers_v1.load(Ordering::Relaxed),
            totals.answers_v2.load(Ordering::Relaxed),
            totals.answers_both.load(Ordering::Relaxed),
            totals.takes.load(Ordering::Relaxed),
            totals.wrong.load(Ordering::Relaxed),
            totals.failed.load(Ordering::Relaxed),
        );
        self.wipe();
        print!("{text}");
        // A closed terminal is no reason to stop.
        let _ = io::stdout().flush();
        self.drawn_lines = if self.redraws { text.lines().count() } else { 0 };
    }

    fn wipe(&mut self) {
        if self.drawn_lines > 0 {
            print!("\x1b[{}A\x1b[J", self.drawn_lines);
            self.drawn_lines = 0;
        }
    }
}

fn row(text: &mut String, plugin: &PluginStatus) {
    let unloading: Vec<String> = plugin
        .unloading
        .iter()
        .map(|version| format!("{} {}", version.id.split('+').next().unwrap_or_default(), version.stage))
        .collect();
    let pause = plugin.last_pause_us.map_or_else(|| "-".to_owned(), |us| us.to_string());
    let version = plugin.active.as_deref().unwrap_or("-");
    // Writing to a string cannot fail.
    let _ = writeln!(
        text,
        "  {:<10} {:<24} {:>8}   {:>9}   {:>8}   {:<22} {:>7}",
        plugin.name,
        version,
        plugin.calls,
        plugin.in_flight,
        pause,
        unloading.join(", "),
        plugin.unloads_proven
    );
}
