//! Tables: rows that live in the host and outlive the versions of the plugin
//! that reads and writes them.
//!
//! A table keeps bytes. It knows the schema version of each row and never looks
//! into one; turning a row of one schema into another is the plugin's part. The
//! table sees to it that each version is given what it can read, that no write
//! is lost while two versions serve at once, and that going back costs nothing.
//!
//! # A row, two readings
//!
//! ```text
//! key -> value   in the schema of the version that wrote it
//!        image   the same in the committed schema, while the writer's is later
//! ```
//!
//! The schema of the committed version is the *base*. A version of a later
//! schema leaves an image beside each value that it writes, so that older code
//! reads the row at any time, and no code of a version that failed is ever
//! needed. A reader is given the value if its schema is not later than its own,
//! else the image.
//!
//! | step | what changes at once | what a [`Sweep`] does later |
//! |---|---|---|
//! | version 2 is activated | it writes, with images in 1 | |
//! | it is committed | base is 2: no images from now on | brings rows of 1 to 2, drops images |
//! | or it is rolled back | what its generation wrote in 2 is *void*: the images count | puts images in the place of values |
//! | back to 1 later | base is 1: version 2 leaves images again | has images made of all other rows |
//! | 1 is committed | what was written in 2 is void | as above |
//!
//! A removal leaves nothing to go back to: rows that a version removed are gone,
//! also when it is rolled back.
//!
//! Each step replaces one small record, whatever the number of rows. That it is
//! exact is owed to one rule, which the module `core` states and the module
//! `sweep` builds upon.
//!
//! # The modules, bottom up
//!
//! `block` (its memory), `row` (one row), `control` (which rows count), `journal` (durability, seen
//! from here), `error`, `usage` (counters and limits), `shards` (where rows
//! stand), `core` (the table), `commit` (several at once), `view` (reads and writes of a version), `scan`,
//! `restore`, `sweep`. Nothing here knows of plugins, hosts or files, or runs code that is
//! not the table's but for the journal's.

mod block;
mod row;
mod control;
mod journal;
mod error;
mod usage;
mod shards;
mod core;
mod commit;
mod view;
mod scan;
mod sample;
mod restore;
mod sweep;

#[cfg(test)]
mod tests;

pub(crate) use block::{give_back, is_prepared};
pub(crate) use commit::Decision;
pub use control::{Limits, Record, Void};
pub use core::{Census, Table};
pub use error::TableError;
pub use journal::{Change, Journal, JournalError, Ticket, WhenDurable};
pub use restore::Restore;
pub use row::{Image, ROW_OVERHEAD_BYTES, RowRef};
pub use sample::SampleRow;
pub use sweep::{Batch, Converted, Progress, Report, Settled, Sweep, SweptRow};
pub use view::{KEY_BYTES_MAX, NewImage, VALUE_BYTES_MAX, View, Write, WriteOutcome};
