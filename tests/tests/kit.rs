//! The test kit on the sample plugins, as their author would use it before a
//! release: random state through the built libraries, and a host in which one
//! follows the other.

use proptest::prelude::*;
use replug_plugin_api::{
    state::{State, decode},
    testing::bytes_of,
};
use replug_tests::{artifacts, kit::Kit};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
};

/// What limiter 1.0.0 keeps.
#[derive(Debug, PartialEq, Serialize, Deserialize, State)]
#[state(version = 1)]
struct Buckets {
    buckets: BTreeMap<String, Bucket>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Bucket {
    tokens: f64,
    taken: u64,
}

/// A row of sessions 1.0.0.
#[derive(Debug, PartialEq, Serialize, Deserialize, State)]
#[state(version = 1)]
struct Session {
    user: String,
    opened_ms: u64,
    hits: u64,
}

fn limiter(major: u32) -> Kit {
    let library = artifacts::plugin(&format!("limiter-v{major}"));
    // Buckets that do not fill while a test looks at them.
    Kit::with(library, |host| host.config("limiter", json!({"capacity": 10, "refill_per_s": 0})))
}

fn sessions(major: u32) -> Kit {
    Kit::of(artifacts::plugin(&format!("sessions-v{major}")))
}

fn buckets() -> impl Strategy<Value = Buckets> {
    let bucket = (prop::num::f64::NORMAL | prop::num::f64::ZERO, any::<u64>());
    let bucket = bucket.prop_map(|(tokens, taken)| Bucket { tokens, taken });
    prop::collection::btree_map("[a-c/]{0,4}|\\PC*", bucket, 0..8).prop_map(|buckets| Buckets { buckets })
}

fn session() -> impl Strategy<Value = Session> {
    let parts = (any::<String>(), any::<u64>(), any::<u64>());
    parts.prop_map(|(user, opened_ms, hits)| Session { user, opened_ms, hits })
}

#[test]
fn any_snapshot_goes_up_and_down_through_the_built_library() {
    let kit = limiter(3);
    proptest!(|(old in buckets())| {
        let newest = kit.migrate_bytes(1, 3, &bytes_of(&old)).expect("goes up");
        let step = kit.migrate_bytes(1, 2, &bytes_of(&old)).expect("goes half-way");
        prop_assert_eq!(&kit.migrate_bytes(2, 3, &step).expect("goes on"), &newest);
        let back = kit.migrate_bytes(3, 1, &newest).expect("goes down");
        prop_assert_eq!(decode::<Buckets>(&back).expect("is of version 1"), old);
    });
}

#[test]
fn any_row_goes_up_and_down_through_the_built_library() {
    let kit = sessions(3);
    proptest!(|(old in session())| {
        let newest = kit.convert_row("sessions", 1, 3, &bytes_of(&old)).expect("goes up");
        let middle = kit.convert_row("sessions", 3, 2, &newest).expect("goes half-way down");
        for (from, bytes) in [(3, &newest), (2, &middle)] {
            let back = kit.convert_row("sessions", from, 1, bytes).expect("goes down");
            prop_assert_eq!(&decode::<Session>(&back).expect("is of version 1"), &old);
        }
    });
    assert_eq!(kit.table("sessions").rows, 0, "only bytes were converted");
}

#[test]
fn takes_survive_the_newer_limiter_and_the_way_back() {
    let mut kit = limiter(1);
    for key in ["ada", "ada", "acme/ada"] {
        kit.call("take", json!({ "key": key }).to_string());
    }
    let state = kit.state();
    let look = |kit: &Kit| [kit.call("count", "ada"), kit.call("count", "acme/ada"), kit.call("total", "")];
    kit.assert_survives(artifacts::plugin("limiter-v3"), look);
    assert_eq!(look(&kit), ["2", "1", "3"]);
    assert_eq!(kit.call("tenant", "acme"), "1");
    kit.call("take", json!({ "key": "acme/bob" }).to_string());
    kit.go_back();
    assert_eq!((kit.version(), kit.call("total", "")), ("limiter@1.0.0".to_owned(), "4".to_owned()));
    let now: Buckets = decode(&kit.state()).expect("is of version 1");
    let before: Buckets = decode(&state).expect("is of version 1");
    assert_eq!(now.buckets.len(), 3);
    assert!(before.buckets.iter().all(|(key, bucket)| now.buckets.get(key) == Some(bucket)));
}

#[test]
fn sessions_survive_the_newer_version_and_both_ways_back() {
    let mut kit = sessions(1);
    for (token, user) in [("a", "ada"), ("b", "ada"), ("c", "bob")] {
        kit.call("open", json!({ "token": token, "user": user }).to_string());
    }
    kit.call("touch", "a");
    let look =
        |kit: &Kit| (kit.json("audit", ""), kit.json("of", "ada"), kit.json("get", "a")["user"].clone());
    kit.assert_survives(artifacts::plugin("sessions-v3"), look);
    assert_eq!(kit.json("get", "a")["visits"], 1);
    assert_eq!(kit.table("sessions").schema, 1, "nothing is committed yet");
    // From images, while the version before is kept.
    kit.call("touch", "a");
    kit.go_back();
    assert_eq!(kit.json("get", "a")["hits"], 2);
    // By the steps down of a version that was committed.
    kit.upgrade_to(artifacts::plugin("sessions-v3"));
    kit.commit();
    let table = kit.table("sessions");
    assert_eq!((table.schema, table.rows), (3, 3));
    kit.call("touch", "a");
    kit.go_back();
    kit.commit();
    assert_eq!((kit.table("sessions").schema, kit.json("get", "a")["hits"].as_u64()), (1, Some(3)));
    assert_eq!(kit.json("audit", ""), json!({"sessions": 3, "hits": 3, "strays": 0}));
}

#[test]
fn what_a_library_cannot_convert_is_an_error_with_its_code() {
    let kit = limiter(2);
    let state = bytes_of(&Buckets { buckets: BTreeMap::new() });
    assert_eq!(kit.migrate_bytes(2, 3, &state).expect_err("knows no schema 3").code, "state.no_path");
    let failure = kit.migrate_bytes(1, 2, b"\xff").expect_err("is no state");
    assert_eq!(failure.code, "state.migrate", "{failure}");

    let kit = sessions(2);
    let failure = kit.convert_row("sessions", 3, 2, &state).expect_err("knows no schema 3");
    assert_eq!(failure.code, "state.no_path", "{failure}");
    let failure = kit.convert_row("sessions", 1, 2, b"\xff").expect_err("is no row");
    assert!(failure.message.contains("table.corrupt"), "{failure}");
    let failure = kit.convert_row("others", 1, 2, &state).expect_err("is not open");
    assert!(failure.message.contains("table.not_open"), "{failure}");
}

#[test]
fn what_does_not_survive_fails_the_test_and_a_refusal_can_be_looked_at() {
    let mut kit = limiter(1);
    let look = |kit: &Kit| kit.json("stats", "")["version"].clone();
    let newer = artifacts::plugin("limiter-v2");
    let compared = AssertUnwindSafe(|| kit.assert_survives(&newer, look));
    let panic = catch_unwind(compared).expect_err("the versions differ");
    let said = panic.downcast_ref::<String>().expect("it says why");
    assert!(said.contains("limiter@1.0.0 had") && said.contains("limiter@2.0.0 has"), "{said}");

    let mut kit = sessions(1);
    let broken = kit.harness().plugin_dir().with_file_name("broken.so");
    std::fs::write(&broken, "no library").expect("is written");
    let failure = kit.try_upgrade_to(&broken).expect_err("is no plugin");
    assert_eq!(failure.code, "inspect.not_elf");
    assert_eq!(kit.version(), "sessions@1.0.0");
}
