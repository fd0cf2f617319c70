//! The frozen ABI between a replug host and its plugins.
//!
//! Everything here is `repr(C)` and fixed from the first release on. It grows
//! in three ways only: functions are appended to a prefix vtable behind its
//! last prefix field, values are appended to [`Status`] and [`Part`], records
//! are appended to a request's chain of extensions. Package, type and field
//! names never change, because the layout check compares them.
//!
//! Rules that hold for every function: it returns a status and never unwinds;
//! bytes go in borrowed and come out through a [`Sink`] of the caller; no owned
//! allocation crosses; pointers are valid for the call unless it says longer.
//!
//! Plugin authors use `replug-plugin-api`, which has what they need of it: for a
//! typed interface of one's own, its module `interface`.

mod host;
mod instance;
mod ledger;
pub mod note;
mod request;
mod root;
mod service;
mod sink;
mod status;
mod tables;
mod typed;
pub mod words;

pub use host::{HostContext, HostVtable, HostVtableRef, LogField, LogRecord};
pub use instance::{Instance, InstanceVtable, InstanceVtableRef};
pub use ledger::{BlockVisitor, HeapUse, LedgerHost, LedgerVtable, LedgerVtableRef, ThreadStart};
pub use request::{Extension, Request};
pub use root::{Interface, InterfaceVersion, Requirement, Root, RootRef};
pub use service::{ForeignWaker, Pending, ServiceVtable, ServiceVtableRef};
pub use sink::{Part, Sink};
pub use status::Status;
pub use tables::{
    Durability, RowIn, RowInfo, RowStep, RowWrite, RowsVtable, RowsVtableRef, SCAN_END, ScannedRow, Table,
    TableSize, TableSpec, TablesVtable, TablesVtableRef, Written,
};
pub use typed::{Fault, FaultKind, SliceSink, TextSink, TypedInterface, pushed};

/// Ids and versions of the interfaces that this package defines.
pub mod interface {
    pub use crate::host::{ID as HOST, VERSION as HOST_VERSION};
    pub use crate::instance::{ID as INSTANCE, STEP_FAILED, VERSION as INSTANCE_VERSION};
    pub use crate::ledger::{ID as LEDGER, VERSION as LEDGER_VERSION};
    pub use crate::service::{ID as SERVICE, VERSION as SERVICE_VERSION};
    pub use crate::tables::{ID as TABLES, ROWS_ID as ROWS, ROWS_VERSION, VERSION as TABLES_VERSION};
}

/// The symbol that a host looks up: abi_stable's name for the root module of
/// its version.
pub use abi_stable::library::ROOT_MODULE_LOADER_NAME as ROOT_SYMBOL;
