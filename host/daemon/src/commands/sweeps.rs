//! A terminal that shows tables, with a bar for each sweep that is under way.
//!
//! It is drawn over itself, and is gone when it is dropped. Where standard
//! output is no terminal there is none: bars are for people who look on.

use super::text_of;
use crate::output::duration;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressFinish, ProgressStyle};
use serde_json::Value;
use std::collections::BTreeMap;

/// What is drawn.
pub(super) struct Screen {
    all: MultiProgress,
    /// The table, above the bars.
    above: ProgressBar,
    /// By plugin and table.
    bars: BTreeMap<String, ProgressBar>,
}

impl Screen {
    /// The terminal that standard output is, if it is one.
    pub(super) fn on_stdout() -> Option<Screen> {
        let target = ProgressDrawTarget::stdout();
        (!target.is_hidden()).then(|| Screen::on(target))
    }

    fn on(target: ProgressDrawTarget) -> Screen {
        let all = MultiProgress::with_draw_target(target);
        let above = all.add(line("{msg}"));
        Screen { all, above, bars: BTreeMap::new() }
    }

    /// Draws `text`, and below it the sweeps of `tables` that are not over.
    pub(super) fn draw(&mut self, text: &str, tables: &[Value]) {
        let under_way: BTreeMap<String, &Value> = tables
            .iter()
            .filter(|table| table["sweep"]["done"] == false)
            .map(|table| (format!("{} {}", text_of(&table["plugin"]), text_of(&table["name"])), table))
            .collect();
        self.bars.retain(|name, bar| {
            let stays = under_way.contains_key(name);
            if !stays {
                self.all.remove(bar);
            }
            stays
        });
        let width = under_way.keys().map(String::len).max().unwrap_or(0);
        for (name, table) in under_way {
            let sweep = &table["sweep"];
            let rows = |field: &str| sweep[field].as_u64().unwrap_or(0);
            let (prefix, is_paused) = (format!("{name:<width$}"), table["sweep_paused"] == true);
            let bar = self.bars.entry(name).or_insert_with(|| self.all.add(line(BAR)));
            bar.set_length(rows("rows_done") + rows("rows_left"));
            bar.set_position(rows("rows_done"));
            bar.set_prefix(prefix);
            bar.set_message(if is_paused { "paused".to_owned() } else { pace(sweep) });
        }
        self.above.set_message(text.trim_end().to_owned());
        // The terminal may have been spared some of the changes.
        self.above.force_draw();
    }
}

const BAR: &str = "{prefix}  [{bar:30}] {percent:>3}%  {pos} of {len} rows  {msg}";

/// Nothing of it stays when it is dropped.
fn line(template: &str) -> ProgressBar {
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::hidden().with_style(style.progress_chars("=> ")).with_finish(ProgressFinish::AndClear)
}

fn pace(sweep: &Value) -> String {
    let number = |field: &str| sweep[field].as_f64().unwrap_or(0.0);
    format!("{:.0} rows/s, {} left", number("rows_per_s"), duration(number("left_s")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use indicatif::InMemoryTerm;
    use serde_json::json;

    fn table(name: &str, done: u64, left: u64) -> Value {
        json!({
            "plugin": "sessions", "name": name, "sweep_paused": false,
            "sweep": {
                "rows_done": done, "rows_left": left, "rows_per_s": 50.0, "left_s": 3.0, "done": left == 0,
            },
        })
    }

    #[test]
    fn a_sweep_has_a_bar_until_it_is_over_and_nothing_stays() {
        let terminal = InMemoryTerm::new(12, 100);
        let target = ProgressDrawTarget::term_like(Box::new(terminal.clone()));
        let mut screen = Screen::on(target);
        let mut paused = table("by_user", 0, 40);
        paused["sweep_paused"] = true.into();
        screen.draw("TABLE\nby_user\nsessions\n", &[paused, table("sessions", 50, 150)]);
        let expected = "TABLE\nby_user\nsessions\n\
            sessions by_user   [                              ]   0%  0 of 40 rows  paused\n\
            sessions sessions  [=======>                      ]  25%  50 of 200 rows  50 rows/s, 3 s left";
        assert_eq!(terminal.contents(), expected);

        screen.draw("TABLE\nsessions\n", &[table("by_user", 40, 0), table("sessions", 200, 50)]);
        let expected = "TABLE\nsessions\n\
            sessions sessions  [========================>     ]  80%  200 of 250 rows  50 rows/s, 3 s left";
        assert_eq!(terminal.contents(), expected);

        drop(screen);
        assert_eq!(terminal.contents(), "");
    }
}
