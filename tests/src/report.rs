//! What a bench prints: tables for people, JSON lines for programs, and the
//! verdict on its targets.
//!
//! It owns the form of the output and the few statistics that every bench
//! needs, so that figures of different benches can be compared. It never
//! measures by itself: clocks and workloads belong to the bench.
//!
//! ```no_run
//! use replug_tests::report::{Limit, Report, rounds};
//!
//! fn main() -> std::process::ExitCode {
//!     let mut report = Report::new("dispatch");
//!     let measured = rounds(
//!         7,
//!         &mut [("bare", &mut || 1.0), ("guarded", &mut || 2.3)],
//!     );
//!     report.table("one call");
//!     for name in measured.names() {
//!         report.row(&[("way", name.into()), ("ns", measured.median(name).into())]);
//!     }
//!     let cost = measured.median_difference("guarded", "bare");
//!     report.target("guard_cost", cost, "ns", Limit::AtMost(1.5));
//!     report.finish()
//! }
//! ```

use std::io::{self, Write};
use std::process::ExitCode;

use serde::ser::{Serialize, SerializeMap, Serializer};

mod statistics;
mod table;

pub use statistics::{Rounds, median, percentile, rounds};
use table::Table;

/// One field of a row.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
#[serde(untagged)]
pub enum Cell {
    /// A name.
    Text(String),
    /// A count.
    Count(u64),
    /// A measured figure; shown with three significant digits or more.
    Figure(f64),
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Cell::Text(text.to_owned())
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Cell::Text(text)
    }
}

impl From<u64> for Cell {
    fn from(count: u64) -> Self {
        Cell::Count(count)
    }
}

impl From<usize> for Cell {
    fn from(count: usize) -> Self {
        Cell::Count(count as u64)
    }
}

impl From<f64> for Cell {
    fn from(figure: f64) -> Self {
        Cell::Figure(figure)
    }
}

/// What a target's value is held against, in the target's unit.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    /// Met when the value is no more than this.
    AtMost(f64),
    /// Met when the value is no less than this.
    AtLeast(f64),
}

impl Limit {
    /// Whether `value` keeps to the limit; a value that is not a number never does.
    pub fn holds(self, value: f64) -> bool {
        match self {
            Limit::AtMost(most) => value <= most,
            Limit::AtLeast(least) => value >= least,
        }
    }
}

/// The output of one bench, from its first row to its exit code.
///
/// As text, rows are collected and printed as an aligned table as soon as the
/// table ends. As JSON (`--json`), each row is a line at once, and the last
/// line is the verdict:
/// `{"bench":…,"targets":[{"name":…,"value":…,"unit":…,"limit":{"at_most":…},"ok":…}]}`.
#[derive(Debug)]
#[must_use = "a report that is not finished gives no verdict"]
pub struct Report<W: Write = io::Stdout> {
    bench: String,
    form: Form,
    out: W,
    title: String,
    table: Table,
    targets: Vec<Target>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Text,
    Json,
}

#[derive(Debug, serde::Serialize)]
struct Target {
    name: String,
    value: f64,
    unit: String,
    limit: Limit,
    ok: bool,
}

#[derive(serde::Serialize)]
struct Verdict<'a> {
    bench: &'a str,
    targets: &'a [Target],
}

impl Report {
    /// A report on the standard output, as JSON when the program was started
    /// with `--json`.
    pub fn new(bench: &str) -> Self {
        let json = std::env::args().skip(1).any(|argument| argument == "--json");
        Report::writing_to(io::stdout(), bench, json)
    }
}

impl<W: Write> Report<W> {
    /// A report on a writer of the caller's.
    pub fn writing_to(out: W, bench: &str, json: bool) -> Self {
        Report {
            bench: bench.to_owned(),
            form: if json { Form::Json } else { Form::Text },
            out,
            title: String::new(),
            table: Table::default(),
            targets: Vec::new(),
        }
    }

    /// Ends the table before and begins one of this title.
    pub fn table(&mut self, title: &str) {
        self.end_table();
        self.title = title.to_owned();
    }

    /// Adds a row of named fields. The names are the table's heading; a row
    /// with other names begins another table.
    pub fn row(&mut self, fields: &[(&str, Cell)]) {
        match self.form {
            Form::Json => {
                let row = JsonRow { table: &self.title, fields };
                let line = json(&row);
                self.write(&line);
            }
            Form::Text => {
                if !self.table.fits(fields) {
                    self.end_table();
                }
                self.table.push(fields);
            }
        }
    }

    /// Records a figure that the bench answers for.
    pub fn target(&mut self, name: &str, value: f64, unit: &str, limit: Limit) {
        self.targets.push(Target {
            name: name.to_owned(),
            value,
            unit: unit.to_owned(),
            limit,
            ok: limit.holds(value),
        });
    }

    /// Prints the verdict; the exit code is 1 when a target is missed.
    pub fn finish(mut self) -> ExitCode {
        if self.conclude() { ExitCode::SUCCESS } else { ExitCode::from(1) }
    }

    fn conclude(&mut self) -> bool {
        self.end_table();
        let targets = std::mem::take(&mut self.targets);
        let bench = std::mem::take(&mut self.bench);
        match self.form {
            Form::Json => {
                let line = json(&Verdict { bench: &bench, targets: &targets });
                self.write(&line);
            }
            Form::Text => {
                for target in &targets {
                    self.table.push(&target.fields());
                }
                self.title = format!("{bench}: targets");
                self.end_table();
            }
        }
        targets.iter().all(|target| target.ok)
    }

    fn end_table(&mut self) {
        let table = std::mem::take(&mut self.table);
        if !table.is_empty() {
            let title = &self.title;
            let text = if title.is_empty() { format!("{table}\n") } else { format!("{title}\n{table}\n") };
            self.write(&text);
        }
    }

    /// A closed pipe ends the output, not the bench: its exit code still counts.
    fn write(&mut self, text: &str) {
        let written = self.out.write_all(text.as_bytes());
        if let Err(error) = written.and_then(|()| self.out.flush()) {
            eprintln!("the report cannot be written: {error}");
        }
    }
}

/// One line of JSON.
fn json(value: &impl Serialize) -> String {
    let text = serde_json::to_string(value).expect("names and numbers always serialise");
    text + "\n"
}

impl Target {
    fn fields(&self) -> [(&'static str, Cell); 5] {
        let (word, bound) = match self.limit {
            Limit::AtMost(bound) => ("at most", bound),
            Limit::AtLeast(bound) => ("at least", bound),
        };
        [
            ("target", self.name.as_str().into()),
            ("value", self.value.into()),
            ("unit", self.unit.as_str().into()),
            ("limit", format!("{word} {bound}").into()),
            ("verdict", if self.ok { "met" } else { "MISSED" }.into()),
        ]
    }
}

struct JsonRow<'a> {
    table: &'a str,
    fields: &'a [(&'a str, Cell)],
}

impl Serialize for JsonRow<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        if !self.table.is_empty() {
            map.serialize_entry("table", self.table)?;
        }
        for (name, cell) in self.fields {
            map.serialize_entry(name, cell)?;
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(json: bool, fill: impl FnOnce(&mut Report<&mut Vec<u8>>)) -> (String, bool) {
        let mut out = Vec::new();
        let mut report = Report::writing_to(&mut out, "dispatch", json);
        fill(&mut report);
        let ok = report.conclude();
        (String::from_utf8(out).expect("text"), ok)
    }

    #[test]
    fn json_has_a_line_per_row_and_ends_with_the_verdict() {
        let (text, ok) = printed(true, |report| {
            report.table("one call");
            report.row(&[("way", "bare".into()), ("ns", 1.25.into()), ("threads", 2_u64.into())]);
            report.target("guard_cost", 1.5, "ns", Limit::AtMost(1.5));
        });
        assert!(ok);
        assert_eq!(
            text,
            concat!(
                r#"{"table":"one call","way":"bare","ns":1.25,"threads":2}"#,
                "\n",
                r#"{"bench":"dispatch","targets":[{"name":"guard_cost","value":1.5,"unit":"ns","limit":{"at_most":1.5},"ok":true}]}"#,
                "\n",
            )
        );
    }

    #[test]
    fn text_is_aligned_and_names_the_missed_target() {
        let (text, ok) = printed(false, |report| {
            report.table("one call");
            report.row(&[("way", "bare".into()), ("ns", 1.0.into())]);
            report.row(&[("way", "arc-swap".into()), ("ns", 11.7.into())]);
            report.target("guard_cost", 1.6, "ns", Limit::AtMost(1.5));
            report.target("swaps", 10_000.0, "per s", Limit::AtLeast(500.0));
        });
        assert!(!ok);
        assert_eq!(
            text,
            "\
one call
way          ns
bare      1.000
arc-swap  11.70

dispatch: targets
target       value  unit   limit         verdict
guard_cost   1.600  ns     at most 1.5   MISSED
swaps       10,000  per s  at least 500  met

"
        );
    }

    #[test]
    fn rows_of_other_fields_begin_another_table() {
        let (text, _) = printed(false, |report| {
            report.table("both");
            report.row(&[("way", "bare".into())]);
            report.row(&[("swaps", 3_u64.into())]);
        });
        assert_eq!(text, "both\nway\nbare\n\nboth\nswaps\n    3\n\n");
    }

    #[test]
    fn the_exit_code_is_one_when_a_target_is_missed() {
        let mut report = Report::writing_to(Vec::new(), "dispatch", true);
        report.target("pause", f64::NAN, "us", Limit::AtMost(200.0));
        assert_eq!(format!("{:?}", report.finish()), format!("{:?}", ExitCode::from(1)));

        let mut report = Report::writing_to(Vec::new(), "dispatch", true);
        report.target("pause", 200.0, "us", Limit::AtMost(200.0));
        assert_eq!(format!("{:?}", report.finish()), format!("{:?}", ExitCode::SUCCESS));
    }
}
