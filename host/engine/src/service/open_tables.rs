//! The tables that one version has open: what it may write, and what becomes of
//! that when the version is committed, gone back from or refused.
//!
//! A version opens tables while it is prepared and says which schemas it can turn
//! into which.

use super::{
    open_table::{Fit, OpenTable},
    plugin_tables::{Known, OpenError, Spec, Tables, lock},
};
use crate::{
    id::PluginName,
    table::{Decision, Limits, Table, TableError, View},
};
use replug_abi::{Durability, note::is_name};
use std::sync::{Arc, Mutex, PoisonError};

/// The tables that one version has open. While this lives, they may be written
/// to, from activation on.
#[derive(Debug)]
pub(crate) struct OpenTables {
    plugin: PluginName,
    tables: Arc<Tables>,
    // Boxes: the plugin keeps their addresses.
    open: Mutex<Opening>,
}

#[derive(Debug, Default)]
struct Opening {
    closed: bool,
    writing: Writing,
    // The plugin keeps the addresses of what is in these.
    tables: Vec<Arc<OpenTable>>,
}

/// Whether a version counts as a writer of its tables.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Writing {
    #[default]
    NotYet,
    Counts,
    /// It was refused: also when it is activated late.
    NoMore,
}

impl Opening {
    fn names(&self) -> impl Iterator<Item = &str> {
        self.tables.iter().map(|open| open.view.table().name())
    }
}

impl OpenTables {
    pub(crate) fn new(plugin: &PluginName, tables: &Arc<Tables>) -> Arc<Self> {
        Arc::new(OpenTables { plugin: plugin.clone(), tables: Arc::clone(tables), open: Mutex::default() })
    }

    /// Opens a table, or gives the one that was opened before. What is returned
    /// lives as long as this.
    pub(crate) fn open(&self, spec: &Spec<'_>) -> Result<Arc<OpenTable>, OpenError> {
        let table = || spec.name.to_owned();
        if !is_name(spec.name) {
            return Err(OpenError::Name { table: table() });
        }
        let is_step = |(from, to): &(u32, u32)| *from != 0 && *to != 0 && from.abs_diff(*to) == 1;
        let is_known = [Durability::MEMORY, Durability::PROCESS, Durability::DISK].contains(&spec.durability);
        if spec.schema == 0 || spec.schema == u32::MAX || !spec.steps.iter().all(is_step) || !is_known {
            return Err(OpenError::Spec { table: table() });
        }
        let mut opening = lock(&self.open);
        if opening.closed {
            return Err(OpenError::NotOpen { table: table() });
        }
        let known = opening.tables.iter().find(|open| open.view.table().name() == spec.name);
        if let Some(known) = known {
            let same = known.view.schema() == spec.schema;
            return if same { Ok(Arc::clone(known)) } else { Err(OpenError::Spec { table: table() }) };
        }
        let or_none = |max: u64| if max == 0 { u64::MAX } else { max };
        let limits = Limits { rows_max: or_none(spec.rows_max), bytes_max: or_none(spec.bytes_max) };
        let table = self.tables.find_or_make(&self.plugin, spec)?;
        let view = Arc::new(View::new(&table, spec.schema).with_limits(limits));
        let open = Arc::new(OpenTable { view, steps: spec.steps.to_vec(), durability: spec.durability });
        opening.tables.push(Arc::clone(&open));
        Ok(open)
    }

    /// The version is prepared: it opens no more tables.
    pub(crate) fn close(&self) {
        lock(&self.open).closed = true;
    }

    /// Those that are open.
    pub(crate) fn all(&self) -> Vec<Arc<OpenTable>> {
        lock(&self.open).tables.clone()
    }

    /// One of those that are open.
    pub(crate) fn find(&self, name: &str) -> Option<Arc<OpenTable>> {
        lock(&self.open).tables.iter().find(|open| open.view.table().name() == name).cloned()
    }

    /// Allows the version to write. From now on its tables are kept as it wants.
    /// Blocks on the disk, if they were not before.
    pub(crate) fn activate(&self) -> Result<(), OpenError> {
        self.count_as_writer(Writing::Counts);
        self.all().iter().try_for_each(|open| {
            self.tables.keep(&self.plugin, open.view.table().name(), open.durability)?;
            open.view.activate()?;
            Ok(())
        })
    }

    /// Allows it no longer: nothing of the version runs any more.
    pub(crate) fn leave(&self) {
        self.all().iter().for_each(|open| open.view.leave());
    }

    /// Takes back what the version wrote in later schemas than those of the
    /// version that is gone back to, and what it still writes in its last calls.
    /// Where that one does not have a table, it is the committed schema. What it
    /// wrote to tables that no version before it had stays: there is nothing that
    /// it hides.
    pub(crate) fn roll_back(&self, to: Option<&OpenTables>) -> Result<(), TableError> {
        self.take_back(to, |schema| schema != 0)
    }

    /// The same for a version that never served: nothing stays, tables that no
    /// other version has written to end with it, and what still activates it comes
    /// too late.
    pub(crate) fn undo(&self, to: Option<&OpenTables>) -> Result<(), TableError> {
        self.all().iter().for_each(|open| open.view.shut());
        self.count_as_writer(Writing::NoMore);
        self.take_back(to, |_| true)
    }

    /// Waits until its tables are on their disks as they are here.
    pub(crate) fn wait_for_records(&self) -> Result<(), TableError> {
        self.all().iter().map(|open| open.view.table().wait_for_record()).fold(Ok(()), Result::and)
    }

    fn count_as_writer(&self, writing: Writing) {
        let mut opening = lock(&self.open);
        match (opening.writing, writing) {
            (Writing::NotYet, Writing::Counts) => {
                self.tables.update(&self.plugin, opening.names(), |known| known.writers += 1);
            }
            (Writing::Counts, Writing::NoMore) => {
                let one_less = |known: &mut Known| known.writers = known.writers.saturating_sub(1);
                self.tables.update(&self.plugin, opening.names(), one_less);
            }
            (Writing::NotYet, Writing::NoMore) => {}
            _ => return,
        }
        opening.writing = writing;
    }

    /// Of all tables, also where the store of one has failed; the first error is
    /// returned.
    fn take_back(&self, to: Option<&OpenTables>, is_due: impl Fn(u32) -> bool) -> Result<(), TableError> {
        let take_back = |open: &Arc<OpenTable>| {
            let table = open.view.table();
            let theirs = to.and_then(|to| to.find(table.name())).map(|theirs| theirs.view.schema());
            let schema = theirs.unwrap_or_else(|| table.record().base);
            if is_due(schema) { table.roll_back(open.view.generation(), schema) } else { Ok(()) }
        };
        self.all().iter().map(take_back).fold(Ok(()), Result::and)
    }

    /// Makes the schemas of this version the ones that can be gone back to: in all
    /// of its tables, or in none.
    pub(crate) fn commit(&self) -> Result<(), TableError> {
        Table::commit_all(&self.with_schemas())
    }

    /// The same unless it is given up meanwhile. Tells whether they are, before what
    /// failed is taken back.
    pub(crate) fn commit_unless(&self, decision: &Decision, tell: impl FnOnce(Result<bool, TableError>)) {
        Table::commit_all_unless(&self.with_schemas(), decision, tell);
    }

    // Also where the schema is the committed one already: what is void then was not
    // before.
    fn with_schemas(&self) -> Vec<(Arc<Table>, u32)> {
        let of = |open: &Arc<OpenTable>| (Arc::clone(open.view.table()), open.view.schema());
        self.all().iter().map(of).collect()
    }

    /// The tables in which committing this version would change something, with its
    /// schema and the last generation that there is.
    pub(crate) fn uncommitted(&self) -> Vec<(String, u32, u32)> {
        let all = self.all();
        let due = all.iter().filter_map(|open| {
            let (table, schema) = (open.view.table(), open.view.schema());
            let record = table.record();
            let is_due = !record.is_committed(schema, record.generation);
            is_due.then(|| (table.name().to_owned(), schema, record.generation))
        });
        due.collect()
    }

    /// Whether their stores take changes, as far as is known.
    ///
    /// # Errors
    /// One has failed.
    pub(crate) fn are_sound(&self) -> Result<(), TableError> {
        self.all().iter().try_for_each(|open| open.view.table().is_sound())
    }

    /// Whether its schemas are the committed ones.
    pub(crate) fn is_committed(&self) -> bool {
        self.all().iter().all(|open| open.is_committed())
    }

    /// Whether in each table its schema is the committed one, or that of `next` is.
    pub(crate) fn is_committed_for(&self, next: &OpenTables) -> bool {
        let is_next = |name: &str| next.find(name).is_some_and(|next| next.is_committed());
        self.all().iter().all(|open| open.is_committed() || is_next(open.view.table().name()))
    }

    /// Whether another schema than its own is committed in one of its tables, and
    /// can be gone back to from each.
    pub(crate) fn has_way_back(&self) -> bool {
        let fits: Vec<Fit> = self.all().iter().map(|open| open.fit()).collect();
        fits.iter().any(|fit| *fit != Fit::Same) && !fits.contains(&Fit::OneWay)
    }
}

impl Drop for OpenTables {
    fn drop(&mut self) {
        let opening = self.open.get_mut().unwrap_or_else(PoisonError::into_inner);
        self.tables
            .update(&self.plugin, opening.names(), |known| known.users = known.users.saturating_sub(1));
    }
}
