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
//! | earlier | | the version that serves makes images of all rows first, beside calls; if it cannot, and that loss is allowed, callers wait as above |

use super::{
    error::DeployError,
    progress::{Party, Progress},
    taken::{DEPLOYMENT, Loss, enter},
    worker::Worker,
};
use crate::{
    clock::monotonic_ns,
    dispatch::{Holder, Lease},
    load::{Hook, HookError},
    service::{Entry, Fit, OpenTable, Serving},
    table::{Batch, Converted, Sweep, SweptRow, TableError, VALUE_BYTES_MAX, View},
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
/// Passes over a table, each of which finds what was written during the last.
const PASSES_MAX: usize = 8;

/// How a version gets past the one that serves, with these losses.
pub(crate) fn passage(new: &Serving, losses: &[Loss]) -> Passage {
    let is_one_way = new.tables().all().iter().any(|table| table.fit() == Fit::OneWay);
    if is_one_way || !losses.is_empty() { Passage::Gated } else { Passage::Open }
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

/// Sees to it that a version of earlier schemas can read every row. What it
/// cannot is a loss, which has to be allowed.
pub(crate) fn make_readable(
    entry: &Entry,
    new: &Serving,
    worker: &mut Worker,
    allow_loss: bool,
) -> Result<Vec<Loss>, DeployError> {
    let mut losses = Vec::new();
    for open in new.tables().all().iter().filter(|open| open.may_meet_newer_rows()) {
        let (table, to) = (open.view().table(), open.view().schema());
        let before = table.record().base;
        let theirs = lease(entry).and_then(|old| old.tables().find(table.name()));
        if theirs.as_ref().is_some_and(|theirs| theirs.view().schema() == before) {
            // Nobody here reads what versions after the one that serves have
            // left: from now on it counts as its image, which can go down.
            table.commit(before)?;
        }
        table.prepare_downgrade(to)?;
        let rows = match theirs {
            Some(theirs) if theirs.goes_down_to(to) => sweep_down(entry, theirs.view(), worker, allow_loss),
            _ => Ok(()),
        };
        let rows = rows.map(|()| table.losses());
        match rows {
            Ok(0) => {}
            Ok(rows) if allow_loss => losses.push(Loss { table: table.name().to_owned(), rows }),
            Ok(rows) => {
                table.prepare_downgrade(before)?;
                return Err(no_way_back(open, rows));
            }
            Err(error) => {
                table.prepare_downgrade(before)?;
                return Err(error);
            }
        }
    }
    Ok(losses)
}

fn no_way_back(open: &OpenTable, rows: u64) -> DeployError {
    let table = open.view().table();
    let (from, to) = (table.record().base, open.view().schema());
    DeployError::Rows { table: table.name().to_owned(), from, to, rows }
}

fn lease(entry: &Entry) -> Option<Lease<Serving>> {
    entry.slot.look(Holder::new(DEPLOYMENT, monotonic_ns()))
}

/// Has the version that serves make images of all rows that lack one. A row of
/// which it cannot is an error, unless losses are allowed: then it is left.
fn sweep_down(
    entry: &Entry,
    view: &Arc<View>,
    worker: &mut Worker,
    allow_loss: bool,
) -> Result<(), DeployError> {
    let mut sweep = Sweep::new(view);
    for _ in 0..PASSES_MAX {
        loop {
            let batch = match sweep.next_batch(BATCH_ROWS)? {
                Batch::Rows(rows) if rows.is_empty() => continue,
                Batch::Rows(rows) => rows,
                Batch::End(report) if report.complete || report.progress.left > 0 => return Ok(()),
                Batch::End(_) => break,
            };
            let Some(lease) = lease(entry) else { return Ok(()) };
            let id = lease.id().clone();
            let before = |error| DeployError::Before { version: Box::new(id), source: Box::new(error) };
            let progress = Progress::at(Party::Before, Hook::Convert);
            let job = worker.run(&progress, move || {
                let converted = enter(&lease, Hook::Convert, |old| Ok(convert(old, &mut sweep, &batch)?));
                (sweep, converted)
            });
            let (back, converted) = match job {
                Ok(done) => done,
                Err(overdue) => return Err(before(overdue.into())),
            };
            sweep = back;
            match converted {
                Ok(None) => {}
                Ok(Some(failed)) if allow_loss => {
                    tracing::warn!(error = %failed, "a row is lost on the way back")
                }
                Ok(Some(failed)) => return Err(before(failed.into())),
                Err(error) => return Err(before(error)),
            }
        }
    }
    Ok(())
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
