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

use super::{
    error::DeployError,
    taken::{DEPLOYMENT, Loss},
};
use crate::{
    clock::monotonic_ns,
    dispatch::{Holder, Lease},
    load::HookError,
    service::{Entry, Fit, OpenTables, Serving},
    table::{Converted, Sweep, SweptRow, Table, TableError, VALUE_BYTES_MAX, View},
};
use std::sync::Arc;

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
#[must_use = "dropping it gives it up"]
pub(crate) struct Descent {
    tables: Vec<Down>,
    is_given_up: bool,
}

/// A table that is gone down in.
#[derive(Debug, Clone)]
pub(crate) struct Down {
    table: Arc<Table>,
    to: u32,
    /// The view of the version that serves, if that can make the images.
    pub(crate) theirs: Option<Arc<View>>,
    /// It cannot, and leaves none of what it writes until its last call.
    is_one_way: bool,
}

impl Down {
    /// What is out of reach for the new version all the same. Looks at each row.
    pub(crate) fn loss(&self, allow: bool) -> Result<Option<Loss>, DeployError> {
        let (rows, from) = (self.table.losses(), self.table.record().base);
        let table = self.table.name().to_owned();
        match rows {
            0 => Ok(None),
            rows if allow => Ok(Some(Loss { table, rows })),
            rows => Err(DeployError::Rows { table, from, to: self.to, rows }),
        }
    }
}

impl Descent {
    /// Has the versions at work leave images for the new one from now on.
    pub(crate) fn begin(entry: &Entry, new: &Serving) -> Result<Descent, DeployError> {
        let old = lease(entry);
        let mut descent = Descent { tables: Vec::new(), is_given_up: true };
        for open in new.tables().all() {
            let (table, to) = (Arc::clone(open.view().table()), open.view().schema());
            let record = table.record();
            if !open.may_meet_newer_rows() {
                if record.downgrade_to != 0 {
                    // Those who wanted it have gone.
                    table.cancel_downgrade()?;
                }
                continue;
            }
            let theirs = old.as_ref().and_then(|old| old.tables().find(table.name()));
            if theirs.as_ref().is_some_and(|theirs| theirs.view().schema() == record.base) {
                // Nobody here reads what versions after the one that serves have
                // left: from now on it counts as its image, which can go down.
                table.commit(record.base)?;
            }
            let is_one_way = theirs.as_ref().is_some_and(|theirs| !theirs.goes_down_to(to));
            let theirs = theirs.filter(|_| !is_one_way).map(|theirs| Arc::clone(theirs.view()));
            descent.tables.push(Down { table: Arc::clone(&table), to, theirs, is_one_way });
            table.prepare_downgrade(to)?;
        }
        Ok(descent)
    }

    /// Nothing has to be brought within reach.
    pub(crate) fn none() -> Descent {
        Descent { tables: Vec::new(), is_given_up: false }
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
    pub(super) fn losses(&self, allow: bool) -> Result<Vec<Loss>, DeployError> {
        self.tables.iter().filter_map(|down| down.loss(allow).transpose()).collect()
    }

    /// The version serves. That it goes down is over when it is committed.
    pub(crate) fn finish(mut self) {
        self.is_given_up = false;
    }
}

impl Drop for Descent {
    fn drop(&mut self) {
        let tables = self.tables.iter().filter(|_| self.is_given_up);
        for Down { table, .. } in tables {
            if let Err(error) = table.cancel_downgrade() {
                // Its images are more than is needed, and that is all.
                tracing::error!(table = table.name(), %error, "a downgrade was given up");
            }
        }
    }
}

fn lease(entry: &Entry) -> Option<Lease<Serving>> {
    entry.slot.look(Holder::new(DEPLOYMENT, monotonic_ns()))
}

/// Has a version convert rows. Those that it cannot are left as they are;
/// returns the first failure.
pub(crate) fn convert(
    serving: &Serving,
    sweep: &mut Sweep,
    rows: &[SweptRow],
) -> Result<Option<HookError>, TableError> {
    let mut failed = None;
    for row in rows {
        let parts = row.row();
        let schemas = (parts.schema, row.image_schema());
        let table = Arc::clone(sweep.view().table());
        let converted = serving.convert_row(table.name(), parts.value, schemas, VALUE_BYTES_MAX);
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
