//! Rules for single files: how they open, how long they are, words and calls
//! that do not belong in them.

use crate::tokens::{reads, tokens};
use crate::tree::{Fault, Tree, demand_none, places};

/// Files that do not open with `//!`, and why they need not.
const OPENING_FREE: &[(&str, &str)] = &[
    ("plugin-api/examples/hello.rs", "included in documentation, where `//!` cannot stand"),
    ("plugins/hostile", "each is as small as its fault; the folder's README tells them apart"),
];

/// Above this many lines a file gives its reason.
const LONG: usize = 400;

/// Kinds of files in which words and paths are looked for.
const TEXT: &[&str] = &[".rs", ".toml", ".md", ".sh"];

fn openings(tree: &Tree) -> Vec<Fault> {
    let bound = tree.rust().filter(|file| !OPENING_FREE.iter().any(|(place, _)| file.is_in(place)));
    let silent = bound.filter(|file| !file.text.starts_with("//!"));
    let mend = "open it with `//!`: what it owns, why it exists, what it never does";
    silent.map(|file| Fault::new(file, 1, "the file does not say what it is", mend)).collect()
}

fn lengths(tree: &Tree) -> Vec<Fault> {
    let long = tree.rust().filter(|file| {
        let mut header = file.text.lines().take_while(|line| line.starts_with("//!"));
        file.text.lines().count() > LONG && !header.any(|line| line.contains("long:"))
    });
    let mend = "split it, or say why not in its header: `//! long: …`";
    long.map(|file| Fault::new(file, LONG + 1, format!("more than {LONG} lines"), mend)).collect()
}

fn leftovers(tree: &Tree) -> Vec<Fault> {
    // In halves, so that this file keeps its own rule.
    let words = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("X", "XX")];
    let mut faults = Vec::new();
    for file in texts(tree) {
        for (number, line) in file.lines() {
            let parts: Vec<&str> = line.split(|c: char| !c.is_alphanumeric()).collect();
            for word in words.iter().filter(|word| parts.contains(word)) {
                let mend = "do it now, or open an issue and take the word out";
                faults.push(Fault::new(file, number, format!("`{word}` is left over"), mend));
            }
        }
        let tokens = if file.path.ends_with(".rs") { tokens(file) } else { Vec::new() };
        for index in 0..tokens.len() {
            if reads(&tokens, index, &["dbg", "!"]) {
                let what = "a debugging macro is left over";
                faults.push(Fault::new(file, tokens[index].line, what, "take it out"));
            }
        }
    }
    faults
}

fn machine_paths(tree: &Tree) -> Vec<Fault> {
    let places = [concat!("/ro", "ot/"), concat!("/ho", "me/"), concat!("/wo", "rk/")];
    let mut faults = Vec::new();
    for file in texts(tree) {
        for (number, line) in file.lines() {
            let absolute = |place: &&&str| {
                line.match_indices(**place).any(|(at, _)| {
                    // `a/work/b` and `../work/b` are not absolute.
                    let before = line[..at].chars().next_back();
                    !before.is_some_and(|c| c.is_alphanumeric() || "._-}>)*".contains(c))
                })
            };
            if let Some(place) = places.iter().find(absolute) {
                let what = format!("a path of one machine: `{place}…`");
                let mend = "write it relative to the project, or make it a parameter";
                faults.push(Fault::new(file, number, what, mend));
            }
        }
    }
    faults
}

fn ignored_tests(tree: &Tree) -> Vec<Fault> {
    let mut faults = Vec::new();
    for file in tree.rust() {
        let tokens = tokens(file);
        for index in 0..tokens.len() {
            if reads(&tokens, index, &["#", "[", "ignore"]) {
                let mend = "make it pass, move it to a bench or a soak, or remove it";
                faults.push(Fault::new(file, tokens[index].line, "a test that never runs", mend));
            }
        }
    }
    faults
}

fn sleeps(tree: &Tree) -> Vec<Fault> {
    let mut faults = Vec::new();
    for file in tree.rust() {
        let tokens = tokens(file);
        let lines: Vec<&str> = file.text.lines().collect();
        for index in 0..tokens.len() {
            let called = reads(&tokens, index, &["thread", "::", "sleep"])
                || reads(&tokens, index, &["time", "::", "sleep"]);
            let line = tokens[index].line;
            if called && tokens[index].in_test && !reasoned(&lines, line, "// sleep:") {
                let mend = "wait for the condition with a deadline, or say why time itself is \
                            meant: `// sleep: …` above the call";
                faults.push(Fault::new(file, line, "a test sleeps without a reason", mend));
            }
        }
    }
    faults
}

/// Whether line `number` (from 1), or the comment above it, has the mark.
fn reasoned(lines: &[&str], number: usize, mark: &str) -> bool {
    let above = lines[..number - 1].iter().rev();
    let comment = above.take_while(|line| line.trim_start().starts_with("//"));
    lines[number - 1].contains(mark) || comment.into_iter().any(|line| line.contains(mark))
}

fn texts(tree: &Tree) -> impl Iterator<Item = &crate::tree::File> {
    tree.files().filter(|file| {
        TEXT.iter().any(|end| file.path.ends_with(end))
            || file.path.starts_with("scripts/")
            || file.path.starts_with(".ci/")
    })
}

#[test]
fn every_file_says_what_it_is() {
    demand_none(&openings(&Tree::of_the_project()));
}

#[test]
fn a_silent_file_is_found() {
    let tree = Tree::sample(&[
        ("host/engine/src/id.rs", "use std::fmt;\n"),
        ("host/engine/src/clock.rs", "//! Injected time.\n"),
        ("plugins/hostile/leak/src/lib.rs", "fn main() {}\n"),
    ]);
    assert_eq!(places(&openings(&tree)), ["host/engine/src/id.rs:1"]);
}

#[test]
fn long_files_give_a_reason() {
    demand_none(&lengths(&Tree::of_the_project()));
}

#[test]
fn a_long_file_without_a_reason_is_found() {
    let body = "\n".repeat(LONG);
    let reasoned = format!("//! A table.\n//! long: one list.\n{body}");
    let tree =
        Tree::sample(&[("a.rs", &format!("//! A table.{body}\n// long: too late\n")), ("b.rs", &reasoned)]);
    assert_eq!(places(&lengths(&tree)), ["a.rs:401"]);
}

#[test]
fn nothing_is_left_over() {
    demand_none(&leftovers(&Tree::of_the_project()));
}

#[test]
fn leftovers_are_found() {
    let script = concat!("# TO", "DO: later\n");
    let source = concat!("//! Fine: FIX", "MEUP is another word.\nfn a() {\n    d", "bg!(1);\n}\n");
    let tree = Tree::sample(&[("scripts/check", script), ("a.rs", source)]);
    assert_eq!(places(&leftovers(&tree)), ["scripts/check:1", "a.rs:3"]);
}

#[test]
fn no_path_of_one_machine_is_named() {
    demand_none(&machine_paths(&Tree::of_the_project()));
}

#[test]
fn a_path_of_one_machine_is_found() {
    let text = concat!("see tests/work/x\n`/ho", "me/me/replug`\ncd /wo", "rk/replug\n");
    assert_eq!(places(&machine_paths(&Tree::sample(&[("a.md", text)]))), ["a.md:2", "a.md:3"]);
}

#[test]
fn every_test_runs() {
    demand_none(&ignored_tests(&Tree::of_the_project()));
}

#[test]
fn an_ignored_test_is_found() {
    let text = "//! `#[ignore]` in words is fine.\n#[test]\n#[ignore = \"slow\"]\nfn a() {}\n";
    assert_eq!(places(&ignored_tests(&Tree::sample(&[("a.rs", text)]))), ["a.rs:3"]);
}

#[test]
fn tests_do_not_sleep_for_luck() {
    demand_none(&sleeps(&Tree::of_the_project()));
}

#[test]
fn a_sleep_without_a_reason_is_found() {
    let test = "//! Waits.\nfn a() {\n    std::thread::sleep(D);\n    // sleep: the clock itself\n    \
                // is under test\n    thread::sleep(D);\n    thread::sleep(D); // sleep: polls\n}\n";
    let source = "//! Drains.\nfn a() {\n    thread::sleep(D);\n}\n#[cfg(test)]\nmod tests {\n    \
                  fn b() {\n        tokio::time::sleep(D);\n    }\n}\n";
    let tree = Tree::sample(&[("tests/src/wait.rs", test), ("host/engine/src/drain.rs", source)]);
    assert_eq!(places(&sleeps(&tree)), ["tests/src/wait.rs:3", "host/engine/src/drain.rs:8"]);
}
