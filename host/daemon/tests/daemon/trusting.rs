//! Whose files an operator's host loads.

use crate::{
    process::{Daemon, ended, home, log, run, run_refused, text},
    signing::{
        Signer, drop_signed, library, plugins, refused, serves, sign_as, told, trust_in, trusting, upgraded,
        within_ms,
    },
};
use replug_tests::{artifacts, harness::wait_until};
use seccompiler::{SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompRule};
use std::{
    collections::BTreeMap,
    fs::{self, Permissions},
    os::unix::{
        self,
        fs::{MetadataExt, PermissionsExt},
    },
    path::Path,
};

/// A user who owns nothing, by custom.
const NOBODY: u32 = 65_534;

#[test]
fn a_signed_file_serves_and_who_vouches_is_told() {
    let signer = Signer::new();
    let daemon = trusting(&signer, "");
    let library = library(&daemon, "markdown-v1");
    sign_as(&daemon, "markdown-1.0.0.so", &signer.signature(&library));
    daemon.deploy(&library, "markdown@1.0.0");
    let events = text(&daemon.verb(&["events"]).stdout);
    assert!(events.contains("\"vouched_by\":\"the key release\""), "{events}");
}

#[test]
fn a_signature_that_arrives_after_its_file_is_waited_for() {
    let signer = Signer::new();
    let daemon = trusting(&signer, "");
    let library = library(&daemon, "markdown-v1");
    daemon.drop_file(&library, "markdown.so");
    told(&daemon, "awaits_signature");
    assert_eq!(daemon.status_of("markdown", "active"), serde_json::Value::Null);
    sign_as(&daemon, "markdown.so", &signer.signature(&library));
    wait_until("it serving", || text(&daemon.verb(&["status"]).stdout).contains("markdown@1.0.0"));
}

#[test]
fn a_file_without_a_signature_is_refused_in_time_and_serves_when_that_comes_later_still() {
    let signer = Signer::new();
    let daemon = within_ms(1, &signer, "");
    let library = library(&daemon, "markdown-v1");
    daemon.drop_file(&library, "markdown.so");
    let event = refused(&daemon, "markdown.so", "trust.unsigned");
    assert!(event.contains("markdown.so.minisig") && event.contains("\"blame\":\"operator\""), "{event}");
    sign_as(&daemon, "markdown.so", &signer.signature(&library));
    wait_until("it serving", || text(&daemon.verb(&["status"]).stdout).contains("markdown@1.0.0"));
}

#[test]
fn a_digest_in_the_configuration_vouches_without_a_signature() {
    let bytes = fs::read(artifacts::plugin("markdown-v1")).expect("reads");
    let digest = replug_host::id::Digest::of(&bytes);
    let daemon = trusting(&Signer::new(), &format!("digests = [\"{digest}\"]\n"));
    daemon.deploy(&library(&daemon, "markdown-v1"), "markdown@1.0.0");
    daemon.drop_file(&library(&daemon, "markdown-v2"), "markdown-2.0.0.so");
    told(&daemon, "awaits_signature");
    assert!(daemon.status_of("markdown", "active").to_string().contains("1.0.0"));
}

#[test]
fn a_bit_flip_and_a_signature_for_another_plugin_are_refused_and_what_served_serves_on() {
    let signer = Signer::new();
    let daemon = within_ms(1, &signer, "");
    let (first, second) = (library(&daemon, "markdown-v1"), library(&daemon, "markdown-v2"));
    sign_as(&daemon, "markdown-1.0.0.so", &signer.signature(&first));
    daemon.deploy(&first, "markdown@1.0.0");

    sign_as(&daemon, "markdown-2.0.0.so", &signer.signature(&first));
    daemon.drop_file(&second, "markdown-2.0.0.so");
    refused(&daemon, "markdown-2.0.0.so", "trust.forged");
    let mut bytes = fs::read(&second).expect("reads");
    // In the code, where nobody but the signature would see it.
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    let flipped = daemon.home().join("flipped");
    fs::write(&flipped, bytes).expect("writes");
    fs::set_permissions(&flipped, Permissions::from_mode(0o644)).expect("is ours");
    sign_as(&daemon, "flipped.so", &signer.signature(&second));
    daemon.drop_file(&flipped, "flipped.so");
    refused(&daemon, "flipped.so", "trust.forged");
    // Signed by the right one, and as something else.
    let other = library(&daemon, "limiter-v1");
    sign_as(&daemon, "other.so", &signer.signature_saying(&second, &other));
    daemon.drop_file(&second, "other.so");
    refused(&daemon, "other.so", "trust.statement");
    assert!(daemon.status_of("markdown", "active").to_string().contains("1.0.0"));
    // A better signature in the place of the bad one.
    sign_as(&daemon, "markdown-2.0.0.so", &signer.signature(&second));
    wait_until("the second serving", || text(&daemon.verb(&["status"]).stdout).contains("markdown@2.0.0"));
}

#[test]
fn a_file_whose_signature_is_still_that_of_the_file_before_is_waited_for() {
    let signer = Signer::new();
    let daemon = trusting(&signer, "");
    let (first, second) = (library(&daemon, "markdown-v1"), library(&daemon, "markdown-v2"));
    sign_as(&daemon, "markdown.so", &signer.signature(&first));
    daemon.drop_file(&first, "markdown.so");
    told(&daemon, "published");
    daemon.drop_file(&second, "markdown.so");
    let event = told(&daemon, "awaits_signature");
    assert!(event.contains("trust.forged"), "{event}");
    assert!(daemon.status_of("markdown", "active").to_string().contains("1.0.0"), "it serves on");
    sign_as(&daemon, "markdown.so", &signer.signature(&second));
    wait_until("the second serving", || text(&daemon.verb(&["status"]).stdout).contains("markdown@2.0.0"));
    assert!(!text(&daemon.verb(&["events"]).stdout).contains("\"refused\""), "nothing was wrong");
}

#[test]
fn a_host_that_starts_again_serves_what_is_signed_and_refuses_what_was_changed_meanwhile() {
    let signer = Signer::new();
    let mut daemon = within_ms(1, &signer, "");
    let [_, second] = upgraded(&daemon, &signer, ["markdown-1.0.0.so", "markdown-2.0.0.so"]);
    assert_eq!(daemon.terminate(), Some(0));
    daemon.drop_file(&artifacts::with_other_bytes(&second, daemon.home().join("other")), "markdown-2.0.0.so");
    let file = plugins(&daemon).join("markdown-2.0.0.so");
    fs::set_permissions(file, Permissions::from_mode(0o644)).expect("is ours");
    daemon.start_again();
    refused(&daemon, "markdown-2.0.0.so", "trust.forged");
    wait_until("the first serving", || text(&daemon.verb(&["status"]).stdout).contains("markdown@1.0.0"));
}

#[test]
fn a_revoked_key_is_refused_at_once_and_an_unknown_one_in_time() {
    let (signer, stranger) = (Signer::new(), Signer::new());
    let daemon = within_ms(1, &Signer::new(), &signer.line("revoked-keys", "lost"));
    let library = library(&daemon, "markdown-v1");
    sign_as(&daemon, "markdown.so", &signer.signature(&library));
    daemon.drop_file(&library, "markdown.so");
    let event = refused(&daemon, "markdown.so", "trust.revoked_key");
    assert!(event.contains("the key lost, which is revoked"), "{event}");
    sign_as(&daemon, "markdown.so", &stranger.signature(&library));
    refused(&daemon, "markdown.so", "trust.unknown_key");
}

#[test]
fn a_running_copy_of_a_revoked_key_is_flagged_and_serves_on() {
    let (signer, heir) = (Signer::new(), Signer::new());
    let daemon = within_ms(1, &signer, "");
    let (first, second) = (library(&daemon, "markdown-v1"), library(&daemon, "markdown-v2"));
    drop_signed(&daemon, &signer, &first, "markdown-1.0.0.so");
    wait_until("it serving", || serves(&daemon, "1.0.0"));
    let config = |lines: &str| {
        fs::write(daemon.home().join("replug.toml"), format!("[trust]\nsignature-timeout-ms = 1\n{lines}"))
            .expect("writes");
        daemon.hang_up();
    };
    config("keys = nonsense\n");
    wait_until("the mistake being told", || daemon.log().contains("what was trusted before still is"));
    assert_eq!(daemon.status_of("markdown", "distrusted").as_array().map(Vec::len), Some(0));

    config(&(heir.line("keys", "release") + &signer.line("revoked-keys", "lost")));
    let event = told(&daemon, "\"distrusted\"");
    assert!(event.contains("trust.revoked_key") && event.contains("the key lost"), "{event}");
    let status = text(&daemon.verb(&["status"]).stdout);
    assert!(status.starts_with("attention: markdown@1.0.0") && status.contains("is revoked now"), "{status}");
    let called = daemon.verb(&["call", "markdown", "render", "--data", "# Hello"]);
    assert!(called.status.success(), "{}", text(&called.stderr));
    // Its file is no better than another one of that key.
    refused(&daemon, "markdown-1.0.0.so", "trust.revoked_key");
    drop_signed(&daemon, &heir, &second, "markdown-2.0.0.so");
    wait_until("the heir's version serving", || serves(&daemon, "2.0.0"));
    wait_until("nothing being flagged", || {
        daemon.status_of("markdown", "distrusted").as_array().is_some_and(Vec::is_empty)
    });
}

#[test]
fn a_file_that_is_swapped_between_check_and_load_is_loaded_as_it_was_checked_or_not_at_all() {
    let signer = Signer::new();
    let daemon = within_ms(1, &signer, "");
    let signed = library(&daemon, "markdown-v1");
    let other = artifacts::with_other_bytes(&signed, daemon.home().join("other"));
    fs::set_permissions(&other, Permissions::from_mode(0o644)).expect("is ours");
    sign_as(&daemon, "markdown.so", &signer.signature(&signed));
    let bytes = fs::read(&signed).expect("reads");
    // What is mapped, by its bytes and not by its name.
    let all_loaded_are_signed = || {
        let maps = fs::read_to_string(format!("/proc/{}/maps", daemon.id())).expect("reads");
        let libraries = maps.lines().filter_map(|line| line.find("/").map(|at| &line[at..]));
        let private = daemon.home().join("data/private");
        let mut loaded = libraries.filter(|path| Path::new(path).starts_with(&private)).peekable();
        let is_there = loaded.peek().is_some();
        is_there && loaded.all(|path| fs::read(path).is_ok_and(|loaded| loaded == bytes))
    };
    for _ in 0..50 {
        daemon.drop_file(&other, "markdown.so");
        daemon.drop_file(&signed, "markdown.so");
    }
    wait_until("the signed one serving", || serves(&daemon, "1.0.0"));
    assert!(all_loaded_are_signed());
    let refusals = || {
        let events = text(&daemon.verb(&["events"]).stdout);
        events.lines().filter(|line| line.contains("trust.forged") && line.contains("\"refused\"")).count()
    };
    let before = refusals();
    for _ in 0..50 {
        daemon.drop_file(&signed, "markdown.so");
        daemon.drop_file(&other, "markdown.so");
    }
    wait_until("the other one being refused", || refusals() > before);
    assert!(all_loaded_are_signed() && serves(&daemon, "1.0.0"));
}

#[test]
fn a_file_that_is_named_or_signed_as_another_version_is_refused_and_what_served_serves_on() {
    let signer = Signer::new();
    let daemon = within_ms(1, &signer, "");
    let (first, second) = (library(&daemon, "markdown-v1"), library(&daemon, "markdown-v2"));
    drop_signed(&daemon, &signer, &first, "markdown-1.0.0.so");
    wait_until("1.0.0 serving", || serves(&daemon, "1.0.0"));
    drop_signed(&daemon, &signer, &second, "markdown-3.0.0.so");
    refused(&daemon, "markdown-3.0.0.so", "inspect.name_mismatch");
    sign_as(&daemon, "markdown.so", &signer.signature_saying(&second, &first));
    daemon.drop_file(&second, "markdown.so");
    let event = refused(&daemon, "markdown.so", "trust.statement");
    assert!(event.contains("version=1.0.0") && event.contains("version=2.0.0"), "{event}");
    assert!(serves(&daemon, "1.0.0"));
}

#[test]
fn a_world_writable_file_or_folder_is_refused_in_production() {
    let signer = Signer::new();
    let daemon = trusting(&signer, "");
    let library = library(&daemon, "markdown-v1");
    for name in ["one.so", "two.so"] {
        sign_as(&daemon, name, &signer.signature(&library));
    }
    fs::set_permissions(&library, Permissions::from_mode(0o666)).expect("is ours");
    daemon.drop_file(&library, "one.so");
    let event = refused(&daemon, "one.so", "trust.writable");
    assert!(event.contains("one.so has mode 0666"), "{event}");
    fs::set_permissions(&library, Permissions::from_mode(0o644)).expect("is ours");
    fs::set_permissions(plugins(&daemon), Permissions::from_mode(0o777)).expect("is ours");
    daemon.drop_file(&library, "two.so");
    refused(&daemon, "two.so", "plugins has mode 0777");
    assert_eq!(daemon.status_of("markdown", "active"), serde_json::Value::Null);
    // What the next step says is enough.
    fs::set_permissions(plugins(&daemon), Permissions::from_mode(0o755)).expect("is ours");
    wait_until("the second serving", || text(&daemon.verb(&["status"]).stdout).contains("markdown@1.0.0"));
}

#[test]
fn a_file_of_another_owner_is_refused_in_production() {
    let signer = Signer::new();
    // A host that is told that it runs as a user who owns nothing here.
    let calls = BTreeMap::from([(libc::SYS_geteuid, Vec::new())]);
    let daemon = Daemon::refused(&trust_in(&signer, 60_000), calls, libc::EPERM);
    let library = library(&daemon, "markdown-v1");
    sign_as(&daemon, "markdown.so", &signer.signature(&library));
    let part = daemon.home().join("part");
    fs::copy(&library, &part).expect("copies");
    // Root owns files that any host may load, and can give them away. Nobody else can.
    let _ = unix::fs::chown(&part, Some(NOBODY), None);
    let owner = fs::metadata(&part).expect("is there").uid();
    fs::rename(part, plugins(&daemon).join("markdown.so")).expect("renames");
    let event = refused(&daemon, "markdown.so", "trust.owner");
    assert!(event.contains(&owner.to_string()) && event.contains("\"blame\":\"operator\""), "{event}");
    assert_eq!(daemon.status_of("markdown", "active"), serde_json::Value::Null);
}

#[test]
fn a_data_directory_that_does_not_allow_execution_is_named() {
    // What a file system that is mounted noexec answers; the libraries of the host itself are
    // mapped when few files are open.
    let executable = i64::from(libc::PROT_EXEC).cast_unsigned();
    let is_executable =
        SeccompCondition::new(2, SeccompCmpArgLen::Dword, SeccompCmpOp::MaskedEq(executable), executable);
    let is_late = SeccompCondition::new(4, SeccompCmpArgLen::Dword, SeccompCmpOp::Gt, 5);
    let is_file = SeccompCondition::new(4, SeccompCmpArgLen::Dword, SeccompCmpOp::Lt, 1024);
    let conditions = [is_executable, is_late, is_file].map(|condition| condition.expect("is one"));
    let rule = SeccompRule::new(conditions.to_vec()).expect("is one");
    let calls = BTreeMap::from([(libc::SYS_mmap, vec![rule])]);
    let home = home();
    let mut command = run_refused(home.path(), calls, libc::EPERM);
    assert_eq!(ended(&mut command.spawn().expect("starts")).code(), Some(1));
    let error = log(home.path());
    let private = home.path().join("data/private");
    assert!(error.contains("error[load.executable_store]"), "{error}");
    assert!(error.contains(&format!("nothing in {} may be executed", private.display())), "{error}");
    assert!(error.contains("mounted without noexec"), "{error}");
}

#[test]
fn a_host_that_could_load_nothing_does_not_start_and_says_what_to_do() {
    let home = home();
    fs::write(home.path().join("replug.toml"), "[trust]\n").expect("writes");
    assert_eq!(ended(&mut run(home.path()).spawn().expect("starts")).code(), Some(1));
    let error = log(home.path());
    assert!(error.contains("error[host.options]: trust: neither keys nor digests"), "{error}");
    assert!(error.contains("[trust]") && error.contains("--dev"), "{error}");
}

#[test]
fn a_host_for_development_says_that_it_asks_nobody() {
    let daemon = Daemon::start();
    assert!(daemon.log().contains("is loaded, signed or not"), "{}", daemon.log());
    let shown = |daemon: &Daemon| text(&daemon.verb(&["status"]).stdout);
    assert!(shown(&daemon).contains("\nfor development: "), "{}", shown(&daemon));
    let trusting = trusting(&Signer::new(), "");
    assert!(!shown(&trusting).contains("for development"), "{}", shown(&trusting));
}
