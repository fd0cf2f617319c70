//! The socket: whose it is, and what may stand in its place.

use crate::process::{Daemon, ended, home, log, replug, run, text};
use replug_tests::harness::wait_until;
use std::{
    fs,
    os::unix::{fs::PermissionsExt, net::UnixListener},
};

#[test]
fn the_socket_is_its_owners_alone_and_goes_with_the_host() {
    let mut daemon = Daemon::start();
    let mode = fs::metadata(daemon.socket()).expect("is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(daemon.terminate(), Some(0));
    assert!(!daemon.socket().exists());
}

#[test]
fn a_host_listens_where_it_is_told_to() {
    let home = home();
    let socket = home.path().join("elsewhere.sock");
    let mut process = run(home.path()).arg("--socket").arg(&socket).spawn().expect("starts");
    wait_until("an answer", || {
        replug().args(["status", "--socket"]).arg(&socket).output().expect("runs").status.success()
    });
    assert!(!home.path().join("data/replug.sock").exists());
    process.kill().and_then(|()| process.wait()).expect("ends");
}

#[test]
fn a_socket_that_a_dead_host_left_is_taken_over() {
    let home = home();
    fs::create_dir(home.path().join("data")).expect("creates");
    let socket = home.path().join("data/replug.sock");
    drop(UnixListener::bind(&socket).expect("binds"));
    assert!(socket.exists(), "a listener leaves its file");
    let mut process = run(home.path()).spawn().expect("starts");
    wait_until("an answer", || {
        replug().args(["status", "--socket"]).arg(&socket).output().expect("runs").status.success()
    });
    process.kill().and_then(|()| process.wait()).expect("ends");
}

#[test]
fn a_socket_that_somebody_answers_at_is_refused_and_left_alone() {
    let home = home();
    let socket = home.path().join("taken.sock");
    let listener = UnixListener::bind(&socket).expect("binds");
    let mut process = run(home.path()).arg("--socket").arg(&socket).spawn().expect("starts");
    assert_eq!(ended(&mut process).code(), Some(1));
    let error = log(home.path());
    assert!(error.contains("error[host.socket]: another process listens at "), "{error}");
    assert!(error.contains("taken.sock") && error.contains("\n  next:  "), "{error}");
    drop(listener);
    assert!(socket.exists());
}

#[test]
fn a_file_in_the_place_of_the_socket_is_left_alone() {
    let home = home();
    let file = home.path().join("notes.txt");
    fs::write(&file, "mine").expect("writes");
    let mut process = run(home.path()).arg("--socket").arg(&file).spawn().expect("starts");
    assert_eq!(ended(&mut process).code(), Some(1));
    let error = log(home.path());
    assert!(error.contains("error[host.socket]") && error.contains("is not a socket"), "{error}");
    assert_eq!(fs::read(&file).map(|bytes| text(&bytes)).expect("is there"), "mine");
}

#[test]
fn a_second_host_on_a_data_directory_is_told_who_has_it() {
    let daemon = Daemon::start();
    let second = run(daemon.home()).stderr(std::process::Stdio::piped()).output().expect("runs");
    assert_eq!(second.status.code(), Some(1));
    let error = text(&second.stderr);
    let owner = format!("is in use by process {}\n", daemon.id());
    assert!(error.contains("error[host.data_locked]") && error.contains(&owner), "{error}");
    assert!(daemon.verb(&["status"]).status.success(), "the first one serves on");
}
