//! Goes over the rows of a table in small steps and makes what the control says
//! of them true of their bytes.
//!
//! What needs no plugin is done in place: a void value gives way to its image,
//! an image that nobody needs is dropped, a row that a journal has not heard of
//! is told. What needs one is handed out, and comes back by
//! [`settle`](Sweep::settle): rows of an older schema, to be brought to that of
//! the committed version, and rows of a later one without a way back to it, of
//! which an image is wanted.
//!
//! # Why a pass is exact
//!
//! A pass belongs to one control; when that changes it begins anew. It looks at
//! each shard once, under its lock. A writer that had the lock before has left
//! its row to be seen. One that has it after decides by the pass's control (see
//! the [table's rule](super::core)), and writes no row that the pass is after:
//! it gives the images that this control asks for, and no void values, unless
//! it is one of the versions whose values are void or whose schema is before
//! the committed one. While such a version is at work, a pass that ends is not
//! [complete](Report::complete). A row that was written between being seen and
//! being swept is such a later write, and is left alone.
//!
//! No lock is held while a plugin converts, nor for more than one shard's rows.

use crate::table::control::Control;
use crate::table::core::{Swap, Table};
use crate::table::error::TableError;
use crate::table::journal::Ticket;
use crate::table::row::{Image, Row, RowRef};
use crate::table::shards::{END, SHARDS, next_shard, shards_before};
use crate::table::view::{VALUE_BYTES_MAX, View};
use std::sync::Arc;

/// Passes over a table, each in steps. Not stepping is pausing it.
#[derive(Debug)]
pub struct Sweep {
    view: Arc<View>,
    /// Whether rows are handed out.
    converts: bool,
    pass: Option<Pass>,
}

/// What a step gives.
#[derive(Debug)]
pub enum Batch {
    /// Rows to be converted and settled, perhaps none. The pass goes on.
    Rows(Vec<SweptRow>),
    /// The pass is over.
    End(Report),
}

/// A row that needs the plugin.
#[derive(Debug, Clone)]
pub struct SweptRow {
    control: Arc<Control>,
    row: Row,
    image_schema: u32,
}

impl SweptRow {
    /// The row; its value is to be converted to the schema of the sweep's view.
    pub fn row(&self) -> RowRef<'_> {
        self.row.parts()
    }

    /// The schema of the image that is wanted beside it, 0 for none.
    pub fn image_schema(&self) -> u32 {
        self.image_schema
    }
}

/// What a plugin made of a row.
#[derive(Debug, Clone, Copy, Default)]
pub struct Converted<'a> {
    /// The value in the schema of the sweep's view; none if the row has that
    /// schema, or cannot be brought to it. Not taken where an image is wanted.
    pub value: Option<&'a [u8]>,
    /// The image that was wanted; none if there is no way to it.
    pub image: Option<&'a [u8]>,
}

/// What became of a converted row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// It stands in the table.
    Done,
    /// It was written meanwhile, and is as it has to be.
    Moved,
    /// The control was changed meanwhile; the pass begins anew.
    Outdated,
    /// It lacks what was wanted, or is too large, and stays as it is.
    Left,
}

/// How far a pass is, and what it did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// Rows that were looked at.
    pub rows_done: u64,
    /// About how many are left.
    pub rows_left: u64,
    /// Shards that were gone through, of [`Progress::SHARDS`].
    pub shards_done: usize,
    /// Rows that the host put right.
    pub repaired: u64,
    /// Rows that the plugin converted.
    pub converted: u64,
    /// Rows that could not be converted.
    pub left: u64,
}

impl Progress {
    /// Shards of a table.
    pub const SHARDS: usize = SHARDS;
}

/// How a pass ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Report {
    /// What it did.
    pub progress: Progress,
    /// No row is left of the kinds that it was after, and no version at work
    /// writes any: rows before the committed schema, if that is the sweep's;
    /// rows after it that lack a way back, as far as they were written before
    /// the pass and the sweep's version can read them; void values; spare
    /// images; rows that a journal has not heard of. After a sweep by the
    /// committed version its steps from older schemas may go.
    pub complete: bool,
    /// Nothing had to be done.
    pub idle: bool,
}

#[derive(Debug)]
struct Pass {
    control: Arc<Control>,
    /// The place of the next shard.
    at: u64,
    /// Seen and not handed out yet.
    waiting: Vec<SweptRow>,
    /// Handed out and not settled yet.
    out: u64,
    /// The latest schema that was seen.
    newest: u32,
    /// Of its last write.
    ticket: Ticket,
    progress: Progress,
}

impl Sweep {
    /// A sweep whose rows are converted by the code of this view's version,
    /// which has to be active.
    pub fn new(view: &Arc<View>) -> Sweep {
        Sweep { view: Arc::clone(view), converts: true, pass: None }
    }

    /// A sweep that does what needs no plugin and hands out nothing: for a table
    /// with a journal that is to hear of rows before anything is committed.
    pub fn without_plugin(view: &Arc<View>) -> Sweep {
        Sweep { converts: false, ..Sweep::new(view) }
    }

    /// The view of the version whose code converts.
    pub fn view(&self) -> &Arc<View> {
        &self.view
    }

    /// Looks at some `rows_max` rows or one shard, whichever is more, and hands
    /// out `rows_max` at most.
    ///
    /// # Errors
    /// [`TableError::StoreFailed`]; [`TableError::NotActive`] if the view's
    /// version is not.
    pub fn next_batch(&mut self, rows_max: usize) -> Result<Batch, TableError> {
        let table = self.view.table();
        let control = Arc::clone(&table.control());
        if !control.is_writer(self.view.generation()) {
            return Err(table.not_active());
        }
        let same = self.pass.take().filter(|pass| Arc::ptr_eq(&pass.control, &control));
        let pass = self.pass.insert(same.unwrap_or_else(|| Pass::new(control)));
        let enough = pass.progress.rows_done + rows_max as u64;
        while pass.waiting.is_empty() && pass.at != END && pass.progress.rows_done < enough {
            if !pass.look(&self.view, self.converts)? {
                self.pass = None;
                return Ok(Batch::Rows(Vec::new()));
            }
        }
        if pass.at == END && pass.waiting.is_empty() {
            let ended = pass.end(&self.view)?;
            self.pass = None;
            return Ok(ended.map_or_else(|| Batch::Rows(Vec::new()), Batch::End));
        }
        let rest = pass.waiting.len().saturating_sub(rows_max.max(1));
        let rows = pass.waiting.split_off(rest);
        pass.out += rows.len() as u64;
        Ok(Batch::Rows(rows))
    }

    /// Puts a converted row in its place, unless something else is there by now.
    /// Rows that are not settled when the pass ends count as left.
    ///
    /// # Errors
    /// [`TableError::StoreFailed`]
    pub fn settle(&mut self, swept: &SweptRow, converted: &Converted<'_>) -> Result<Settled, TableError> {
        let mut durable = Ticket::NONE;
        let settled = match converted_row(swept, converted, &self.view) {
            None => Settled::Left,
            Some(new) => match self.view.table().swap(&swept.control, &swept.row, Some(new))? {
                Swap::Done(ticket) => {
                    durable = ticket;
                    Settled::Done
                }
                Swap::RowMoved => Settled::Moved,
                Swap::ControlMoved => Settled::Outdated,
            },
        };
        let same = self.pass.as_mut().filter(|pass| Arc::ptr_eq(&pass.control, &swept.control));
        if let Some(pass) = same {
            pass.ticket = pass.ticket.max(durable);
            pass.out = pass.out.saturating_sub(1);
            pass.progress.converted += u64::from(settled == Settled::Done);
            pass.progress.left += u64::from(settled == Settled::Left);
        }
        Ok(settled)
    }

    /// Waits until what the pass has written is as durable as the table promises,
    /// so that it never runs far ahead of a disk.
    ///
    /// # Errors
    /// [`TableError::StoreFailed`]
    pub fn wait(&self) -> Result<(), TableError> {
        self.pass.as_ref().map_or(Ok(()), |pass| self.view.table().wait(pass.ticket))
    }

    /// How far the pass is; nothing done when none is under way.
    pub fn progress(&self) -> Progress {
        let (rows, pass) = (self.view.size().rows, self.pass.as_ref());
        let Some(pass) = pass else { return Progress { rows_left: rows, ..Progress::default() } };
        let shards_done = shards_before(pass.at);
        // Rows are spread evenly over the shards.
        let ahead = u128::from(rows) * (SHARDS - shards_done) as u128 / SHARDS as u128;
        let rows_left = ahead as u64 + pass.waiting.len() as u64 + pass.out;
        Progress { rows_left, shards_done, ..pass.progress }
    }
}

impl Pass {
    fn new(control: Arc<Control>) -> Pass {
        let progress = Progress::default();
        Pass { control, at: 0, waiting: Vec::new(), out: 0, newest: 0, ticket: Ticket::NONE, progress }
    }

    /// Goes through one shard; false if the control has changed.
    fn look(&mut self, view: &View, converts: bool) -> Result<bool, TableError> {
        let (table, control) = (view.table(), Arc::clone(&self.control));
        let wanted = |row: &RowRef<'_>| if converts { wanted(&control, row, view.schema()) } else { None };
        let mut found = Vec::new();
        // Writers wait for what follows, and longer if this thread loses its core there:
        // it is to wait for no memory meanwhile, as it would for each of the rows.
        let addresses: Vec<_> = table.shards.read(self.at).rows().map(Row::address).collect();
        addresses.into_iter().for_each(Row::prefetch);
        {
            let shard = table.shards.hold(self.at);
            if !Arc::ptr_eq(&self.control, &table.control()) {
                return Ok(false);
            }
            for row in shard.rows() {
                self.progress.rows_done += 1;
                let effective = self.control.effective(row.parts());
                self.newest = effective.map_or(self.newest, |row| self.newest.max(row.schema));
                if needs_repair(&self.control, row) || effective.is_some_and(|row| wanted(&row).is_some()) {
                    found.push(row.clone());
                }
            }
        }
        for row in found {
            let Some(row) = self.repair(table, row)? else { continue };
            if let Some(image_schema) = wanted(&row.parts()) {
                self.waiting.push(SweptRow { control: Arc::clone(&self.control), row, image_schema });
            }
        }
        self.at = next_shard(self.at);
        Ok(true)
    }

    /// Does what needs no plugin. Returns the row as it stands then, if it does
    /// and nobody wrote it meanwhile.
    fn repair(&mut self, table: &Table, row: Row) -> Result<Option<Row>, TableError> {
        if !needs_repair(&self.control, &row) {
            return Ok(Some(row));
        }
        let kept = self.control.effective(row.parts()).map(|mut parts| {
            parts.image = parts.image.filter(|_| !self.control.has_spare_image(&parts));
            Row::new(&parts)
        });
        match table.swap(&self.control, &row, kept.clone())? {
            Swap::Done(ticket) => {
                self.ticket = self.ticket.max(ticket);
                self.progress.repaired += 1;
                Ok(kept)
            }
            // If the control has, the next step finds that out.
            Swap::RowMoved | Swap::ControlMoved => Ok(None),
        }
    }

    /// Ends the pass; none if the control has changed.
    fn end(&mut self, view: &View) -> Result<Option<Report>, TableError> {
        let table = view.table();
        self.progress.left += self.out;
        self.progress.shards_done = SHARDS;
        let forget = !self.control.record.voids.is_empty() && !self.control.has_void_writers();
        if forget || self.control.record.partial {
            let newest = self.newest;
            let same = table.change_if(&self.control, |control| {
                control.record.partial = false;
                if forget {
                    control.forget_voids(newest);
                }
            })?;
            if !same {
                return Ok(None);
            }
        }
        let committed = view.schema() == self.control.record.floor();
        let older_writers = committed && self.control.has_writers_before(view.schema());
        let complete = self.progress.left == 0 && !older_writers;
        let Progress { repaired, converted, left, .. } = self.progress;
        Ok(Some(Report { progress: self.progress, complete, idle: repaired + converted + left == 0 }))
    }
}

/// Whether the host has something to do to a row by itself.
fn needs_repair(control: &Control, row: &Row) -> bool {
    let parts = row.parts();
    control.record.partial || control.effective(parts) != Some(parts) || control.has_spare_image(&parts)
}

/// Whether the plugin has, whose version has this schema, and which image is
/// wanted then; 0 for none.
fn wanted(control: &Control, row: &RowRef<'_>, schema: u32) -> Option<u32> {
    let floor = control.record.floor();
    if floor != 0 && row.schema > floor {
        (row.schema <= schema && !control.has_way_back(row)).then_some(floor)
    } else {
        (schema == floor && row.schema < schema).then_some(0)
    }
}

/// The row that a plugin made, if it is all that was wanted.
fn converted_row(swept: &SweptRow, converted: &Converted<'_>, view: &View) -> Option<Row> {
    let before = swept.row();
    let mut parts = before;
    if swept.image_schema == 0 {
        (parts.value, parts.schema, parts.generation) = (converted.value?, view.schema(), view.generation());
    } else {
        // The value stays as it is, and whose it was: it is not brought up by a
        // version that may be gone back from.
        let bytes = converted.image?;
        parts.image = Some(Image { schema: swept.image_schema, bytes, fresh: true });
    }
    let bytes = parts.value.len().max(parts.image.map_or(0, |image| image.bytes.len()));
    (bytes <= VALUE_BYTES_MAX).then(|| Row::new(&parts))
}
