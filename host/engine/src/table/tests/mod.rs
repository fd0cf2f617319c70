//! A plugin's side of tables, as the tests play it, and a journal in memory.
//!
//! A value of schema `s` is `s` bytes. A step up appends what the new field is
//! derived as, a step down takes it off, so that a value says which fields were
//! lost on its way.

mod committing;
mod durable;
mod model;
mod rules;
mod stress;

use super::{
    Batch, Change, Decision, Image, Journal, JournalError, Limits, NewImage, Record, Report, RowRef, Settled,
    Sweep, SweptRow, Table, TableError, Ticket, View, Write, WriteOutcome,
};
use parking_lot::Mutex;
use replug_abi::{RowInfo, RowWrite, SCAN_END, ScannedRow, Written};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

type Value = Vec<u8>;

fn converted(value: &[u8], to: u32) -> Value {
    let mut value = value.to_vec();
    value.truncate(to as usize);
    while value.len() < to as usize {
        value.push(value.last().map_or(0, |last| last.wrapping_add(1)));
    }
    value
}

/// One version of a plugin: what the SDK does around each call.
#[derive(Debug)]
struct Version {
    view: Arc<View>,
    /// Whether it has steps down.
    down: bool,
}

impl Version {
    fn start(table: &Arc<Table>, schema: u32, down: bool) -> Version {
        let view = Arc::new(View::new(table, schema));
        view.activate().expect("a sound journal");
        Version { view, down }
    }

    fn schema(&self) -> u32 {
        self.view.schema()
    }

    fn read(&self, key: &[u8]) -> Result<(RowInfo, Value), TableError> {
        let mut bytes = [0; 16];
        let info = self.view.get(key, &mut bytes)?;
        Ok((info, bytes[..info.bytes].to_vec()))
    }

    /// Reads a row in the version's own schema, and brings it to that if nobody is in
    /// the way.
    fn get(&self, key: &[u8]) -> Result<Option<(u64, Value)>, TableError> {
        loop {
            let (info, bytes) = self.read(key)?;
            if info == RowInfo::NONE {
                return Ok(None);
            }
            if info.schema == self.schema() {
                return Ok(Some((info.revision, bytes)));
            }
            let value = converted(&bytes, self.schema());
            let needed = self.view.image_schema();
            // On the way up through the image's schema, or down to it.
            let image_from = if needed >= info.schema { &bytes } else { &value };
            let can = needed >= info.schema || self.down;
            let offer = |write: &Write<'_>| self.view.offer(key, write);
            match self.writing(&value, image_from, can, info.revision, offer)? {
                Some(WriteOutcome::Written(written)) => return Ok(Some((written.revision, value))),
                Some(WriteOutcome::Conflict(_) | WriteOutcome::Image) => {}
                None => return Ok(Some((info.revision, value))),
            }
        }
    }

    /// Hands out what is to be written for a value.
    fn writing<T>(
        &self,
        value: &[u8],
        image_from: &[u8],
        can: bool,
        expected: u64,
        write: impl FnOnce(&Write<'_>) -> T,
    ) -> T {
        let needed = self.view.image_schema();
        let bytes = converted(image_from, needed);
        let image = match needed {
            0 => NewImage::None,
            schema if can => NewImage::Of { schema, bytes: &bytes },
            _ => NewImage::NoWayBack,
        };
        write(&Write { value, image, expected })
    }

    fn put_if(&self, key: &[u8], value: &[u8], expected: u64) -> Result<WriteOutcome, TableError> {
        loop {
            let put = |write: &Write<'_>| self.view.put(key, write);
            match self.writing(value, value, self.down, expected, put)? {
                WriteOutcome::Image => {}
                outcome => return Ok(outcome),
            }
        }
    }

    fn put(&self, key: &[u8], value: &[u8]) -> Result<Written, TableError> {
        match self.put_if(key, value, RowWrite::ANY)? {
            WriteOutcome::Written(written) => Ok(written),
            other => panic!("{other:?} without a condition"),
        }
    }

    fn remove(&self, key: &[u8]) -> Result<Written, TableError> {
        match self.view.remove(key, RowWrite::ANY)? {
            WriteOutcome::Written(written) => Ok(written),
            other => panic!("{other:?} without a condition"),
        }
    }

    /// All rows, in the version's own schema; else the keys of those that it
    /// cannot read.
    fn scan(&self) -> Result<BTreeMap<Vec<u8>, Value>, BTreeSet<Vec<u8>>> {
        let (rows, unread) = self.scan_all();
        if unread.is_empty() { Ok(rows) } else { Err(unread) }
    }

    /// All rows that it can read, and the keys of the others.
    fn scan_all(&self) -> (BTreeMap<Vec<u8>, Value>, BTreeSet<Vec<u8>>) {
        let (mut rows, mut unread, mut cursor) = (BTreeMap::new(), BTreeSet::new(), 0);
        while cursor != SCAN_END {
            let mut body = Vec::new();
            cursor = self.view.scan(cursor, &mut body);
            let mut rest = &body[..];
            while let Some((row, behind)) = ScannedRow::read(rest) {
                rest = behind;
                let key = row.key.to_vec();
                if let Some((code, _)) = row.failure() {
                    assert_eq!(code, "table.newer_row");
                    assert!(unread.insert(key.clone()), "row {key:?} was seen twice");
                    continue;
                }
                assert_eq!(row.schema as usize, row.value.len());
                let twice = rows.insert(key, converted(row.value, self.schema()));
                assert_eq!(twice, None, "row {:?} was seen twice", row.key);
            }
            assert!(rest.is_empty());
        }
        (rows, unread)
    }

    fn settle(&self, sweep: &mut Sweep, swept: &SweptRow) -> Result<Settled, TableError> {
        let row = swept.row();
        let value = converted(row.value, self.schema());
        let image = converted(row.value, swept.image_schema());
        let converted = super::Converted {
            value: (row.schema < self.schema()).then_some(&value[..]),
            image: (swept.image_schema() != 0 && self.down).then_some(&image[..]),
        };
        sweep.settle(swept, &converted)
    }

    /// A whole pass.
    fn sweep(&self) -> Report {
        let mut sweep = Sweep::new(&self.view);
        loop {
            match sweep.next_batch(7).expect("a sound journal") {
                Batch::End(report) => return report,
                Batch::Rows(rows) => {
                    for row in &rows {
                        self.settle(&mut sweep, row).expect("a sound journal");
                    }
                }
            }
        }
    }
}

/// The counters against what is there.
fn assert_counters_are_exact(table: &Table) {
    let (mut rows, mut bytes) = (0, 0);
    for shard in table.shards.iter() {
        for row in shard.rows() {
            rows += 1;
            bytes += row.cost();
        }
    }
    let size = table.size();
    assert_eq!((size.rows, size.bytes), (rows, bytes));
}

/// A change, kept.
#[derive(Debug, Clone, PartialEq)]
enum Kept {
    Put { key: Vec<u8>, value: Value, numbers: (u32, u32, u64), image: Option<(u32, Value, bool)> },
    Remove(Vec<u8>),
    Clear,
    Control(Record),
}

impl Kept {
    fn of(change: &Change<'_>) -> Kept {
        match *change {
            Change::Put(row) => Kept::Put {
                key: row.key.to_vec(),
                value: row.value.to_vec(),
                numbers: (row.schema, row.generation, row.revision),
                image: row.image.map(|image| (image.schema, image.bytes.to_vec(), image.fresh)),
            },
            Change::Remove { key } => Kept::Remove(key.to_vec()),
            Change::Clear => Kept::Clear,
            Change::Control(record) => Kept::Control(record.clone()),
        }
    }

    fn change(&self) -> Change<'_> {
        match self {
            Kept::Put { key, value, numbers: (schema, generation, revision), image } => {
                let image = image.as_ref().map(|(schema, bytes, fresh)| Image {
                    schema: *schema,
                    bytes,
                    fresh: *fresh,
                });
                let (schema, generation, revision) = (*schema, *generation, *revision);
                Change::Put(RowRef { key, value, schema, generation, revision, image })
            }
            Kept::Remove(key) => Change::Remove { key },
            Kept::Clear => Change::Clear,
            Kept::Control(record) => Change::Control(record),
        }
    }
}

/// A store that keeps what it is told, until it fails.
#[derive(Default)]
struct MemoryJournal {
    kept: Mutex<Vec<Kept>>,
    /// How many changes it takes.
    room: Option<usize>,
}

impl MemoryJournal {
    fn restored(&self, journal: Option<Arc<dyn Journal>>) -> Arc<Table> {
        let mut restore = super::Restore::new("rows", Limits::NONE);
        for kept in self.kept.lock().iter() {
            restore.apply(&kept.change()).expect("what a table wrote");
        }
        restore.finish(journal)
    }
}

impl Journal for MemoryJournal {
    fn append(&self, change: &Change<'_>) -> Result<Ticket, JournalError> {
        let mut kept = self.kept.lock();
        if self.room.is_some_and(|room| kept.len() >= room) {
            return Err(Arc::new(std::io::Error::other("no space")));
        }
        kept.push(Kept::of(change));
        Ok(Ticket(kept.len() as u64))
    }

    fn wait(&self, ticket: Ticket) -> Result<(), JournalError> {
        assert!(ticket.0 as usize <= self.kept.lock().len());
        Ok(())
    }
}
