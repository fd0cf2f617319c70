//! Rehearsals from beginning to end: what they measure and what they lack, hosts that end,
//! files that go, helpers that come.

use crate::{
    process::{self, Daemon, text},
    rehearsing::{children, inline, only_in_the_second, serving},
    replaying::newest,
};
use replug_tests::{artifacts, harness::wait_until};
use serde_json::{Value, json};
use std::{fs, os::unix, path::Path};

#[test]
fn a_helper_that_is_missing_is_an_error_and_nothing_is_deployed() {
    let daemon = Daemon::with("[rehearsal]\nhelper = \"/nonexistent/helper\"\n");
    daemon.drop_file(&artifacts::plugin("markdown-v1"), "markdown.so");
    let mut told = String::new();
    wait_until("it being refused", || {
        told = text(&daemon.verb(&["events"]).stdout);
        told.contains("rehearsal.helper")
    });
    assert!(told.contains("/nonexistent/helper") && told.contains("\"blame\":\"operator\""), "{told}");
    assert_eq!(daemon.status_of("markdown", "active"), Value::Null);
}

#[test]
fn a_program_that_is_no_helper_is_an_error() {
    let daemon = Daemon::with("[rehearsal]\nhelper = \"/bin/true\"\n");
    daemon.drop_file(&artifacts::plugin("markdown-v1"), "markdown.so");
    wait_until("it being told", || {
        let told = text(&daemon.verb(&["events"]).stdout);
        told.contains("rehearsal.helper") && told.contains("does not rehearse")
    });
}

#[test]
fn what_passes_is_told_step_by_step_and_serves() {
    let daemon = serving(&json!({}), "");
    daemon.verb(&["call", "hostile", "add", "--data", "41"]);
    daemon.deploy(&artifacts::hostile("hostile-v2"), "hostile@2.0.0");
    let events = text(&daemon.verb(&["events"]).stdout);
    let events: Vec<Value> = events.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let rehearsed = events.iter().rfind(|event| event["event"] == "rehearsed").expect("was rehearsed");
    assert_eq!(rehearsed["passed"], true);
    let steps: Vec<&str> = rehearsed["steps"]
        .as_array()
        .expect("steps")
        .iter()
        .filter_map(|step| step["step"].as_str())
        .collect();
    let all = [
        "confine",
        "load",
        "prepare",
        "methods",
        "migrate",
        "read",
        "restore",
        "export",
        "migrate_back",
        "self_test",
        "samples",
        "stop",
        "drop",
        "unload",
    ];
    assert_eq!(steps, all);
    // What the kernel does not offer is told by name.
    let absent = rehearsed["absent"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let is_known = |one: &str| ["landlock: ", "seccomp: "].iter().any(|name| one.starts_with(name));
    assert!(absent.into_iter().all(is_known), "{rehearsed}");
    let state = &rehearsed["state"];
    assert_eq!((&state["from_schema"], &state["to_schema"]), (&json!(1), &json!(2)), "{rehearsed}");
    assert!(state["way_back"].as_str().is_some_and(|way| way.contains("the same")), "{rehearsed}");
    assert!(rehearsed["steps"][1]["memory_kib"].as_u64() > Some(0), "{rehearsed}");
    assert_eq!(rehearsed["steps"][1]["threads"], 0, "{rehearsed}");
    let count = daemon.verb(&["call", "hostile", "count"]);
    assert_eq!(text(&count.stdout).trim(), "41", "what was rehearsed was a copy");
}

#[test]
fn some_rows_of_tables_are_brought_to_the_new_schema_and_back() {
    let daemon = Daemon::start();
    daemon.deploy(&artifacts::plugin("sessions-v1"), "sessions@1.0.0");
    for user in 0..20 {
        let body = format!(r#"{{"token":"token {user}","user":"user {user}"}}"#);
        let opened = daemon.verb(&["call", "sessions", "open", "--data", &body]);
        assert!(opened.status.success(), "{}", text(&opened.stderr));
    }
    daemon.deploy(&artifacts::plugin("sessions-v2"), "sessions@2.0.0");
    let events = text(&daemon.verb(&["events"]).stdout);
    let rehearsed = events.lines().rfind(|line| line.contains("\"rehearsed\"")).expect("was rehearsed");
    assert!(rehearsed.contains("\"step\":\"rows\""), "{rehearsed}");
    let rehearsed: Value = serde_json::from_str(rehearsed).expect("JSON");
    let rows = rehearsed["rows"].as_array().expect("tables");
    let converted: u64 = rows.iter().filter_map(|rows| rows["converted"].as_u64()).sum();
    assert!(converted >= 20, "{rehearsed}");
}

#[test]
fn a_rehearsal_that_goes_on_and_on_gives_way_to_the_next_version() {
    let config = only_in_the_second(json!({ "prepare": { "spin": { "ms": 600_000 } } }));
    let daemon = serving(&config, "[rehearsal]\ntimeout-ms = 600000\n");
    daemon.drop_file(&artifacts::hostile("hostile-v2"), "hostile-2.0.0.so");
    wait_until("the rehearsal", || !children(daemon.id()).is_empty());
    daemon.deploy(&artifacts::hostile("hostile-v3"), "hostile@3.0.0");
    wait_until("the end of the child", || children(daemon.id()).is_empty());
    let called = daemon.verb(&["call", "hostile", "version"]);
    assert_eq!(text(&called.stdout).trim(), "hostile 3.0.0");
}

#[test]
fn a_plugin_that_uses_up_all_descriptors_is_measured_all_the_same() {
    let faults = only_in_the_second(json!({ "prepare": "use_up_descriptors" }));
    let daemon = serving(&faults, "[rehearsal]\ndescriptors-max = 128\n");
    // It would be no better in the host, which has many more.
    let checked = daemon.verb(&[
        "check",
        artifacts::hostile("hostile-v2").to_str().expect("text"),
        "--against",
        "running",
        "-o",
        "json",
    ]);
    let checked: Value = serde_json::from_slice(&checked.stdout).expect("JSON");
    let steps = checked["report"]["steps"].as_array().expect("steps");
    let prepared = steps.iter().find(|step| step["step"] == "prepare").expect("it was prepared");
    assert!(prepared["descriptors"].as_u64() > Some(64), "{checked}");
    assert!(prepared["threads"] == 0 && prepared["memory_kib"].as_u64() > Some(0), "{checked}");
}

#[test]
fn what_the_version_before_holds_is_not_counted_as_the_new_ones() {
    let home = tempfile::tempdir().expect("a directory");
    let path = home.path().join("replug.toml");
    let faults = json!({ "only_version": "1.0.0", "faults": { "prepare": { "threads": 40 } } });
    let config = format!("[rehearsal]\nthreads-max = 4\n[plugin]\nhostile = {}\n", inline(&faults));
    fs::write(&path, config).expect("writes");
    let mut check = process::replug();
    check.args(["check", "-o", "json"]).arg(artifacts::hostile("hostile-v2"));
    check.arg("--against").arg(artifacts::hostile("hostile-v1")).arg("--config").arg(path);
    let checked: Value = serde_json::from_slice(&check.output().expect("runs").stdout).expect("JSON");
    assert_eq!(checked["passed"], true, "{checked}");
    let steps = checked["report"]["steps"].as_array().expect("steps");
    assert!(steps.iter().any(|step| step["step"] == "before"), "{checked}");
    assert!(steps.iter().all(|step| step["threads"] == 0), "{checked}");
}

#[test]
fn a_protection_that_the_kernel_does_not_offer_is_told() {
    let daemon = Daemon::without_landlock();
    daemon.deploy(&artifacts::plugin("markdown-v1"), "markdown@1.0.0");
    let rehearsed = newest(&daemon, "rehearsed");
    assert_eq!(rehearsed["absent"], json!(["landlock: the kernel does not offer it"]), "{rehearsed}");
}

#[test]
fn a_host_that_ends_while_it_rehearses_leaves_nobody_behind() {
    for is_killed in [false, true] {
        let faults = only_in_the_second(json!({ "prepare": { "spin": { "ms": 600_000 } } }));
        let mut daemon = serving(&faults, "[rehearsal]\ntimeout-ms = 600000\n");
        daemon.drop_file(&artifacts::hostile("hostile-v2"), "hostile-2.0.0.so");
        wait_until("the rehearsal", || !children(daemon.id()).is_empty());
        let child = children(daemon.id())[0].split_whitespace().next().expect("a number").to_owned();
        if is_killed {
            daemon.kill();
        } else {
            assert_eq!(daemon.terminate(), Some(0), "{}", daemon.log());
        }
        wait_until("the end of the child", || !Path::new("/proc").join(&child).exists());
        // Nothing of it is in the way of the next host.
        fs::remove_file(daemon.home().join("plugins/hostile-2.0.0.so")).expect("is there");
        daemon.start_again();
        wait_until("1.0.0 serving again", || {
            text(&daemon.verb(&["status"]).stdout).contains("hostile@1.0.0")
        });
    }
}

#[test]
fn a_file_that_is_deleted_while_it_is_rehearsed_is_not_deployed() {
    let faults = only_in_the_second(json!({ "prepare": { "hang": { "ms": 1000 } } }));
    let daemon = serving(&faults, "");
    daemon.drop_file(&artifacts::hostile("hostile-v2"), "hostile-2.0.0.so");
    wait_until("the rehearsal", || !children(daemon.id()).is_empty());
    fs::remove_file(daemon.home().join("plugins/hostile-2.0.0.so")).expect("is there");
    wait_until("the end of the rehearsal", || children(daemon.id()).is_empty());
    wait_until("it being gone", || !text(&daemon.verb(&["list"]).stdout).contains("2.0.0"));
    assert_eq!(text(&daemon.verb(&["call", "hostile", "version"]).stdout).trim(), "hostile 1.0.0");
}

#[test]
fn many_files_at_once_are_all_rehearsed_and_serve() {
    let daemon = Daemon::start();
    let libraries = [
        ("markdown", artifacts::plugin("markdown-v1")),
        ("limiter", artifacts::plugin("limiter-v1")),
        ("sessions", artifacts::plugin("sessions-v1")),
        ("threads", artifacts::plugin("threads-v1")),
        ("hostile", artifacts::hostile("hostile-v1")),
    ];
    for (name, library) in &libraries {
        daemon.drop_file(library, &format!("{name}.so"));
    }
    for (name, _) in &libraries {
        wait_until(&format!("{name} serving"), || !daemon.status_of(name, "active").is_null());
    }
    let events = text(&daemon.verb(&["events"]).stdout);
    let passed = events.lines().filter(|line| line.contains("\"rehearsed\"")).count();
    assert_eq!(passed, libraries.len(), "{events}");
}

#[test]
fn a_helper_that_comes_later_is_asked_again() {
    let daemon = Daemon::with("[rehearsal]\nhelper = \"{home}/helper\"\n");
    daemon.drop_file(&artifacts::plugin("markdown-v1"), "markdown.so");
    wait_until("it being refused", || text(&daemon.verb(&["events"]).stdout).contains("rehearsal.helper"));
    unix::fs::symlink(env!("CARGO_BIN_EXE_replug"), daemon.home().join("helper")).expect("links");
    let activated = daemon.verb(&["activate", "markdown", "1.0.0"]);
    assert!(activated.status.success(), "{}", text(&activated.stderr));
    assert!(daemon.status_of("markdown", "active").as_str().is_some_and(|id| id.contains("1.0.0")));
}

#[test]
fn a_host_that_is_told_so_rehearses_nothing() {
    let daemon = serving(&json!({}), "[rehearsal]\nmode = \"never\"\nhelper = \"/nonexistent/helper\"\n");
    let events = text(&daemon.verb(&["events"]).stdout);
    assert!(!events.contains("\"rehearsed\""), "{events}");
}

#[test]
fn limits_with_which_nothing_could_be_rehearsed_are_refused_at_start() {
    for (setting, words) in [
        ("timeout-ms = 0", "a timeout of 0 ms"),
        ("memory-bytes-max = 1000", "1000 bytes of memory"),
        ("descriptors-max = 3", "3 descriptors"),
    ] {
        let home = process::home();
        fs::write(home.path().join("replug.toml"), format!("[rehearsal]\n{setting}\n")).expect("writes");
        let ended = process::ended(&mut process::run(home.path()).spawn().expect("starts"));
        let log = process::log(home.path());
        assert_eq!(ended.code(), Some(1), "{log}");
        assert!(log.contains("error[host.options]") && log.contains(words), "{log}");
    }
}

#[test]
fn durable_tables_are_not_taken_for_the_plugins_files_wherever_they_are() {
    let home = process::home();
    fs::write(home.path().join("replug.toml"), "[plugin]\nsessions = { durability = \"disk\" }\n")
        .expect("writes");
    // The system names their folder otherwise than the host does.
    fs::create_dir(home.path().join("real")).expect("creates");
    unix::fs::symlink(home.path().join("real"), home.path().join("data")).expect("links");
    let process = process::run(home.path()).spawn().expect("starts");
    let daemon = Daemon::of(home, process);
    daemon.deploy(&artifacts::plugin("sessions-v1"), "sessions@1.0.0");
    let rehearsed = newest(&daemon, "rehearsed");
    assert_eq!(rehearsed["passed"], true, "{rehearsed}");
    let steps = rehearsed["steps"].as_array().expect("steps");
    assert!(steps.iter().all(|step| step["descriptors"] == 0), "{rehearsed}");
}
