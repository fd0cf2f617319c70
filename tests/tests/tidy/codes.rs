//! The rule that the list of failure codes only grows at its end.

use replug_host::failure::Code;

use crate::tree::{Fault, File, Tree, demand_none, places};

const SNAPSHOT: &str = "host/engine/src/failure.codes";

fn changed(snapshot: &File, now: &[&str]) -> Vec<Fault> {
    let recorded = snapshot.lines().filter(|(_, line)| !line.starts_with('#') && !line.is_empty());
    let faults = recorded.enumerate().filter_map(|(index, (number, code))| {
        let found = now.get(index).copied();
        (found != Some(code)).then(|| {
            let what = format!("code {index} was `{code}` and is `{}`", found.unwrap_or("gone"));
            let mend = "put the old list back in host/engine/src/failure.rs as it was; new codes \
                        go to its end, and then, in the same order, to the end of this file";
            Fault::new(snapshot, number, what, mend)
        })
    });
    // What follows the first difference differs for the same reason.
    faults.take(1).collect()
}

#[test]
fn failure_codes_only_grow_at_the_end() {
    let tree = Tree::of_the_project();
    let snapshot = tree.file(SNAPSHOT).expect("the list of recorded codes");
    let now: Vec<&str> = Code::ALL.iter().map(|code| code.as_str()).collect();
    demand_none(&changed(snapshot, &now));
    assert!(snapshot.text.lines().count() > 60, "the recorded codes have been cut off");
}

#[test]
fn renamed_moved_and_removed_codes_are_found() {
    let tree = Tree::sample(&[(SNAPSHOT, "# Codes.\na.one\na.two\n")]);
    let snapshot = tree.file(SNAPSHOT).expect("just made");
    assert!(changed(snapshot, &["a.one", "a.two", "a.three"]).is_empty());
    let place = |line: usize| vec![format!("{SNAPSHOT}:{line}")];
    assert_eq!(places(&changed(snapshot, &["a.one", "a.deux"])), place(3));
    assert_eq!(places(&changed(snapshot, &["a.two", "a.one"])), place(2));
    assert_eq!(places(&changed(snapshot, &["a.one"])), place(3));
}
