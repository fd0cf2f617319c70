//! The watch against real files and real events.
//!
//! long: one test for each way in which a file can arrive.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;
use std::sync::mpsc;
use std::time::Instant;

use tempfile::TempDir;

use super::*;

const DEADLINE: Duration = Duration::from_secs(20);
/// So long nothing may be reported where nothing is due.
const SILENCE: Duration = Duration::from_millis(200);

struct Watched {
    watcher: Watcher,
    /// Beside the watched directory, on the same file system.
    workshop: TempDir,
    /// Reports that came while another was waited for.
    passed_over: RefCell<Vec<Report>>,
}

impl Watched {
    fn start(options: WatchOptions) -> Self {
        let workshop = tempfile::tempdir().expect("a directory");
        let directory = workshop.path().join("plugins");
        Watched::start_in(workshop, &directory, options)
    }

    fn start_in(workshop: TempDir, directory: &Path, options: WatchOptions) -> Self {
        let watcher = Watcher::start(directory, options).expect("a watch");
        Watched { watcher, workshop, passed_over: RefCell::default() }
    }

    fn by_events() -> Self {
        let watched = Watched::start(WatchOptions::default());
        assert_eq!(watched.watcher.mode(), WatchMode::Events);
        watched.wait_for(|report| matches!(report, Report::Rescanned { .. }));
        watched
    }

    fn by_polling() -> Self {
        let options = WatchOptions {
            force_polling: true,
            poll_interval: Duration::from_millis(20),
            ..WatchOptions::default()
        };
        Watched::start(options)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.watcher.directory().join(name)
    }

    fn outside(&self, name: &str) -> PathBuf {
        self.workshop.path().join(name)
    }

    /// Completes a file elsewhere and renames it into place.
    fn drop_in(&self, name: &str, content: &[u8]) {
        fs::write(self.outside(name), content).expect("written");
        fs::rename(self.outside(name), self.path(name)).expect("renamed");
    }

    /// The first such report that has not been waited for yet, in any order.
    fn wait_for(&self, is_it: impl Fn(&Report) -> bool) -> Report {
        let end = Instant::now() + DEADLINE;
        let mut passed_over = self.passed_over.borrow_mut();
        if let Some(at) = passed_over.iter().position(&is_it) {
            return passed_over.remove(at);
        }
        loop {
            match self.watcher.reports().recv_deadline(end) {
                Ok(report) if is_it(&report) => return report,
                Ok(report) => passed_over.push(report),
                Err(error) => panic!("{error}; other reports: {passed_over:?}"),
            }
        }
    }

    fn candidate(&self, name: &str) -> Candidate {
        let path = self.path(name);
        let report = self.wait_for(|r| matches!(r, Report::Candidate(c) if c.path == path));
        match report {
            Report::Candidate(candidate) => candidate,
            other => panic!("{other:?}"),
        }
    }

    fn gone(&self, name: &str) {
        let path = self.path(name);
        self.wait_for(|r| matches!(r, Report::Gone { path: gone } if *gone == path));
    }

    fn assert_silence(&self) {
        let report = self.watcher.reports().recv_timeout(SILENCE);
        assert!(report.is_err(), "{report:?}");
    }
}

#[test]
fn what_is_there_at_the_start_is_reported() {
    let dir = tempfile::tempdir().expect("a directory");
    for name in ["a.so", "b.so", "c.txt", ".d.so"] {
        fs::write(dir.path().join(name), name).expect("written");
    }
    let directory = dir.path().to_path_buf();
    let watched = Watched::start_in(dir, &directory, WatchOptions::default());
    watched.wait_for(|r| *r == Report::Rescanned { cause: RescanCause::Start, files: 2 });
    let mut names: Vec<_> = (0..2)
        .map(|_| match watched.wait_for(|r| matches!(r, Report::Candidate(_))) {
            Report::Candidate(candidate) => candidate.path,
            other => panic!("{other:?}"),
        })
        .collect();
    names.sort();
    assert_eq!(names, [watched.path("a.so"), watched.path("b.so")]);
    watched.assert_silence();
}

#[test]
fn a_missing_directory_is_made_and_a_file_in_its_place_is_an_error() {
    let dir = tempfile::tempdir().expect("a directory");
    let deep = dir.path().join("x/y/plugins");
    Watcher::start(&deep, WatchOptions::default()).expect("a watch");
    assert!(deep.is_dir());

    let file = dir.path().join("file");
    fs::write(&file, b"").expect("written");
    let error = Watcher::start(&file, WatchOptions::default()).expect_err("not a directory");
    assert_eq!(error.code().as_str(), "watch.directory");
    assert!(error.to_string().contains("file"), "{error}");
}

#[test]
fn a_rename_into_place_is_taken() {
    let watched = Watched::by_events();
    watched.drop_in("a.so", b"one");
    assert_eq!(watched.candidate("a.so").size_bytes, 3);
    watched.assert_silence();
}

#[test]
fn a_rename_over_a_file_and_an_overwrite_in_place_are_new_candidates() {
    let watched = Watched::by_events();
    watched.drop_in("a.so", b"one");
    watched.candidate("a.so");
    watched.drop_in("a.so", b"twoo");
    assert_eq!(watched.candidate("a.so").size_bytes, 4);
    fs::write(watched.path("a.so"), b"three").expect("written");
    assert_eq!(watched.candidate("a.so").size_bytes, 5);
    watched.assert_silence();
}

#[test]
fn a_half_copied_file_is_not_taken_until_the_writer_closes() {
    for watched in [Watched::by_events(), Watched::by_polling()] {
        let mut writer = File::create(watched.path("half.so")).expect("created");
        for _ in 0..10 {
            writer.write_all(&[7; 10_000]).expect("written");
        }
        watched.drop_in("other.so", b"complete");
        watched.candidate("other.so");
        watched.assert_silence();
        writer.write_all(&[7; 10_000]).expect("written");
        drop(writer);
        assert_eq!(watched.candidate("half.so").size_bytes, 110_000);
        watched.assert_silence();
    }
}

#[test]
fn a_hard_link_is_taken_without_close_write() {
    let watched = Watched::by_events();
    fs::write(watched.outside("built.so"), b"built").expect("written");
    fs::hard_link(watched.outside("built.so"), watched.path("a.so")).expect("linked");
    assert_eq!(watched.candidate("a.so").size_bytes, 5);
    watched.assert_silence();
}

#[test]
fn a_hard_link_to_a_file_that_is_being_written_waits_for_the_writer() {
    let watched = Watched::by_events();
    let mut writer = File::create(watched.outside("built.so")).expect("created");
    writer.write_all(b"half").expect("written");
    fs::hard_link(watched.outside("built.so"), watched.path("a.so")).expect("linked");
    watched.assert_silence();
    writer.write_all(b"done").expect("written");
    // The kernel tells of this close under the other name only.
    drop(writer);
    assert_eq!(watched.candidate("a.so").size_bytes, 8);
}

#[test]
fn names_that_do_not_end_in_so_and_hidden_files_are_ignored() {
    let watched = Watched::by_events();
    for name in ["a.so.tmp", ".a.so", "a.txt", "a"] {
        watched.drop_in(name, b"content");
    }
    watched.assert_silence();
    fs::rename(watched.path("a.so.tmp"), watched.path("a.so")).expect("renamed");
    watched.candidate("a.so");
}

#[test]
fn a_removed_or_renamed_file_is_gone() {
    for watched in [Watched::by_events(), Watched::by_polling()] {
        watched.drop_in("a.so", b"one");
        watched.drop_in("b.so", b"two");
        watched.candidate("b.so");
        fs::remove_file(watched.path("a.so")).expect("removed");
        watched.gone("a.so");
        fs::rename(watched.path("b.so"), watched.path("b.off")).expect("renamed");
        watched.gone("b.so");
        watched.assert_silence();
    }
}

#[test]
fn what_is_not_a_regular_file_is_reported_so_that_it_can_be_refused() {
    let watched = Watched::by_events();
    symlink("/nowhere", watched.path("link.so")).expect("linked");
    watched.candidate("link.so");
    fs::create_dir(watched.path("folder.so")).expect("made");
    watched.candidate("folder.so");
    let fifo = watched.path("pipe.so");
    assert!(Command::new("mkfifo").arg(&fifo).status().expect("mkfifo").success());
    watched.candidate("pipe.so");
}

#[test]
fn a_file_whose_permissions_are_mended_is_reported_again() {
    let watched = Watched::by_events();
    watched.drop_in("a.so", b"one");
    watched.candidate("a.so");
    let mode = fs::Permissions::from_mode(0o600);
    fs::set_permissions(watched.path("a.so"), mode).expect("changed");
    watched.candidate("a.so");
}

#[test]
fn a_reader_can_ask_for_a_file_again() {
    let watched = Watched::by_events();
    watched.drop_in("a.so", b"one");
    let first = watched.candidate("a.so");
    watched.assert_silence();
    watched.watcher.report_again(&first.path);
    watched.candidate("a.so");
    watched.assert_silence();
}

/// Reads until `last.so`; counts the candidates before it.
fn count_until_last(watched: &Watched) -> HashMap<PathBuf, u32> {
    let mut counts = HashMap::new();
    let last = watched.path("last.so");
    loop {
        match watched.wait_for(|report| matches!(report, Report::Candidate(_))) {
            Report::Candidate(candidate) if candidate.path == last => return counts,
            Report::Candidate(candidate) => *counts.entry(candidate.path).or_default() += 1,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_thousand_files_at_once_are_all_reported() {
    // The reader sleeps while they come, and has room for few.
    let watched = Watched::start(WatchOptions { report_queue: 8, ..WatchOptions::default() });
    for n in 0..1_000 {
        fs::write(watched.path(&format!("{n}.so")), format!("content {n}")).expect("written");
    }
    let mut found = HashMap::new();
    while found.len() < 1_000 {
        if let Report::Candidate(Candidate { path, .. }) = watched.wait_for(|_| true) {
            *found.entry(path).or_insert(0) += 1;
        }
    }
    watched.drop_in("last.so", b"last");
    assert!(count_until_last(&watched).is_empty(), "reported twice");
    assert!(found.values().all(|count| *count == 1), "reported twice");
}

#[test]
fn nothing_is_lost_when_the_event_queue_is_too_small() {
    let watched = Watched::start(WatchOptions { event_queue: 1, ..WatchOptions::default() });
    for n in 0..300 {
        fs::write(watched.path(&format!("{n}.so")), format!("content {n}")).expect("written");
    }
    let mut found = HashMap::new();
    while found.len() < 300 {
        if let Report::Candidate(Candidate { path, .. }) = watched.wait_for(|_| true) {
            *found.entry(path).or_insert(0) += 1;
        }
    }
}

#[test]
fn overflow_leads_to_a_full_rescan() {
    // No events, and no scan for an hour: only the overflow can find the file.
    let watched = Watched::start(WatchOptions {
        force_polling: true,
        poll_interval: Duration::from_secs(3600),
        ..WatchOptions::default()
    });
    watched.wait_for(|report| matches!(report, Report::Rescanned { .. }));
    watched.drop_in("missed.so", b"content");
    watched.assert_silence();
    watched.watcher.signals.send(Signal::Overflow).expect("the watch runs");
    watched.wait_for(|r| *r == Report::Rescanned { cause: RescanCause::Overflow, files: 1 });
    watched.candidate("missed.so");
}

#[test]
fn directory_deleted_and_made_again_is_rearmed() {
    let watched = Watched::by_events();
    watched.drop_in("a.so", b"one");
    watched.candidate("a.so");
    fs::remove_dir_all(watched.watcher.directory()).expect("removed");
    watched.wait_for(|r| matches!(r, Report::Mode(WatchMode::Absent { .. })));
    watched.gone("a.so");
    fs::create_dir(watched.watcher.directory()).expect("made");
    watched.wait_for(|r| *r == Report::Mode(WatchMode::Events));
    watched.drop_in("b.so", b"two");
    watched.candidate("b.so");
    assert_eq!(watched.watcher.mode(), WatchMode::Events);
}

#[test]
fn directory_replaced_in_a_moment_is_rearmed_by_its_event() {
    let watched =
        Watched::start(WatchOptions { check_interval: Duration::from_secs(3600), ..WatchOptions::default() });
    watched.wait_for(|report| matches!(report, Report::Rescanned { .. }));
    fs::create_dir(watched.outside("next")).expect("made");
    fs::write(watched.outside("next/a.so"), b"one").expect("written");
    fs::rename(watched.watcher.directory(), watched.outside("previous")).expect("moved");
    fs::rename(watched.outside("next"), watched.watcher.directory()).expect("moved");
    watched.candidate("a.so");
    watched.drop_in("b.so", b"two");
    watched.candidate("b.so");
    // The directory that was moved away is watched no longer.
    fs::write(watched.outside("previous/c.so"), b"three").expect("written");
    watched.assert_silence();
}

#[test]
fn a_directory_that_goes_with_its_parent_is_found_out_without_an_event() {
    let workshop = tempfile::tempdir().expect("a directory");
    let parent = workshop.path().join("parent");
    let options = WatchOptions { check_interval: Duration::from_millis(20), ..WatchOptions::default() };
    let watched = Watched::start_in(workshop, &parent.join("plugins"), options);
    watched.drop_in("a.so", b"one");
    watched.candidate("a.so");
    fs::rename(&parent, watched.outside("elsewhere")).expect("moved");
    watched.gone("a.so");
    fs::create_dir_all(parent.join("plugins")).expect("made");
    watched.wait_for(|r| *r == Report::Mode(WatchMode::Events));
    watched.drop_in("b.so", b"two");
    watched.candidate("b.so");
}

#[test]
fn polling_takes_over_when_events_are_not_to_be_had() {
    const ROLE: &str = "REPLUG_TEST_WITHOUT_DESCRIPTORS";
    if std::env::var_os(ROLE).is_some() {
        return without_descriptors();
    }
    // A limit of the process: in a child, so that no other test feels it.
    let name = "artifact::watch::tests::polling_takes_over_when_events_are_not_to_be_had";
    let output = Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", name, "--test-threads=1"])
        .env(ROLE, "1")
        .output()
        .expect("the child runs");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

/// Leaves the process two file descriptors: enough to scan, not for events.
fn without_descriptors() {
    let limit = libc::rlimit { rlim_cur: 64, rlim_max: 64 };
    // SAFETY: `limit` is a valid rlimit for the length of the call.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) }, 0);
    let workshop = tempfile::tempdir().expect("a directory");
    let mut all: Vec<File> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
    all.truncate(all.len() - 2);

    let options = WatchOptions {
        poll_interval: Duration::from_millis(20),
        rescan_interval: Duration::from_millis(50),
        ..WatchOptions::default()
    };
    let directory = workshop.path().join("plugins");
    let watched = Watched::start_in(workshop, &directory, options);
    match watched.watcher.mode() {
        WatchMode::Polling { reason, .. } => assert!(reason.contains("descriptor"), "{reason}"),
        other => panic!("{other:?}"),
    }
    drop(all.pop());
    watched.drop_in("a.so", b"one");
    watched.candidate("a.so");
    // Events are taken up when there are some again.
    drop(all);
    watched.wait_for(|r| *r == Report::Mode(WatchMode::Events));
    watched.drop_in("b.so", b"two");
    watched.candidate("b.so");
}

#[test]
fn polling_sees_copies_overwrites_and_links() {
    let watched = Watched::by_polling();
    fs::write(watched.path("a.so"), b"one").expect("written");
    watched.candidate("a.so");
    fs::write(watched.path("a.so"), b"three").expect("written");
    assert_eq!(watched.candidate("a.so").size_bytes, 5);
    fs::write(watched.outside("b.so"), b"two").expect("written");
    fs::hard_link(watched.outside("b.so"), watched.path("b.so")).expect("linked");
    watched.candidate("b.so");
    watched.assert_silence();
}

#[test]
fn stop_is_prompt_even_if_nobody_reads() {
    let watched = Watched::start(WatchOptions { report_queue: 1, ..WatchOptions::default() });
    for n in 0..50 {
        watched.drop_in(&format!("{n}.so"), b"content");
    }
    let (done, stopped) = mpsc::channel();
    let reports = watched.watcher.reports().clone();
    let stopper = thread::spawn(move || {
        watched.watcher.stop();
        done.send(()).expect("the test waits");
    });
    stopped.recv_timeout(DEADLINE).expect("stopped");
    stopper.join().expect("no panic");
    // The thread has ended: what was queued is there, and then the end.
    while reports.try_recv().is_ok() {}
    assert_eq!(reports.try_recv(), Err(channel::TryRecvError::Disconnected));
}
