//! Kills hosts at random moments, starts them again on what they left, and holds
//! what they find against the ledger.

use crate::{
    ledger::Ledger,
    victim::{Role, file_name},
    words::{self, Word},
};
use replug_host::table_store::{TableStore, TableStoreOptions};
use replug_tests::{
    artifacts,
    dice::Dice,
    harness::{PATIENCE, alone},
    report::{Limit, Report, median},
};
use std::{
    fs,
    io::{BufRead, BufReader, Write},
    os::unix::process::ExitStatusExt,
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    thread,
    time::{Duration, Instant},
};

/// After so many kills a host is left to sweep, and its store is looked into.
const SWEEP_EVERY: u64 = 10;
/// The signal that nothing survives.
const SIGKILL: i32 = 9;

/// When a host is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Moment {
    /// While it starts, and finds out what is there.
    Start,
    /// While it is written to and changed.
    Load,
    /// While it shuts down, or has just done so.
    End,
    /// It is not: it ends by itself when everything is swept.
    Swept,
}

/// The kills of hosts whose tables are kept in one way.
pub(crate) struct Kills {
    durability: &'static str,
    home: tempfile::TempDir,
    ledger: Ledger,
    at: [u64; 3],
    /// Milliseconds until a version served.
    starts: Vec<f64>,
    /// Hosts that ended by themselves, or did not get so far as to be killed.
    failed: u64,
    swept: u64,
    /// Rows that a sweep has left in another schema than the version's, or with
    /// an image, and tables that could not be read.
    unswept: u64,
}

impl Kills {
    /// Kills `count` hosts.
    pub(crate) fn run(durability: &'static str, count: u64) -> Kills {
        let home = tempfile::tempdir().expect("a temporary directory");
        for folder in ["plugins", "libraries"] {
            fs::create_dir(home.path().join(folder)).expect("a folder");
        }
        for major in 1..=3 {
            let library = artifacts::plugin(&format!("sessions-v{major}"));
            fs::copy(library, home.path().join("libraries").join(file_name(major))).expect("is copied");
        }
        let (ledger, at, starts) = (Ledger::new(), [0; 3], Vec::new());
        let mut kills = Kills { durability, home, ledger, at, starts, failed: 0, swept: 0, unswept: 0 };
        // So many runs without a kill that nothing is left to be learned.
        for run in 0..2 * count + SWEEP_EVERY {
            let killed = kills.at.iter().sum::<u64>();
            if killed == count {
                break;
            }
            let mut dice = Dice::new(1 << 9, run);
            let moment = match dice.below(20) {
                // The first has to fill the tables, and to choose a version.
                _ if run == 0 => Moment::Load,
                0..=3 => Moment::Start,
                4..=5 => Moment::End,
                _ => Moment::Load,
            };
            kills.kill_one(run, moment, &mut dice);
            if (run + 1) % SWEEP_EVERY == 0 {
                kills.sweep(run);
            }
        }
        kills.sweep(u64::from(u32::MAX));
        kills
    }

    fn kill_one(&mut self, run: u64, moment: Moment, dice: &mut Dice) {
        let mut victim = Running::start(self.role(run, moment));
        let begun = Instant::now();
        let after = match moment {
            Moment::Start => {
                victim.hear_until(&mut self.ledger, Some(micros(dice.below(120_000))), |_| false);
                Duration::ZERO
            }
            Moment::Load | Moment::End => {
                let mut is_up = false;
                let ledger = &mut self.ledger;
                let loaded = victim.hear_until(ledger, None, |word| {
                    if matches!(word, Word::Active { .. }) && !is_up {
                        is_up = true;
                        self.starts.push(begun.elapsed().as_secs_f64() * 1e3);
                    }
                    *word == Word::Load
                });
                if !loaded {
                    eprintln!("{}: host {run} did not begin to work", self.durability);
                    self.failed += 1;
                }
                let (decisions, work) = (dice.below(4), dice.below(300_000));
                let mut decided = 0;
                victim.hear_until(ledger, Some(PATIENCE), |word| {
                    decided += u64::from(matches!(word, Word::Decided { .. }));
                    decided >= decisions
                });
                victim.hear_until(ledger, Some(micros(work)), |_| false);
                if moment == Moment::End { micros(dice.below(60_000)) } else { Duration::ZERO }
            }
            Moment::Swept => unreachable!("nobody is killed there"),
        };
        if moment == Moment::End {
            victim.tell_to_end();
            victim.hear_until(&mut self.ledger, Some(after), |word| *word == Word::End);
        }
        let ended = victim.kill(&mut self.ledger);
        self.ledger.killed();
        match ended {
            Ended::Killed => self.at[moment as usize] += 1,
            // It was faster.
            Ended::Well if moment == Moment::End => {}
            Ended::Well | Ended::Badly => {
                eprintln!("{}: host {run} ended by itself at {moment:?}", self.durability);
                self.failed += 1;
            }
        }
    }

    /// Lets a host sweep its tables and end, and looks into what it leaves.
    fn sweep(&mut self, run: u64) {
        let mut victim = Running::start(self.role(run, Moment::Swept));
        let mut swept = None;
        let ended = victim.hear_until(&mut self.ledger, None, |word| {
            if let Word::Swept { sessions, by_user, failed } = word {
                swept = Some((*sessions, *by_user, *failed));
            }
            *word == Word::End
        });
        let is_well = victim.wait(&mut self.ledger);
        self.ledger.killed();
        let Some((sessions, by_user, failed)) = swept.filter(|_| ended && is_well) else {
            eprintln!("{}: host {run} did not sweep its tables and end", self.durability);
            self.failed += 1;
            return;
        };
        self.swept += 1;
        self.unswept += failed + self.look_into([("sessions", sessions), ("by_user", by_user)]);
    }

    /// What should not be in the store when everything was swept into these
    /// schemas.
    fn look_into(&self, schemas: [(&str, u32); 2]) -> u64 {
        let _alone = alone();
        let folder = self.home.path().join("data/tables/sessions");
        let opened = match TableStore::open(&folder, TableStoreOptions::default()) {
            Ok(opened) => opened,
            Err(error) => {
                eprintln!("{}: the store cannot be opened: {error}", self.durability);
                return 1;
            }
        };
        let mut wrong = 0;
        for (name, schema) in schemas {
            let restored = opened.tables.iter().find(|restored| restored.table.name() == name);
            let Some(table) = restored.map(|restored| &restored.table) else {
                eprintln!("{}: table {name} is not in the store", self.durability);
                wrong += 1;
                continue;
            };
            let census = table.census();
            let others: u64 = census.rows.iter().filter(|(of, _)| **of != schema).map(|(_, rows)| rows).sum();
            let rows: u64 = census.rows.values().sum();
            let missing = if name == "sessions" { rows.abs_diff(self.ledger.sessions()) } else { 0 };
            if others + census.images + census.unswept + missing > 0 {
                let kept_by = self.durability;
                eprintln!(
                    "{kept_by}: table {name} should be in schema {schema}: {census:?}, {missing} missing"
                );
            }
            wrong += others + census.images + census.unswept + missing;
        }
        if let Err(error) = opened.store.close() {
            eprintln!("{}: the store cannot be closed: {error}", self.durability);
            wrong += 1;
        }
        wrong
    }

    fn role(&self, run: u64, moment: Moment) -> Role {
        let home = self.home.path().to_owned();
        let only_sweeps = moment == Moment::Swept;
        Role { home, durability: self.durability.to_owned(), seed: run, only_sweeps }
    }

    pub(crate) fn print(&self, report: &mut Report) {
        let Kills { ledger, at: [start, load, end], .. } = self;
        let sums = &ledger.sums;
        report.table(&format!("kills of hosts with tables kept by the {}", self.durability));
        for (what, count) in [
            ("kills while starting", *start),
            ("kills under load", *load),
            ("kills while shutting down", *end),
            ("kills with a write in flight", sums.killed_while_writing),
            ("kills with a decision in flight", sums.killed_while_deciding),
            ("starts whose rows were all compared", sums.told),
            ("rows compared", sums.rows_told),
            ("sessions in one table only, being opened or closed", sums.torn),
            ("sweeps whose store was looked into", self.swept),
            ("writes acknowledged", sums.acknowledged),
            ("decisions acknowledged", sums.decisions),
        ] {
            report.row(&[("what", what.into()), ("count", count.into())]);
        }
        report
            .row(&[("starts, median", "until a version serves".into()), ("ms", median(&self.starts).into())]);
    }

    pub(crate) fn judge(&self, report: &mut Report, count: u64) {
        let (faults, sums) = (&self.ledger.faults, &self.ledger.sums);
        let kills = self.at.iter().sum::<u64>();
        let mut target = |name: &str, value: u64, unit: &str, limit: Limit| {
            report.target(&format!("{}: {name}", self.durability), value as f64, unit, limit);
        };
        target("kills", kills, "hosts", Limit::AtLeast(count as f64));
        target("starts compared", sums.told, "starts", Limit::AtLeast(count as f64 / 2.0));
        target("decisions acknowledged", sums.decisions, "decisions", Limit::AtLeast(count as f64 / 4.0));
        for (name, value, unit) in [
            ("acknowledged opens lost", faults.lost_opens, "sessions"),
            ("acknowledged closes lost", faults.lost_closes, "sessions"),
            ("hits below acknowledged or above attempted", faults.wrong_hits, "sessions"),
            ("sessions in one table only, unexplained", faults.strays, "sessions"),
            ("scans that disagree with reads", faults.disagreeing_scans, "starts"),
            ("rows left by sweeps in another schema", self.unswept, "rows"),
            ("wrong versions after a start", faults.wrong_versions, "starts"),
            ("starts by way of another version", faults.detours, "starts"),
            ("calls, changes and events that say so", faults.troubles, "troubles"),
            ("hosts that failed by themselves", self.failed, "hosts"),
        ] {
            target(name, value, unit, Limit::AtMost(0.0));
        }
    }
}

fn micros(micros: u64) -> Duration {
    Duration::from_micros(micros)
}

/// A host that runs, and what it says.
struct Running {
    child: Child,
    words: Receiver<String>,
}

/// How a host came to its end.
enum Ended {
    Killed,
    Well,
    Badly,
}

impl Running {
    fn start(role: Role) -> Running {
        let alone = alone();
        // Not by its path: a build beside this may have put another file there.
        let mut child = Command::new("/proc/self/exe")
            .args(role.words())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("another process of this program");
        drop(alone);
        let mut said = BufReader::new(child.stdout.take().expect("it is piped"));
        let (heard, words) = channel();
        thread::spawn(move || {
            let mut line = String::new();
            // A line that the end has cut short has no end itself.
            while said.read_line(&mut line).is_ok() && line.ends_with('\n') {
                line.pop();
                if heard.send(std::mem::take(&mut line)).is_err() {
                    return;
                }
            }
        });
        Running { child, words }
    }

    /// Enters what it says until `is_last`, for some time; whether that was said.
    fn hear_until(
        &mut self,
        ledger: &mut Ledger,
        within: Option<Duration>,
        mut is_last: impl FnMut(&Word) -> bool,
    ) -> bool {
        let until = Instant::now() + within.unwrap_or(2 * PATIENCE);
        loop {
            match self.words.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    if enter(ledger, &line, &mut is_last) {
                        return true;
                    }
                }
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return false,
            }
        }
    }

    fn tell_to_end(&mut self) {
        let told = self.child.stdin.as_mut().map(|stdin| stdin.write_all(b"end\n"));
        if let Some(Err(error)) = told {
            eprintln!("it cannot be told to end: {error}");
        }
    }

    /// Kills it, and hears what it has said until then.
    fn kill(mut self, ledger: &mut Ledger) -> Ended {
        // It may have ended by itself.
        let _ = self.child.kill();
        let status = self.child.wait().expect("it is a child");
        while let Ok(line) = self.words.recv() {
            enter(ledger, &line, &mut |_| false);
        }
        match (status.signal(), status.success()) {
            (Some(SIGKILL), _) => Ended::Killed,
            (_, true) => Ended::Well,
            _ => Ended::Badly,
        }
    }

    /// Waits for its end; whether it ended well.
    fn wait(self, ledger: &mut Ledger) -> bool {
        let Running { mut child, words } = self;
        drop(child.stdin.take());
        while let Ok(line) = words.recv() {
            enter(ledger, &line, &mut |_| false);
        }
        child.wait().is_ok_and(|status| status.success())
    }
}

fn enter(ledger: &mut Ledger, line: &str, is_last: &mut impl FnMut(&Word) -> bool) -> bool {
    let Some(word) = words::read(line) else {
        ledger.hear(Word::Trouble(format!("{line:?} is not understood")));
        return false;
    };
    let is_last = is_last(&word);
    ledger.hear(word);
    is_last
}
