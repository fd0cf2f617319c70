//! Followers of events and watchers of the status.

use crate::{
    http::{ask, follow},
    process::{Daemon, ended},
};
use replug_tests::{
    artifacts,
    harness::{PATIENCE, wait_until},
};
use std::{
    fs,
    io::{BufRead, BufReader, Read},
    process::Child,
    sync::mpsc::{Receiver, channel},
    thread,
};

/// The lines that a process writes, as they come.
fn lines(process: &mut Child) -> Receiver<String> {
    let output = BufReader::new(process.stdout.take().expect("piped"));
    let (line, lines) = channel();
    thread::spawn(move || {
        for text in output.lines() {
            let Ok(text) = text else { return };
            if line.send(text).is_err() {
                return;
            }
        }
    });
    lines
}

fn wait_for(lines: &Receiver<String>, what: &str) -> String {
    loop {
        let line =
            lines.recv_timeout(PATIENCE).unwrap_or_else(|error| panic!("{what} did not come: {error}"));
        if line.contains(what) {
            return line;
        }
    }
}

#[test]
fn events_follow_what_happens_until_the_host_ends() {
    let mut daemon = Daemon::start();
    let mut follower = daemon.spawn(&["events", "--follow"]);
    let lines = lines(&mut follower);
    daemon.deploy(&artifacts::hostile("hostile-v1"), "hostile@1.0.0");
    let first = wait_for(&lines, r#""event":"published""#);
    assert!(first.contains(r#""plugin":"hostile""#), "{first}");
    daemon.deploy(&artifacts::hostile("hostile-v2"), "hostile@2.0.0");
    let second = wait_for(&lines, r#""event":"published""#);
    assert!(second.contains("hostile@2.0.0"), "{second}");
    assert_eq!(daemon.terminate(), Some(0));
    wait_for(&lines, r#""event":"stopped""#);
    assert_eq!(ended(&mut follower).code(), Some(0));
}

#[test]
fn events_follow_unless_told_otherwise() {
    let daemon = Daemon::start();
    let (status, mut stream) = follow(&daemon.socket(), "GET /v1/events");
    assert_eq!(status, 200);
    // The stream stands open before anything happens.
    daemon.deploy(&artifacts::hostile("hostile-v1"), "hostile@1.0.0");
    let mut seen = String::new();
    while !seen.contains(r#""event":"published""#) {
        assert!(stream.read_line(&mut seen).expect("a line") > 0, "it ended: {seen}");
    }
    let kept = ask(&daemon.socket(), "GET /v1/events?follow=false", "", "");
    assert!(kept.body.contains(r#""event":"published""#), "{}", kept.body);
    let later = ask(&daemon.socket(), "GET /v1/events?follow=false&since=1000000", "", "");
    assert!(!later.body.contains("event"), "{}", later.body);
}

/// Each follower held a thread of the pool that calls run on; 512 of them left
/// none for calls.
#[test]
fn followers_are_bounded_and_hold_no_threads() {
    let daemon = Daemon::start();
    let tasks = format!("/proc/{}/task", daemon.id());
    let threads = || fs::read_dir(&tasks).expect("reads").count();
    let before = threads();
    let mut followers: Vec<_> = (0..64).map(|_| follow(&daemon.socket(), "GET /v1/events")).collect();
    assert!(followers.iter().all(|(status, _)| *status == 200));
    assert!(threads() < before + 16, "{} threads, and {before} before", threads());
    let one_more = ask(&daemon.socket(), "GET /v1/events", "", "");
    assert_eq!((one_more.status, one_more.json()["code"].as_str()), (503, Some("host.overloaded")));
    followers.pop();
    wait_until("a place becoming free", || {
        ask(&daemon.socket(), "GET /v1/events?follow=false", "", "").status == 200
    });
}

#[test]
fn a_watched_status_comes_again_until_the_host_ends() {
    let mut daemon = Daemon::start();
    let mut watcher = daemon.spawn(&["status", "--watch"]);
    let lines = lines(&mut watcher);
    wait_for(&lines, "all right: 0 plugins");
    daemon.deploy(&artifacts::hostile("hostile-v1"), "hostile@1.0.0");
    wait_for(&lines, "hostile@1.0.0");
    assert_eq!(daemon.terminate(), Some(0));
    assert_eq!(ended(&mut watcher).code(), Some(3), "no host answers any more");
}

#[test]
fn watched_tables_come_again_as_plain_lines_where_no_terminal_is() {
    let mut daemon = Daemon::start();
    let mut watcher = daemon.spawn(&["tables", "--watch"]);
    let lines = lines(&mut watcher);
    wait_for(&lines, "PLUGIN");
    daemon.deploy(&artifacts::plugin("sessions-v1"), "sessions@1.0.0");
    for _ in 0..2 {
        let line = wait_for(&lines, "sessions  by_user");
        assert!(!line.contains('\x1b') && line.contains("memory"), "{line}");
    }
    assert_eq!(daemon.terminate(), Some(0));
    assert_eq!(ended(&mut watcher).code(), Some(3), "no host answers any more");
}

#[test]
fn a_reader_that_goes_away_ends_the_watch() {
    let daemon = Daemon::start();
    let mut watcher = daemon.spawn(&["status", "--watch"]);
    let mut output = watcher.stdout.take().expect("piped");
    output.read_exact(&mut [0]).expect("a byte");
    drop(output);
    assert_eq!(ended(&mut watcher).code(), Some(0), "as with `| head`");
}
