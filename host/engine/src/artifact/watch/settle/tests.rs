//! The decisions against a model of a directory: any order of creations, writes,
//! links, renames and removals, with looks at any time between.
//!
//! long: a table of cases and one property over all of them.

use std::collections::HashMap;

use proptest::prelude::*;

use super::file::{HELD_AFTER, LOOK_AGAIN_MAX, QUIET, Ready, SETTLE};
use super::*;
use crate::artifact::watch::Candidate;
use crate::artifact::watch::look::{Look, Writer};

const MS: Duration = Duration::from_millis(1);

fn look(version: u64, writer: Writer, links: u64) -> Look {
    let fingerprint = Fingerprint {
        device: 1,
        inode: 1,
        size_bytes: 100,
        modified_ns: i128::from(version),
        changed_ns: i128::from(version),
    };
    Look { fingerprint, is_regular: true, links, writer, is_aged: false }
}

/// A machine with one file, and the answer that every look gets.
struct One {
    settle: Settle,
    now: Duration,
}

impl One {
    fn new() -> Self {
        One { settle: Settle::new("/plugins".into()), now: Duration::from_secs(100) }
    }

    fn hint(&mut self, hint: Hint) -> &mut Self {
        self.settle.hint(OsStr::new("a.so"), hint, self.now);
        self
    }

    /// Lets time pass, looking whenever a look is due; returns what is reported.
    fn pass(&mut self, time: Duration, looked: Looked) -> Vec<Report> {
        let end = self.now + time;
        let mut reports = Vec::new();
        while let Some(due) = self.settle.next_due().filter(|due| *due <= end) {
            self.now = self.now.max(due);
            for name in self.settle.take_due(self.now, 8) {
                self.settle.looked(&name, looked, self.now);
            }
            while let Some(report) = self.settle.front() {
                self.settle.delivered();
                reports.push(report);
            }
        }
        self.now = end;
        reports
    }
}

fn is_candidate(reports: &[Report]) -> bool {
    matches!(reports, [Report::Candidate(_)])
}

#[test]
fn a_closed_file_is_taken_in_the_same_instant() {
    let mut one = One::new();
    let reports = one.hint(Hint::Complete).pass(Duration::ZERO, look_none(1));
    assert!(is_candidate(&reports), "{reports:?}");
}

fn look_none(version: u64) -> Looked {
    Looked::File(look(version, Writer::None, 1))
}

#[test]
fn a_hard_link_is_taken_in_the_same_instant() {
    let linked = Looked::File(look(1, Writer::None, 2));
    let reports = One::new().hint(Hint::Appeared).pass(Duration::ZERO, linked);
    assert!(is_candidate(&reports), "{reports:?}");
}

#[test]
fn a_new_file_without_a_writer_is_taken_after_it_has_settled() {
    let mut one = One::new();
    assert!(one.hint(Hint::Appeared).pass(SETTLE - MS, look_none(1)).is_empty());
    assert!(is_candidate(&one.pass(MS, look_none(1))));
}

#[test]
fn where_the_kernel_does_not_tell_of_writers_only_quiet_or_a_close_counts() {
    let unknown = |version| Looked::File(look(version, Writer::Unknown, 2));
    let mut one = One::new();
    one.hint(Hint::Appeared);
    for version in 1..10 {
        assert!(one.pass(QUIET - MS, unknown(version)).is_empty());
    }
    assert!(is_candidate(&one.pass(QUIET * 2, unknown(10))));
    assert!(is_candidate(&one.hint(Hint::Complete).pass(Duration::ZERO, unknown(11))));
}

#[test]
fn a_file_that_is_moved_into_place_while_it_is_written_waits_for_its_writer() {
    let mut one = One::new();
    let open = Looked::File(look(1, Writer::Open, 1));
    assert!(one.hint(Hint::Complete).pass(Duration::from_secs(4), open).is_empty());
    assert!(is_candidate(&one.pass(LOOK_AGAIN_MAX, look_none(2))));
}

#[test]
fn a_writer_who_holds_a_file_without_changing_it_is_reported_once() {
    let mut one = One::new();
    let open = Looked::File(look(1, Writer::Open, 1));
    let reports = one.hint(Hint::Appeared).pass(HELD_AFTER * 4, open);
    assert!(matches!(&reports[..], [Report::Held { .. }]), "{reports:?}");
}

#[test]
fn a_close_without_a_change_is_not_reported_again() {
    let mut one = One::new();
    one.hint(Hint::Complete).pass(MS, look_none(1));
    assert!(one.hint(Hint::Complete).pass(QUIET, look_none(1)).is_empty());
}

#[test]
fn a_write_within_one_tick_of_the_file_system_s_clock_is_not_missed() {
    let mut one = One::new();
    one.hint(Hint::Complete).pass(MS, look_none(1));
    let reports = one.hint(Hint::Modified).hint(Hint::Complete).pass(MS, look_none(1));
    assert!(is_candidate(&reports), "{reports:?}");
}

#[test]
fn a_reader_can_ask_again_and_gets_one_report() {
    let mut one = One::new();
    one.hint(Hint::Complete).pass(MS, look_none(1));
    let reports = one.hint(Hint::Again).hint(Hint::Again).pass(QUIET, look_none(1));
    assert!(is_candidate(&reports), "{reports:?}");
}

#[test]
fn a_file_that_was_never_told_of_goes_in_silence() {
    let mut one = One::new();
    assert!(one.hint(Hint::Appeared).hint(Hint::Removed).pass(MS, Looked::Gone).is_empty());
    assert!(one.settle.files.is_empty());
}

#[test]
fn a_scan_finds_what_came_and_what_went() {
    let mut one = One::new();
    let found = [(OsString::from("a.so"), look(1, Writer::None, 1).fingerprint)];
    one.settle.scanned(&found, true, one.now);
    assert!(is_candidate(&one.pass(QUIET, look_none(1))));
    one.settle.scanned(&found, true, one.now);
    assert_eq!(one.settle.next_due(), None, "nothing has changed");
    one.settle.scanned(&[], true, one.now);
    let reports = one.pass(MS, Looked::Gone);
    assert!(matches!(&reports[..], [Report::Gone { .. }]), "{reports:?}");
    assert!(one.settle.files.is_empty());
}

#[test]
fn the_number_of_files_and_of_undelivered_reports_is_bounded() {
    let mut settle = Settle::new("/plugins".into());
    for round in 0..3 {
        for n in 0..MAX_FILES + 10 {
            settle.hint(OsStr::new(&format!("{n}.so")), Hint::Complete, round * MS);
        }
        for name in settle.take_due(round * MS, usize::MAX) {
            settle.looked(&name, look_none(round.into()), round * MS);
        }
    }
    assert_eq!(settle.files.len(), MAX_FILES);
    assert_eq!(settle.outbox.len(), MAX_FILES);
}

/// What happens in the modelled directory. The numbers name files.
#[derive(Debug, Clone, Copy)]
enum Step {
    Create(u8),
    Write(u8),
    Close(u8),
    Rename(u8, u8),
    Link(u8, u8),
    Remove(u8),
    Chmod(u8),
    /// Time passes; due looks are made.
    Pass(u16),
    /// The reader takes so many reports.
    Read(u8),
    /// Every event until the next scan is lost.
    Lose,
    Scan,
}

fn step() -> impl Strategy<Value = Step> {
    let file = 0..4_u8;
    prop_oneof![
        3 => file.clone().prop_map(Step::Create),
        4 => file.clone().prop_map(Step::Write),
        4 => file.clone().prop_map(Step::Close),
        2 => (file.clone(), file.clone()).prop_map(|(from, to)| Step::Rename(from, to)),
        2 => (file.clone(), file.clone()).prop_map(|(from, to)| Step::Link(from, to)),
        2 => file.clone().prop_map(Step::Remove),
        1 => file.prop_map(Step::Chmod),
        6 => (0..60_u16).prop_map(Step::Pass),
        3 => (0..4_u8).prop_map(Step::Read),
        1 => Just(Step::Lose),
        1 => Just(Step::Scan),
    ]
}

#[derive(Debug, Clone, Default)]
struct Inode {
    number: u64,
    changed: u64,
    is_open: bool,
}

/// A directory of names over inodes, each with at most one writer.
struct Model {
    settle: Settle,
    names: HashMap<u8, usize>,
    inodes: Vec<Inode>,
    now: Duration,
    tick: u64,
    is_losing: bool,
    /// What the reader believes: the inode and its state.
    told: HashMap<PathBuf, (u64, u64)>,
    /// How often each state of each file was reported.
    reports: HashMap<(PathBuf, u64, u64), u32>,
}

fn name_of(file: u8) -> OsString {
    format!("{file}.so").into()
}

impl Model {
    fn new() -> Self {
        Model {
            settle: Settle::new("/plugins".into()),
            names: HashMap::new(),
            inodes: Vec::new(),
            now: Duration::from_secs(1),
            tick: 0,
            is_losing: false,
            told: HashMap::new(),
            reports: HashMap::new(),
        }
    }

    fn hint(&mut self, file: u8, hint: Hint) {
        if !self.is_losing {
            self.settle.hint(&name_of(file), hint, self.now);
        }
    }

    fn look(&self, file: u8) -> Looked {
        let Some(&index) = self.names.get(&file) else {
            return Looked::Gone;
        };
        let inode = &self.inodes[index];
        let links = self.names.values().filter(|other| **other == index).count() as u64;
        let writer = if inode.is_open { Writer::Open } else { Writer::None };
        let mut look = look(inode.changed, writer, links);
        look.fingerprint.inode = inode.number;
        Looked::File(look)
    }

    /// A change of an inode: its times move.
    fn touch(&mut self, index: usize) {
        self.tick += 1;
        self.inodes[index].changed = self.tick;
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Create(file) => {
                // As with unlink and create: a new inode under the name.
                self.step(Step::Remove(file));
                self.tick += 1;
                let inode = Inode { number: self.tick, changed: self.tick, is_open: true };
                self.inodes.push(inode);
                self.names.insert(file, self.inodes.len() - 1);
                self.hint(file, Hint::Appeared);
            }
            Step::Write(file) => {
                if let Some(&index) = self.names.get(&file) {
                    self.inodes[index].is_open = true;
                    self.touch(index);
                    self.hint(file, Hint::Modified);
                }
            }
            Step::Close(file) => {
                if let Some(&index) = self.names.get(&file)
                    && std::mem::take(&mut self.inodes[index].is_open)
                {
                    self.hint(file, Hint::Complete);
                }
            }
            Step::Rename(from, to) if from != to => {
                if let Some(index) = self.names.remove(&from) {
                    self.names.insert(to, index);
                    self.touch(index);
                    self.hint(from, Hint::Removed);
                    self.hint(to, Hint::Complete);
                }
            }
            Step::Link(from, to) => {
                if let (Some(&index), false) = (self.names.get(&from), self.names.contains_key(&to)) {
                    self.names.insert(to, index);
                    self.touch(index);
                    self.hint(to, Hint::Appeared);
                }
            }
            Step::Remove(file) => {
                if self.names.remove(&file).is_some() {
                    self.hint(file, Hint::Removed);
                }
            }
            Step::Chmod(file) => {
                if let Some(&index) = self.names.get(&file) {
                    self.touch(index);
                    self.hint(file, Hint::Attributes);
                }
            }
            Step::Pass(ms) => self.pass(Duration::from_millis(ms.into())),
            Step::Read(count) => self.read(count.into()),
            Step::Lose => self.is_losing = true,
            Step::Scan => self.scan(),
            Step::Rename(..) => {}
        }
    }

    fn scan(&mut self) {
        self.is_losing = false;
        let found: Vec<_> = self
            .names
            .keys()
            .filter_map(|file| match self.look(*file) {
                Looked::File(look) => Some((name_of(*file), look.fingerprint)),
                _ => None,
            })
            .collect();
        self.settle.scanned(&found, true, self.now);
    }

    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(due) = self.settle.next_due().filter(|due| *due <= end) {
            self.now = self.now.max(due);
            for name in self.settle.take_due(self.now, 2) {
                let file = name.as_encoded_bytes()[0] - b'0';
                let looked = self.look(file);
                self.settle.looked(&name, looked, self.now);
                self.assert_not_offered_while_written(&name, looked);
            }
        }
        self.now = end;
    }

    fn assert_not_offered_while_written(&self, name: &Name, looked: Looked) {
        let ready = self.settle.files.get(name).and_then(|file| file.ready);
        if let (Looked::File(look), Some(Ready::Candidate { .. })) = (looked, ready) {
            assert_ne!(look.writer, Writer::Open, "{name:?} is offered while it is written");
        }
    }

    fn read(&mut self, count: usize) {
        for _ in 0..count {
            let Some(report) = self.settle.front() else {
                return;
            };
            match report {
                Report::Candidate(Candidate { path, .. }) => {
                    let name = path.file_name().expect("a name");
                    let ready = self.settle.files[name].ready;
                    let Some(Ready::Candidate { taken, .. }) = ready else { panic!("{ready:?}") };
                    let Fingerprint { inode, changed_ns, .. } = taken.fingerprint;
                    let state = (inode, changed_ns as u64);
                    self.told.insert(path.clone(), state);
                    *self.reports.entry((path, state.0, state.1)).or_default() += 1;
                }
                Report::Gone { path } => {
                    assert!(self.told.remove(&path).is_some(), "gone without having been there");
                }
                Report::Held { .. } => {}
                other => panic!("{other:?}"),
            }
            self.settle.delivered();
        }
    }
}

proptest! {
    #[test]
    fn every_stable_file_is_reported_once_for_each_content_and_none_while_it_is_written(
        steps in proptest::collection::vec(step(), 1..60),
    ) {
        let mut model = Model::new();
        for step in steps {
            model.step(step);
        }
        // The writers end, lost events are made up for, the reader catches up.
        for file in 0..4 {
            model.step(Step::Close(file));
        }
        model.scan();
        model.pass(Duration::from_secs(2));
        model.read(usize::MAX);

        let expected: HashMap<PathBuf, (u64, u64)> = model
            .names
            .iter()
            .map(|(file, index)| {
                let inode = &model.inodes[*index];
                (PathBuf::from("/plugins").join(name_of(*file)), (inode.number, inode.changed))
            })
            .collect();
        prop_assert_eq!(&model.told, &expected);
        prop_assert!(model.settle.due.is_empty());
        prop_assert!(model.settle.outbox.is_empty());
        prop_assert_eq!(model.settle.files.len(), expected.len());
        let twice = model.reports.iter().find(|(_, count)| **count > 1);
        prop_assert_eq!(twice, None, "reported twice without a change between");
    }
}
