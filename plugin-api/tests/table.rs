//! Tables as a plugin's author uses them, on the host in memory: every way that
//! a row goes between versions, and what happens when others write meanwhile.
//!
//! long: the ways share their four versions of one type

use replug_plugin_api::{
    prelude::*,
    state::{OneWay, State, StateError, Step},
    table::{Durability, Key, TableOptions},
    testing::{self, Host},
};
use serde::{Deserialize, Serialize};
use std::{cell::RefCell, collections::BTreeMap, thread};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, State)]
#[state(version = 1)]
struct V1 {
    hits: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, State)]
#[state(version = 2, previous = V1)]
struct V2 {
    total: u64,
    unit: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, State)]
#[state(version = 3, previous = V2, auto)]
struct V3 {
    total: u64,
    unit: String,
    #[serde(default)]
    note: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, State)]
#[state(version = 4, previous = V3, one_way)]
struct V4 {
    sum: u64,
}

impl Step<V1> for V2 {
    fn up(old: V1) -> Result<Self, StateError> {
        act_meanwhile();
        Ok(V2 { total: old.hits, unit: "hits".into() })
    }

    fn down(self) -> Result<V1, StateError> {
        act_meanwhile();
        match self.unit.as_str() {
            "hits" => Ok(V1 { hits: self.total }),
            other => Err(StateError::new(format!("{other:?} are no hits"))),
        }
    }
}

impl OneWay<V3> for V4 {
    fn up(old: V3) -> Result<Self, StateError> {
        Ok(V4 { sum: old.total })
    }
}

thread_local! {
    /// What happens while a step runs, once: between a read and its write.
    static MEANWHILE: RefCell<Option<Box<dyn FnOnce()>>> = const { RefCell::new(None) };
}

fn meanwhile(act: impl FnOnce() + 'static) {
    MEANWHILE.set(Some(Box::new(act)));
}

fn act_meanwhile() {
    if let Some(act) = MEANWHILE.with_borrow_mut(Option::take) {
        act();
    }
}

/// A version's table, on the same rows as every other version's.
fn open<V: State>(host: &Host) -> Table<String, V> {
    host.context().table("rows").expect("opens")
}

fn v3(total: u64) -> V3 {
    V3 { total, unit: "hits".into(), note: Some("new".into()) }
}

fn code<T: std::fmt::Debug>(result: Result<T>) -> String {
    result.expect_err("must fail").code().to_owned()
}

#[test]
fn rows_are_written_read_changed_and_removed() -> Result<()> {
    let rows = open::<V1>(&Host::new());
    assert_eq!((rows.get("a")?, rows.len(), rows.is_empty()), (None, 0, true));
    rows.put("a", &V1 { hits: 1 })?;
    rows.put("a", &V1 { hits: 2 })?;
    assert_eq!((rows.get("a")?, rows.len(), rows.is_empty()), (Some(V1 { hits: 2 }), 1, false));
    assert!(!rows.insert("a", &V1 { hits: 3 })?);
    assert!(rows.insert("b", &V1 { hits: 3 })?);
    assert_eq!((rows.remove("a")?, rows.remove("a")?), (true, false));
    rows.put("c", &V1 { hits: 4 })?;
    rows.clear()?;
    assert_eq!((rows.get("b")?, rows.len()), (None, 0));
    Ok(())
}

#[test]
fn an_update_makes_changes_and_removes_and_an_error_leaves_the_row() -> Result<()> {
    let rows = open::<V1>(&Host::new());
    let one_more = |row: Option<V1>| Some(V1 { hits: row.map_or(0, |row| row.hits) + 1 });
    assert_eq!(rows.update("a", one_more)?, Some(V1 { hits: 1 }));
    assert_eq!(rows.update("a", one_more)?, Some(V1 { hits: 2 }));
    assert_eq!(code(rows.try_update("a", |_| Err(Error::new("own", "no")))), "own");
    assert_eq!(rows.get("a")?, Some(V1 { hits: 2 }));
    assert_eq!(rows.update("a", |_| None)?, None);
    assert_eq!(rows.update("a", |row| row)?, None);
    assert_eq!(rows.len(), 0);
    Ok(())
}

#[test]
fn keys_of_every_kind_find_their_rows() -> Result<()> {
    fn check<K: Key + replug_plugin_api::table::AsKey<K> + PartialEq + std::fmt::Debug>(
        keys: impl IntoIterator<Item = K>,
    ) -> Result<()> {
        let table: Table<K, V1> = testing::context().table("keys")?;
        let keys: Vec<_> = keys.into_iter().collect();
        for (hits, key) in (0..).zip(&keys) {
            table.put(key, &V1 { hits })?;
        }
        for (hits, key) in (0..).zip(&keys) {
            assert_eq!(table.get(key)?, Some(V1 { hits }), "{key:?}");
        }
        let mut found = table.scan().map(|row| Ok(row?.0)).collect::<Result<Vec<_>>>()?;
        found.retain(|key| !keys.contains(key));
        assert_eq!((found, table.len()), (vec![], keys.len() as u64));
        Ok(())
    }
    check(["".to_owned(), "a".to_owned(), "a\0b".to_owned()])?;
    check([vec![], vec![0], vec![0, 1]])?;
    check([i32::MIN, -1, 0, i32::MAX])?;
    check([[0_u8; 4], [1; 4]])?;
    check([("a".to_owned(), 1_u64), ("a\0".to_owned(), 1), ("a".to_owned(), 2)])?;
    check([(1_u8, 2_u8, "x".to_owned())])?;
    let pairs: Table<(String, u64), V1> = testing::context().table("pairs")?;
    pairs.put(&("a", 7), &V1 { hits: 1 })?;
    assert_eq!(pairs.get(&("a".to_owned(), 7))?, Some(V1 { hits: 1 }));
    Ok(())
}

#[test]
fn an_older_row_is_converted_when_it_is_read_and_written_back() -> Result<()> {
    let host = Host::new();
    let (old, new) = (open::<V1>(&host), open::<V3>(&host));
    old.put("a", &V1 { hits: 7 })?;
    let expected = V3 { note: None, ..v3(7) };
    assert_eq!(new.get("a")?, Some(expected.clone()));
    // Nothing was committed, so nothing was left for the old version.
    assert_eq!(code(old.get("a")), "table.newer_row");
    assert_eq!(new.get("a")?, Some(expected));
    Ok(())
}

/// Once, each read of an older row made it and its image anew, and was refused.
#[test]
fn an_older_row_is_not_written_back_any_more_when_the_disk_has_failed() -> Result<()> {
    let host = Host::new();
    let (old, new) = (open::<V1>(&host), open::<V3>(&host));
    old.put("a", &V1 { hits: 7 })?;
    host.fail_disk(true);
    assert_eq!(new.get("a")?.map(|row| row.total), Some(7));
    host.fail_disk(false);
    assert_eq!(new.get("a")?.map(|row| row.total), Some(7));
    assert_eq!(old.get("a")?, Some(V1 { hits: 7 }), "it was not tried again");
    Ok(())
}

#[test]
fn the_version_before_reads_what_it_wrote_and_what_the_new_one_wrote() -> Result<()> {
    let host = Host::new();
    let (old, between, new) = (open::<V1>(&host), open::<V2>(&host), open::<V3>(&host));
    host.commit("rows", 1);
    old.put("read", &V1 { hits: 1 })?;
    assert_eq!(new.get("read")?.map(|row| row.total), Some(1));
    assert_eq!(old.get("read")?, Some(V1 { hits: 1 }));
    // Down over two steps.
    new.put("put", &v3(2))?;
    assert_eq!(old.get("put")?, Some(V1 { hits: 2 }));
    // Up again from what the old one wrote over it.
    old.put("put", &V1 { hits: 3 })?;
    assert_eq!(new.get("put")?, Some(V3 { note: None, ..v3(3) }));
    // The image in the middle of the way up, and below where the row began.
    host.commit("rows", 2);
    old.put("middle", &V1 { hits: 4 })?;
    assert_eq!(new.get("middle")?.map(|row| row.total), Some(4));
    assert_eq!(between.get("middle")?.map(|row| row.total), Some(4));
    between.put("below", &V2 { total: 5, unit: "hits".into() })?;
    host.commit("rows", 1);
    assert_eq!(new.get("below")?.map(|row| row.total), Some(5));
    assert_eq!(old.get("below")?, Some(V1 { hits: 5 }));
    Ok(())
}

#[test]
fn an_update_of_an_older_row_leaves_an_image_too() -> Result<()> {
    let host = Host::new();
    let (old, new) = (open::<V1>(&host), open::<V3>(&host));
    host.commit("rows", 1);
    old.put("a", &V1 { hits: 1 })?;
    new.update("a", |row| row.map(|row| V3 { total: row.total + 1, ..row }))?;
    assert_eq!(old.get("a")?, Some(V1 { hits: 2 }));
    host.commit("rows", 3);
    new.update("a", |row| row.map(|row| V3 { total: row.total + 1, ..row }))?;
    assert_eq!(code(old.get("a")), "table.newer_row");
    Ok(())
}

#[test]
fn a_one_way_version_leaves_what_was_there_and_nothing_for_new_rows() -> Result<()> {
    let host = Host::new();
    let (old, one_way) = (open::<V3>(&host), open::<V4>(&host));
    host.commit("rows", 3);
    old.put("a", &v3(1))?;
    assert_eq!(one_way.get("a")?, Some(V4 { sum: 1 }));
    one_way.put("a", &V4 { sum: 5 })?;
    one_way.put("b", &V4 { sum: 6 })?;
    assert_eq!(old.get("a")?, Some(v3(1)));
    assert_eq!(code(old.get("b")), "table.newer_row");
    Ok(())
}

#[test]
fn rows_older_than_every_type_are_read_by_field_name() -> Result<()> {
    #[derive(Debug, PartialEq, Serialize, Deserialize, State)]
    #[state(version = 5)]
    struct Oldest {
        hits: u64,
        #[serde(default)]
        limit: u64,
    }
    #[derive(Debug, PartialEq, Serialize, Deserialize, State)]
    #[state(version = 6, previous = Oldest, auto)]
    struct Newest {
        hits: u64,
        #[serde(default)]
        limit: u64,
    }
    let host = Host::new();
    let (first, newest) = (open::<V1>(&host), open::<Newest>(&host));
    host.commit("rows", 1);
    first.put("a", &V1 { hits: 7 })?;
    assert_eq!(newest.get("a")?, Some(Newest { hits: 7, limit: 0 }));
    // What was read stays readable; there is no way down to it.
    assert_eq!(first.get("a")?, Some(V1 { hits: 7 }));
    newest.put("b", &Newest { hits: 1, limit: 2 })?;
    assert_eq!(code(first.get("b")), "table.newer_row");
    Ok(())
}

#[test]
fn reads_answer_where_writes_are_refused() -> Result<()> {
    let host = Host::new();
    let (old, new) = (open::<V1>(&host), open::<V3>(&host));
    old.put("a", &V1 { hits: 7 })?;
    host.refuse_writes(true);
    assert_eq!(new.get("a")?.map(|row| row.total), Some(7));
    assert_eq!(code(new.put("a", &v3(8))), "table.not_active");
    assert_eq!(code(new.update("a", |row| row)), "table.not_active");
    // It was not written back.
    assert_eq!(old.get("a")?, Some(V1 { hits: 7 }));
    Ok(())
}

#[test]
fn an_image_is_made_anew_when_another_is_asked_for_meanwhile() -> Result<()> {
    let host = Host::new();
    let (first, second, new) = (open::<V1>(&host), open::<V2>(&host), open::<V3>(&host));
    host.commit("rows", 1);
    // While the step down to 1 runs, 2 becomes the committed schema.
    meanwhile(move || host.commit("rows", 2));
    new.put("a", &v3(7))?;
    assert_eq!(second.get("a")?.map(|row| row.total), Some(7));
    // And the same while a row is on its way up.
    first.put("b", &V1 { hits: 8 })?;
    host.commit("rows", 1);
    meanwhile(move || host.commit("rows", 3));
    assert_eq!(new.get("b")?.map(|row| row.total), Some(8));
    assert_eq!(code(first.get("b")), "table.newer_row");
    Ok(())
}

#[test]
fn a_row_that_is_changed_while_it_is_converted_is_read_again() -> Result<()> {
    let host = Host::new();
    let (old, new) = (open::<V1>(&host), open::<V3>(&host));
    old.put("a", &V1 { hits: 1 })?;
    let other = old.clone();
    meanwhile(move || other.put("a", &V1 { hits: 2 }).expect("is written"));
    assert_eq!(new.get("a")?.map(|row| row.total), Some(2));
    old.put("b", &V1 { hits: 1 })?;
    meanwhile(move || assert!(old.remove("b").expect("is removed")));
    assert_eq!(new.get("b")?, None);
    Ok(())
}

#[test]
fn a_step_down_that_fails_is_the_error_of_the_write_and_changes_nothing() -> Result<()> {
    let host = Host::new();
    let (old, new) = (open::<V1>(&host), open::<V3>(&host));
    host.commit("rows", 1);
    new.put("a", &v3(1))?;
    let error = new.put("a", &V3 { unit: "bytes".into(), ..v3(2) }).expect_err("refused by the step");
    assert_eq!(error.code(), "state.bad");
    assert!(
        error.message().starts_with("table \"rows\", row \"a\": the state step from schema 2 to 1"),
        "{error}"
    );
    assert!(error.message().ends_with("\"bytes\" are no hits"), "{error}");
    assert_eq!((old.get("a")?, new.get("a")?), (Some(V1 { hits: 1 }), Some(v3(1))));
    Ok(())
}

#[test]
fn no_update_of_two_versions_on_many_threads_is_lost() -> Result<()> {
    const EACH: u64 = 2_000;
    let host = Host::new();
    host.commit("rows", 1);
    let (old, new) = (open::<V1>(&host), open::<V3>(&host));
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for _ in 0..EACH {
                    old.update("a", |row| Some(V1 { hits: row.map_or(0, |row| row.hits) + 1 }))
                        .expect("counts");
                }
            });
            scope.spawn(|| {
                for _ in 0..EACH {
                    new.update("a", |row| Some(row.map_or(v3(1), |row| V3 { total: row.total + 1, ..row })))
                        .expect("counts");
                }
            });
            // Reading converts and writes back, and must not undo either.
            scope.spawn(|| (0..EACH).for_each(|_| drop(new.get("a").expect("reads"))));
        }
    });
    assert_eq!(old.get("a")?, Some(V1 { hits: 4 * EACH }));
    assert_eq!(new.get("a")?.map(|row| row.total), Some(4 * EACH));
    Ok(())
}

#[test]
fn rows_of_every_length_come_back() -> Result<()> {
    let host = Host::new();
    let (between, new) = (open::<V2>(&host), open::<V3>(&host));
    for length in (480..540).chain([5_000, 1_000_000]) {
        let row = V2 { total: 1, unit: "x".repeat(length) };
        between.put("a", &row)?;
        assert_eq!(between.get("a")?.as_ref(), Some(&row));
        assert_eq!(new.get("a")?.map(|row| row.unit.len()), Some(length));
    }
    Ok(())
}

#[test]
fn a_scan_meets_every_row_once_whatever_its_schema() -> Result<()> {
    let host = Host::new();
    let (old, new) = (open::<V1>(&host), open::<V3>(&host));
    assert!(new.scan().next().is_none());
    for number in 0..1_000 {
        match number % 2 {
            0 => old.put(&format!("row {number}"), &V1 { hits: number })?,
            _ => new.put(&format!("row {number}"), &v3(number))?,
        }
    }
    let mut met = BTreeMap::new();
    let mut scan = new.scan();
    while let Some((key, row)) = scan.next().transpose()? {
        assert!(met.insert(key, row.total).is_none());
        // Rows may come and go under way.
        new.put("extra", &v3(0))?;
        new.remove("extra")?;
    }
    met.remove("extra");
    assert_eq!(met, (0..1_000).map(|number| (format!("row {number}"), number)).collect());
    Ok(())
}

#[test]
fn a_scan_has_an_error_for_a_row_of_a_later_version_and_goes_on_behind_it() -> Result<()> {
    let host = Host::new();
    let (old, new) = (open::<V3>(&host), open::<V4>(&host));
    old.put("a", &v3(1))?;
    host.commit("rows", 3);
    new.put("b", &V4 { sum: 2 })?;
    old.put("c", &v3(3))?;
    let mut met: Vec<_> =
        old.scan().map(|row| row.map(|(key, _)| key).map_err(|error| error.code().to_owned())).collect();
    met.sort();
    assert_eq!(met, [Ok("a".to_owned()), Ok("c".to_owned()), Err("table.newer_row".to_owned())]);
    Ok(())
}

#[test]
fn rows_that_are_none_are_errors_with_their_table_and_key() -> Result<()> {
    #[derive(Debug, Serialize, Deserialize, State)]
    #[state(version = 3)]
    struct Other {
        text: String,
    }
    let host = Host::new();
    let (rows, other) = (open::<V3>(&host), open::<Other>(&host));
    rows.put("good", &v3(1))?;
    other.put("bad \u{e9}", &Other { text: "x".into() })?;
    rows.put("also good", &v3(2))?;
    for error in [rows.get("bad \u{e9}").map(drop), rows.update("bad \u{e9}", |row| row).map(drop)] {
        let error = error.expect_err("is no V3");
        assert_eq!(error.code(), "table.corrupt");
        assert!(error.message().starts_with("table \"rows\", row \"bad \\xc3\\xa9\": "), "{error}");
        assert!(error.message().contains("missing field `total`"), "{error}");
    }
    let scanned: Vec<_> =
        rows.scan().map(|row| row.map(|(key, _)| key).map_err(|e| e.code().to_owned())).collect();
    assert_eq!(scanned, [Ok("good".to_owned()), Err("table.corrupt".to_owned()), Ok("also good".to_owned())]);
    let numbered: Table<u64, V3> = host.context().table("rows")?;
    let error = numbered.scan().next().expect("a row").expect_err("no number");
    assert!(error.message().starts_with("table \"rows\", row \"good\": the key is none"), "{error}");
    // What is overwritten need not be readable.
    rows.put("bad \u{e9}", &v3(3))?;
    assert_eq!(rows.get("bad \u{e9}")?, Some(v3(3)));
    Ok(())
}

#[test]
fn a_table_is_opened_once_for_each_version() -> Result<()> {
    let context = testing::context();
    let rows = context.table::<u64, V1>("rows")?;
    assert_eq!(code(context.table::<u64, V1>("rows")), "table.opened_twice");
    rows.clone().put(&1, &V1 { hits: 1 })?;
    assert_eq!(rows.get(&1)?, Some(V1 { hits: 1 }));
    Ok(())
}

#[test]
fn limits_are_errors_and_what_does_not_grow_is_possible() -> Result<()> {
    let options = TableOptions::new().rows_max(2).bytes_max(100);
    let rows: Table<String, V2> = testing::context().table_with("rows", options)?;
    let row = |length| V2 { total: 1, unit: "x".repeat(length) };
    rows.put("a", &row(1))?;
    assert_eq!(code(rows.put("b", &row(90))), "table.bytes_max");
    rows.put("b", &row(2))?;
    assert_eq!(code(rows.put("c", &row(1))), "table.rows_max");
    rows.put("b", &row(1))?;
    assert!(rows.remove("a")?);
    assert_eq!(code(rows.put(&"k".repeat(1025), &row(1))), "table.key_too_large");
    Ok(())
}

#[test]
fn a_table_on_disk_is_written_and_waited_for() -> Result<()> {
    let options = TableOptions::new().durability(Durability::Disk);
    let rows: Table<u64, V1> = testing::context().table_with("rows", options)?;
    rows.put(&1, &V1 { hits: 1 })?;
    assert_eq!(rows.update(&1, |_| Some(V1 { hits: 2 }))?, Some(V1 { hits: 2 }));
    assert!(rows.remove(&1)?);
    rows.clear()
}

#[cfg(feature = "async")]
#[test]
fn a_table_on_disk_is_awaited() -> Result<()> {
    async fn all(rows: Table<u64, V1>) -> Result<()> {
        rows.put_async(&1, &V1 { hits: 1 }).await?;
        let two = rows.update_async(&1, |row| row.map(|row| V1 { hits: row.hits + 1 })).await?;
        assert_eq!((two, rows.get(&1)?), (Some(V1 { hits: 2 }), Some(V1 { hits: 2 })));
        assert_eq!(code(rows.try_update_async(&1, |_| Err(Error::new("own", "no"))).await), "own");
        assert_eq!((rows.remove_async(&1).await?, rows.remove_async(&1).await?), (true, false));
        Ok(())
    }
    fn is_send<T: Send>(future: T) -> T {
        future
    }
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    for durability in [Durability::Memory, Durability::Disk] {
        let options = TableOptions::new().durability(durability);
        runtime.block_on(is_send(all(testing::context().table_with("rows", options)?)))?;
    }
    Ok(())
}
