//! The programs that show how a host is embedded do what they say.

use replug_tests::artifacts;
use std::process::Command;

/// Lines for each pair of versions: few, since the program is built for tests.
const LINES_EACH: u64 = 2_000;

/// Numbers in a line of text.
fn numbers(line: &str) -> Vec<u64> {
    line.split(|c: char| !c.is_ascii_digit()).filter_map(|word| word.parse().ok()).collect()
}

#[test]
fn the_log_pipeline_passes_every_line_once_while_both_plugins_are_replaced() {
    let libraries = ["logs-filter-v1", "logs-filter-v2", "logs-enrich-v1", "logs-enrich-v2"];
    let libraries = libraries.map(artifacts::plugin);
    let folder = libraries[0].parent().expect("a library stands in a folder");
    let program = artifacts::program("replug-host", "logs");
    let ended = Command::new(program).arg(folder).arg(LINES_EACH.to_string()).output().expect("it runs");
    let printed = String::from_utf8(ended.stdout).expect("it writes UTF-8");
    let errors = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success(), "{printed}{errors}");
    let lines: Vec<&str> = printed.lines().collect();
    let [deployed @ .., books, summary] = lines.as_slice() else { panic!("{printed}") };
    assert_eq!(
        deployed,
        ["filter@1.0.0 serves", "enrich@1.0.0 serves", "filter@2.0.0 serves", "enrich@2.0.0 serves"]
    );
    let [1, judged_by_first, 2, judged_by_second, 1, parted_by_first, 2, parted_by_second] =
        numbers(books)[..]
    else {
        panic!("{books}");
    };
    for by in [judged_by_first, judged_by_second, parted_by_first, parted_by_second] {
        assert!(by >= LINES_EACH, "{books}");
    }
    // One line of five is for debugging, which no version keeps.
    let all = judged_by_first + judged_by_second;
    assert!(parted_by_first + parted_by_second <= all, "{books}");
    assert!(
        summary.starts_with(&format!("{all} lines in ")) && summary.ends_with(", each once"),
        "{summary}"
    );
}
