//! The binary, as an operator uses it: real processes, files and signals.

use replug_tests::{artifacts, harness::wait_until};
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
};
use tempfile::TempDir;

struct Daemon {
    home: TempDir,
    process: Child,
}

impl Daemon {
    fn start() -> Daemon {
        let home = tempfile::tempdir().expect("a directory");
        fs::create_dir(home.path().join("plugins")).expect("creates");
        let process = run(home.path());
        let daemon = Daemon { home, process };
        wait_until("the daemon answering", || daemon.verb(&["status"]).status.success());
        daemon
    }

    fn drop_file(&self, library: &Path, name: &str) {
        let beside = self.home.path().join("part");
        fs::copy(library, &beside).expect("copies");
        fs::rename(beside, self.home.path().join("plugins").join(name)).expect("renames");
    }

    fn verb(&self, words: &[&str]) -> Output {
        replug().args(words).env("REPLUG_DATA", self.home.path().join("data")).output().expect("runs")
    }

    fn terminate(&mut self) -> Option<i32> {
        let id = self.process.id().to_string();
        let sent = Command::new("kill").args(["-TERM", &id]).status().expect("kill runs");
        assert!(sent.success());
        self.process.wait().expect("ends").code()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It has ended already in tests that end it.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn replug() -> Command {
    Command::new(env!("CARGO_BIN_EXE_replug"))
}

fn run(home: &Path) -> Child {
    let (plugins, data): (PathBuf, PathBuf) = (home.join("plugins"), home.join("data"));
    replug()
        .arg("run")
        .arg("--plugins")
        .arg(plugins)
        .arg("--data")
        .arg(data)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn an_operator_drops_calls_activates_and_ends_with_saved_state() {
    let mut daemon = Daemon::start();
    daemon.drop_file(&artifacts::plugin("limiter-v1"), "limiter-1.0.0.so");
    daemon.drop_file(&artifacts::plugin("limiter-v2"), "limiter-2.0.0.so");
    let take = ["call", "limiter", "take", "--data", r#"{"key":"ada"}"#];
    wait_until("both being listed", || text(&daemon.verb(&["list"]).stdout).matches("limiter@").count() == 2);
    wait_until("2.0.0 serving", || text(&daemon.verb(&["status"]).stdout).contains("limiter@2.0.0"));
    assert!(daemon.verb(&take).status.success());
    let activated = daemon.verb(&["activate", "limiter", "1.0.0"]);
    assert!(text(&activated.stdout).starts_with("limiter@1.0.0+"), "{activated:?}");
    assert!(daemon.verb(&take).status.success());
    assert_eq!(text(&daemon.verb(&["call", "limiter", "count", "--data", "ada"]).stdout), "2");
    let status = text(&daemon.verb(&["status"]).stdout);
    assert!(status.starts_with("all right: "), "{status}");
    assert!(text(&daemon.verb(&["events"]).stdout).contains(r#""event":"state_handed_over""#));
    assert_eq!(daemon.terminate(), Some(0));
    daemon.process = run(daemon.home.path());
    wait_until("the state being back", || {
        text(&daemon.verb(&["call", "limiter", "count", "--data", "ada"]).stdout) == "2"
    });
}

#[test]
fn refusals_have_a_code_a_next_step_and_an_exit_code() {
    let daemon = Daemon::start();
    let unknown = daemon.verb(&["call", "nobody", "x"]);
    assert_eq!(unknown.status.code(), Some(1));
    let error = text(&unknown.stderr);
    assert!(error.contains("error[call.unknown_plugin]") && error.contains("next: "), "{error}");
    let second = run(daemon.home.path()).wait().expect("ends");
    assert_eq!(second.code(), Some(1), "one data directory, one host");
    let nowhere = replug().args(["status", "--data-dir", "/nonexistent"]).output().expect("runs");
    assert_eq!(nowhere.status.code(), Some(3));
    assert!(text(&nowhere.stderr).contains("replug run"));
}

#[test]
fn inspect_prints_the_manifest_without_running_the_file() {
    let library = artifacts::hostile("hostile-constructor");
    let table = replug().arg("inspect").arg(&library).output().expect("runs");
    assert!(table.status.success(), "its constructor would have aborted: {table:?}");
    assert!(text(&table.stdout).contains("constructor"));
    let json = replug().arg("inspect").arg(&library).args(["-o", "json"]).output().expect("runs");
    let manifest: serde_json::Value = serde_json::from_slice(&json.stdout).expect("JSON");
    assert_eq!(manifest["name"], "constructor");
    assert_eq!(manifest["version"], "1.0.0");
    let text_file = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
    let refused = replug().arg("inspect").arg(text_file).output().expect("runs");
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).contains("error[inspect.not_elf]"));
}
