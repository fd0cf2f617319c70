//! Tables on a disk that fails, or that lost what was on it.

use replug_tests::{
    harness::Harness,
    sessions::{audit, call, deploy, kept_by_the_process},
};
use std::fs;

/// Once, a plugin whose store was gone began with empty tables, and nobody was
/// told.
#[test]
fn tables_whose_store_is_gone_or_older_are_refused_until_the_loss_is_accepted() {
    let mut harness = Harness::with(kept_by_the_process);
    deploy(&mut harness, 1);
    call(&harness.plugin("sessions"), "fill", r#"{"from": 0, "count": 10}"#);
    let home = harness.shutdown().1;
    let (store, aside) = (home.path().join("data/tables/sessions"), home.path().join("aside"));
    fs::rename(&store, &aside).expect("is there");

    let mut harness = Harness::again(home, kept_by_the_process);
    let failure = harness.not_deployed("sessions@1.0.0");
    assert_eq!(failure.code, "table.store_replaced", "{failure}");
    assert!(failure.message.contains("tables/sessions"), "{failure}");
    let home = harness.shutdown().1;
    fs::rename(&aside, &store).expect("nothing was made in its place");
    let mut harness = Harness::again(home, kept_by_the_process);
    harness.published("sessions@1.0.0");
    assert_eq!(audit(&harness.plugin("sessions")), (10, 0, 0));

    let home = harness.shutdown().1;
    fs::remove_dir_all(&store).expect("is there");
    let mut harness = Harness::again(home, |host| kept_by_the_process(host).accept_table_loss(true));
    harness.published("sessions@1.0.0");
    assert_eq!(audit(&harness.plugin("sessions")), (0, 0, 0));
}
