//! What the tables of a version ask of its deployment.
//!
//! Rows do not go over: they stay in the host, and each version reads them as it
//! can. What has to be seen to is that a version finds every row in a schema
//! that it reads, and that nothing it writes is lost when it is gone back from.
//!
//! | its schema is | it can go down | then |
//! |---|---|---|
//! | that of the committed version | | nothing |
//! | later | yes | nothing: it leaves images |
//! | later | no | callers wait at the gate until the calls on the version before have ended |
//! | earlier | | the version that serves makes images of all rows first, beside calls; if it cannot, callers wait as above, and what is lost has to be allowed |

use super::{error::DeployError, taken::Loss};
use crate::{
    clock::monotonic_ns,
    load::HookError,
    service::{Fit, OpenTables, Serving},
    table::{Converted, Sweep, SweptRow, Table, TableError, VALUE_BYTES_MAX, View},
};
use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

/// How a version gets past the one that serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Passage {
    /// Calls on both may overlap.
    Open,
    /// No call on the one before may see what the new one writes.
    Gated,
}

/// Rows that are handed to a plugin at once.
pub(crate) const BATCH_ROWS: usize = 128;

/// How a version gets past the one that serves, with these losses.
pub(crate) fn passage(new: &Serving, descent: &Descent, losses: &[Loss]) -> Passage {
    if is_one_way(new) || descent.is_one_way() || !losses.is_empty() { Passage::Gated } else { Passage::Open }
}

/// Whether what a version writes cannot be turned into what the committed one
/// reads.
pub(crate) fn is_one_way(new: &Serving) -> bool {
    new.tables().all().iter().any(|table| table.fit() == Fit::OneWay)
}

/// Whether a version's steps bring up all rows that are older than its own: the
/// sweep of what serves does, as long as that has the step.
pub(crate) fn reads_all_rows(new: &OpenTables) -> Result<(), DeployError> {
    let mut tables = new.all().into_iter();
    let unread = tables.find_map(|open| open.out_of_reach().map(|schema| (open, schema)));
    unread.map_or(Ok(()), |(open, schema)| {
        let table = open.view().table().name().to_owned();
        Err(DeployError::Unswept { table, schema, to: open.view().schema() })
    })
}

/// Whether two versions can serve at once, as far as tables are concerned.
pub(crate) fn can_share(new: &Serving) -> Result<(), DeployError> {
    let tables = new.tables().all();
    let strange = tables.iter().find(|table| !matches!(table.fit(), Fit::Same | Fit::Later));
    strange.map_or(Ok(()), |open| {
        let table = open.view().table();
        Err(DeployError::OneWay { table: table.name().to_owned(), to: table.record().base })
    })
}

/// The way of a version into tables that may have rows of later schemas: these
/// are brought within its reach while the version before serves, which takes as
/// long as there are rows. Dropping this gives the way up, and leaves the
/// committed schemas as they were.
///
/// Several threads have it: the one that goes the way, which waits for the
/// disks of tables that are kept by one, and the one that may give it up.
#[must_use = "dropping it gives it up"]
#[derive(Debug)]
pub(crate) struct Descent {
    tables: Vec<Down>,
    /// Where those have gone who wanted another way down.
    left: Vec<Arc<Table>>,
    /// Held while a table is changed, so that none is after the end.
    is_over: Mutex<bool>,
}

/// A table that is gone down in.
#[derive(Debug, Clone)]
pub(crate) struct Down {
    table: Arc<Table>,
    to: u32,
    /// What the version that serves reads and writes, if it has the table.
    from: Option<u32>,
    /// The view of the version that serves, if that can make the images.
    pub(crate) theirs: Option<Arc<View>>,
    /// It cannot, and leaves none of what it writes until its last call.
    is_one_way: bool,
}

impl Down {
    /// What is out of reach for the new version all the same. Looks at each row.
    pub(super) fn loss(&self, allow: bool) -> Result<Option<Loss>, DeployError> {
        let (rows, from) = (self.table.losses(), self.table.record().base);
        let table = self.table.name().to_owned();
        match rows {
            0 => Ok(None),
            rows if allow => Ok(Some(Loss { table, rows })),
            rows => Err(DeployError::Rows { table, from, to: self.to, rows }),
        }
    }
}

/// How far a version's tables are within its reach.
pub(crate) struct Reach<'a> {
    pub(crate) descent: &'a Descent,
    /// Rows that are not, which is allowed.
    pub(crate) losses: Vec<Loss>,
}

impl Reach<'_> {
    /// Whether the version's tables are committed behind the gate, so that what a
    /// process has to know which finds them so is to be written before.
    pub(crate) fn commits_at_gate(&self, new: &Serving) -> bool {
        passage(new, self.descent, &self.losses) == Passage::Gated
    }
}

impl Descent {
    /// What is to be done before `new` can be let in. Nothing is done yet.
    pub(crate) fn of(old: Option<&OpenTables>, new: &OpenTables) -> Descent {
        let mut descent = Descent::none();
        for open in new.all() {
            let (table, to) = (Arc::clone(open.view().table()), open.view().schema());
            if !open.may_meet_newer_rows() {
                if table.record().downgrade_to != 0 {
                    descent.left.push(table);
                }
                continue;
            }
            let theirs = old.and_then(|old| old.find(table.name()));
            let from = theirs.as_ref().map(|theirs| theirs.view().schema());
            let is_one_way = theirs.as_ref().is_some_and(|theirs| !theirs.goes_down_to(to));
            let theirs = theirs.filter(|_| !is_one_way).map(|theirs| Arc::clone(theirs.view()));
            descent.tables.push(Down { table, to, from, theirs, is_one_way });
        }
        descent
    }

    /// Nothing has to be brought within reach.
    pub(crate) fn none() -> Descent {
        Descent { tables: Vec::new(), left: Vec::new(), is_over: Mutex::new(false) }
    }

    /// Whether nothing is to be done.
    pub(crate) fn is_none(&self) -> bool {
        self.tables.is_empty() && self.left.is_empty()
    }

    /// Has the versions at work leave images for the new one from now on. May wait
    /// for a disk.
    pub(crate) fn begin(&self) -> Result<(), DeployError> {
        for table in &self.left {
            self.change(|| table.cancel_downgrade())?;
        }
        for Down { table, to, from, .. } in &self.tables {
            let base = table.record().base;
            if *from == Some(base) {
                // Nobody here reads what versions after the one that serves have
                // left: from now on it counts as its image, which can go down.
                self.change(|| table.commit(base))?;
            }
            self.change(|| table.prepare_downgrade(*to))?;
        }
        Ok(())
    }

    fn change(&self, change: impl FnOnce() -> Result<(), TableError>) -> Result<(), DeployError> {
        let is_over = lock(&self.is_over);
        if *is_over { Err(DeployError::Overtaken) } else { Ok(change()?) }
    }

    /// The tables that are gone down in: of each, the version that serves is to
    /// sweep what it can, and then the losses are to be counted.
    pub(crate) fn tables(&self) -> &[Down] {
        &self.tables
    }

    /// Whether the version that serves cannot make images of what it writes.
    pub(crate) fn is_one_way(&self) -> bool {
        self.tables.iter().any(|down| down.is_one_way)
    }

    /// What is out of reach for the new version, once nobody writes any more.
    pub(crate) fn losses(&self, allow: bool) -> Result<Vec<Loss>, DeployError> {
        self.tables.iter().filter_map(|down| down.loss(allow).transpose()).collect()
    }

    /// The version serves. That it goes down is over when it is committed.
    pub(crate) fn finish(&self) {
        *lock(&self.is_over) = true;
    }

    /// The version is not let in: images are left in the committed schema again.
    /// May wait for a disk. Returns whether they are, on the disk too.
    pub(crate) fn give_up(&self) -> bool {
        let mut is_over = lock(&self.is_over);
        if std::mem::replace(&mut *is_over, true) {
            return true;
        }
        let mut is_undone = true;
        for Down { table, .. } in &self.tables {
            if let Err(error) = table.cancel_downgrade().and_then(|()| table.wait_for_record()) {
                // Its images are more than is needed, and that is all.
                tracing::error!(table = table.name(), %error, "a downgrade was given up");
                is_undone = false;
            }
        }
        is_undone
    }
}

impl Drop for Descent {
    fn drop(&mut self) {
        self.give_up();
    }
}

fn lock(is_over: &Mutex<bool>) -> MutexGuard<'_, bool> {
    is_over.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Since when a row has been in the hands of a plugin, for whoever is not to wait
/// for it any longer.
#[derive(Debug, Default)]
pub(crate) struct Converting {
    /// By the monotonic clock; 0 while none is. Relaxed: looked at again soon.
    since_ns: AtomicU64,
}

impl Converting {
    fn during<T>(&self, step: impl FnOnce() -> T) -> T {
        self.since_ns.store(monotonic_ns(), Relaxed);
        let made = step();
        self.since_ns.store(0, Relaxed);
        made
    }

    /// Whether a row has been converted for longer than this, and still is.
    pub(crate) fn is_stuck(&self, after: Duration) -> bool {
        let since_ns = self.since_ns.load(Relaxed);
        since_ns != 0 && Duration::from_nanos(monotonic_ns().saturating_sub(since_ns)) > after
    }
}

/// Has a version convert rows. Those that it cannot are left as they are;
/// returns the first failure.
pub(crate) fn convert(
    serving: &Serving,
    sweep: &mut Sweep,
    rows: &[SweptRow],
    converting: &Converting,
) -> Result<Option<HookError>, TableError> {
    let mut failed = None;
    for row in rows {
        let parts = row.row();
        let schemas = (parts.schema, row.image_schema());
        let table = Arc::clone(sweep.view().table());
        let convert = || serving.convert_row(table.name(), parts.value, schemas, VALUE_BYTES_MAX);
        let converted = converting.during(convert);
        let converted = converted.unwrap_or_else(|error| {
            failed.get_or_insert(error);
            None
        });
        let (value, image) = converted.map_or((None, None), |row| (row.value, row.image));
        sweep.settle(row, &Converted { value: value.as_deref(), image: image.as_deref() })?;
    }
    sweep.wait()?;
    Ok(failed)
}

/// What tests of this folder have in common.
#[cfg(test)]
pub(super) mod testing {
    use super::*;
    use crate::{
        service::{Spec, Tables},
        table::{Change, Journal, JournalError, Ticket},
    };
    use replug_abi::Durability;
    use std::sync::mpsc::{Receiver, Sender, channel};

    pub(crate) const LONG: Duration = Duration::from_secs(20);

    /// A store that says that it was asked, and hangs until it is let go on.
    struct HangingStore {
        asked: Sender<()>,
        go_on: Mutex<Receiver<()>>,
    }

    /// The other end of it.
    pub(crate) struct Hanging {
        pub(crate) asked: Receiver<()>,
        pub(crate) let_go_on: Sender<()>,
    }

    pub(crate) fn hanging() -> (Arc<dyn Journal>, Hanging) {
        let ((asked, is_asked), (let_go_on, go_on)) = (channel(), channel());
        (Arc::new(HangingStore { asked, go_on: Mutex::new(go_on) }), Hanging { asked: is_asked, let_go_on })
    }

    impl Journal for HangingStore {
        fn append(&self, _: &Change<'_>) -> Result<Ticket, JournalError> {
            // The test may be over.
            _ = self.asked.send(());
            _ = self.go_on.lock().unwrap_or_else(PoisonError::into_inner).recv();
            Ok(Ticket::NONE)
        }

        fn wait(&self, _: Ticket) -> Result<(), JournalError> {
            Ok(())
        }
    }

    pub(crate) fn version(tables: &Arc<Tables>, schema: u32) -> Arc<OpenTables> {
        let spec = Spec {
            name: "rows",
            schema,
            steps: &[(1, 2), (2, 1)],
            durability: Durability::MEMORY,
            rows_max: 0,
            bytes_max: 0,
        };
        let version = OpenTables::new(&"sessions".parse().expect("a name"), tables);
        version.open(&spec).expect("opens");
        version
    }
}

#[cfg(test)]
mod tests {
    use super::{
        testing::{Hanging, LONG, hanging, version},
        *,
    };
    use crate::{
        service::Tables,
        table::{Limits, Write},
        table_store::TableStoreOptions,
    };
    use std::thread;

    /// Once, the command loop waited for the disk, and no plugin was deployed.
    #[test]
    fn nobody_waits_for_a_disk_but_who_goes_down_and_who_gives_that_up() {
        let tables = Tables::new(Limits::NONE, "nowhere".into(), TableStoreOptions::default());
        let serving = version(&tables, 2);
        serving.activate().expect("writes");
        serving.commit().expect("is the first");
        let table = Arc::clone(serving.all()[0].view().table());
        serving.all()[0].view().put(b"key", &Write::new(b"")).expect("is written");
        let (store, Hanging { asked: is_asked, let_go_on }) = hanging();
        let_go_on.send(()).expect("it listens");
        table.attach(store).expect("takes the record");
        is_asked.recv_timeout(LONG).expect("takes the record");

        let earlier = version(&tables, 1);
        let descent = Arc::new(Descent::of(Some(&serving), &earlier));
        assert!(!descent.is_none() && is_asked.try_recv().is_err(), "nothing is done yet");
        let begins = thread::spawn({
            let descent = Arc::clone(&descent);
            move || descent.begin().map_err(drop)
        });
        is_asked.recv_timeout(LONG).expect("begins");
        let gives_up = thread::spawn(move || descent.give_up());
        drop(let_go_on);
        // Whichever of them comes first then.
        _ = begins.join().expect("does not panic");
        gives_up.join().expect("does not panic");
        assert_eq!(table.record().downgrade_to, 0);
    }

    #[test]
    fn a_descent_that_was_given_up_changes_nothing_any_more() {
        let tables = Tables::new(Limits::NONE, "nowhere".into(), TableStoreOptions::default());
        let (serving, earlier) = (version(&tables, 2), version(&tables, 1));
        serving.activate().expect("writes");
        serving.commit().expect("is the first");
        let descent = Descent::of(Some(&serving), &earlier);
        descent.begin().expect("no journal");
        assert_eq!(serving.all()[0].view().table().record().downgrade_to, 1);
        descent.give_up();
        assert!(matches!(descent.begin(), Err(DeployError::Overtaken)));
        assert_eq!(serving.all()[0].view().table().record().downgrade_to, 0);
    }
}
