//! The tables that an instance has open.

use super::{
    Inner, Key, Table, TableOptions,
    rows::{self, Convert},
};
use crate::{Error, Result, glue::tables::HostTable, state::State};
use abi_stable::std_types::{RSlice, RStr};
use replug_abi::{HostContext, RowStep, TableSpec};
use std::{
    collections::BTreeMap,
    marker::PhantomData,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::AtomicBool},
};

/// Their names, and what converts their rows: types are known to `open` only.
pub(crate) struct Opened {
    declared: bool,
    tables: Mutex<BTreeMap<String, Convert>>,
}

impl Opened {
    pub(crate) fn new(declared: bool) -> Self {
        Opened { declared, tables: Mutex::default() }
    }

    pub(crate) fn open<K: Key, V: State>(
        &self,
        host: HostContext,
        name: &str,
        options: TableOptions,
    ) -> Result<Table<K, V>> {
        if !self.declared {
            let message =
                format!("table {name:?}: the export line says nothing of tables; add `state = tables`");
            return Err(Error::new("table.not_declared", message));
        }
        let mut tables = self.lock();
        if tables.contains_key(name) {
            let message = format!("table {name:?} is open already; keep it, it can be cloned");
            return Err(Error::new("table.opened_twice", message));
        }
        let steps: Vec<_> =
            crate::state::steps::<V>().iter().map(|step| RowStep { from: step.from, to: step.to }).collect();
        let spec = TableSpec {
            name: RStr::from_str(name),
            schema: V::VERSION,
            steps: RSlice::from_slice(&steps),
            durability: options.durability.into_abi(),
            rows_max: options.rows_max,
            bytes_max: options.bytes_max,
        };
        let host = HostTable::open(host, &spec)?;
        tables.insert(name.to_owned(), rows::convert::<V>);
        Ok(Table {
            inner: Arc::new(Inner { host, name: name.to_owned(), is_sealed: AtomicBool::new(false) }),
            types: PhantomData,
        })
    }

    /// What converts the rows of a table that is open.
    pub(crate) fn converter(&self, table: &str) -> Option<Convert> {
        self.lock().get(table).copied()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Convert>> {
        // A host that panics in `open` leaves the map as it was.
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
