//! What reads bytes of others answers any bytes: the fuzz targets, over a corpus and
//! damaged copies of it, the same in every run, with bounds on time and memory.

#[path = "../fuzz/targets.rs"]
mod targets;

use replug_tests::{artifacts, dice::Dice};
use std::{
    fs,
    path::Path,
    sync::{
        Mutex, PoisonError,
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::Duration,
};

/// How long one input may take. Generous: the machine may be busy.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);

/// What all inputs of a target may add to this process: some of them claim to hold far
/// more, and a target may hold a state and its copy.
const MEMORY_KIB_MAX: u64 = 128 * 1024;

/// Answers each seed, and `copies` damaged ones.
fn run(name: &str, target: fn(&[u8]), seeds: Vec<Vec<u8>>, copies: u64) {
    assert!(!seeds.is_empty(), "{name} has seeds");
    // One after the other: memory is that of the process.
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    // From now on the peak is that of now.
    fs::write("/proc/self/clear_refs", "5").expect("the peak can be set back");
    let before = peak_kib();
    let (answered, answers) = mpsc::channel();
    let inputs = thread::spawn(move || {
        for seed in &seeds {
            target(seed);
            let _ = answered.send(());
        }
        for turn in 0..copies {
            target(&damaged(&seeds, turn));
            let _ = answered.send(());
        }
    });
    let mut count: u64 = 0;
    loop {
        match answers.recv_timeout(ANSWER_WITHIN) {
            Ok(()) => count += 1,
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => panic!("{name} has no answer to input {count}"),
        }
    }
    assert!(inputs.join().is_ok(), "{name} panicked at input {count}");
    assert!(count > copies, "all were answered");
    let added = peak_kib().saturating_sub(before);
    assert!(added < MEMORY_KIB_MAX, "{name} took {added} KiB");
}

/// One of the seeds with a few things done to it, by the number of the turn.
fn damaged(seeds: &[Vec<u8>], turn: u64) -> Vec<u8> {
    let mut dice = Dice::new(1, turn);
    let seed = |dice: &mut Dice| &seeds[dice.below(seeds.len() as u64) as usize];
    let mut bytes = seed(&mut dice).clone();
    for _ in 0..=dice.below(4) {
        let place = |dice: &mut Dice, bytes: &[u8]| dice.below(bytes.len() as u64 + 1) as usize;
        let at = place(&mut dice, &bytes);
        match dice.below(6) {
            0 => bytes.truncate(at),
            1 => {
                let other = seed(&mut dice);
                let from = place(&mut dice, other);
                bytes.splice(at.., other[from..].iter().copied());
            }
            2 => {
                let chunk = bytes[at..(at + 16).min(bytes.len())].to_vec();
                bytes.splice(at..at, chunk);
            }
            3 => {
                // Lengths and counts that are far too large, or wrap.
                let number = [0, 1, 0x7f, 0xff, 0xffff, u64::MAX, u64::MAX >> 1][dice.below(7) as usize];
                let until = (at + 8).min(bytes.len());
                bytes.splice(at..until, number.to_le_bytes());
            }
            4 => bytes.insert(at, dice.below(256) as u8),
            _ if at < bytes.len() => bytes[at] ^= 1 << dice.below(8),
            _ => {}
        }
    }
    bytes
}

fn seeds(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(target);
    let mut files: Vec<_> =
        fs::read_dir(folder).expect("a folder").map(|file| file.expect("a file").path()).collect();
    files.sort();
    files.iter().map(|file| fs::read(file).expect("reads")).collect()
}

/// The most memory that this process has had since that was set back.
fn peak_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("reads");
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("a peak");
    line.split_whitespace().nth(1).expect("a number").parse().expect("a number")
}

#[test]
fn any_plugin_file_is_answered() {
    let library = fs::read(artifacts::plugin("markdown-v1")).expect("reads");
    run("inspect", targets::inspect, vec![library], 500);
}

#[test]
fn any_note_is_answered() {
    run("note", targets::note, seeds("note"), 20_000);
}

#[test]
fn any_signature_is_answered() {
    run("signature", targets::signature, seeds("signature"), 20_000);
}

#[test]
fn any_configuration_is_answered() {
    run("configuration", targets::configuration, seeds("configuration"), 5_000);
}

#[test]
fn any_saved_state_is_answered() {
    run("envelope", targets::envelope, seeds("envelope"), 5_000);
}
