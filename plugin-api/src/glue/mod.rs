//! What the export macro wires into a cdylib: the ABI functions behind the safe
//! traits. Not part of the public API; only [`export!`](crate::export) names it.

pub(crate) mod answer;
pub(crate) mod clock;
mod export;
mod fence;
mod forward;
mod instance;
pub mod ledger;
mod model;
#[cfg(feature = "async")]
pub(crate) mod outgoing;
#[cfg(feature = "async")]
mod pending;
mod rows;
mod service;
pub(crate) mod tables;
pub mod typed;
#[cfg(feature = "async")]
mod waker;

pub use export::{
    Exports, check_root_symbol, header, instance_row, interface_records, ledger_row, requirement_records,
    requirements, rows_row, service_row,
};
pub use instance::InstanceTable;
pub use ledger::LedgerTable;
pub use model::{Model, SnapshotModel, StatelessModel};
pub use rows::RowsTable;
pub use service::ServiceTable;
