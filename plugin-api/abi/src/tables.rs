//! `replug.tables`: rows that live in the host, and `replug.rows`: what a
//! plugin does to a row of another schema.
//!
//! A host keeps bytes: it knows the schema version of each row and never looks
//! into one. Turning a row of one schema into another is the plugin's part, on
//! its side of every read and write, and in [`RowsVtable`] for rows that nobody
//! touches. The host sees to it that a version is given what it can read.
//!
//! A row can stand in two schemas at once: its value, in that of the version
//! that wrote it, and an image, in that of the committed version, which older
//! code reads. [`TablesVtable::image_schema`] says whether a write needs one.
//!
//! # Versions of `replug.tables`
//!
//! | version | adds |
//! |---|---|
//! | 1.0 | all functions |
//! | 1.1 | `offer` |

use crate::{HostContext, Instance, InterfaceVersion, Pending, Sink, Status};
use abi_stable::{
    StableAbi,
    std_types::{RSlice, RSliceMut, RStr},
};
use std::ffi::c_void;

/// The id of the host's interface, to be asked for with
/// [`HostVtable::find`](crate::HostVtable).
pub const ID: &str = "replug.tables";
/// The version of the host's interface.
pub const VERSION: InterfaceVersion = InterfaceVersion::new(1, 1, 0);
/// The id of the plugin's interface.
pub const ROWS_ID: &str = "replug.rows";
/// The version of the plugin's interface.
pub const ROWS_VERSION: InterfaceVersion = InterfaceVersion::new(1, 0, 0);

/// A table, as the version of a plugin that opened it sees it.
///
/// Valid until the library is unmapped, on any thread.
#[repr(transparent)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, StableAbi)]
pub struct Table(#[sabi(unsafe_opaque_field)] pub *const c_void);

// SAFETY: the host keeps behind it only what may be shared by threads.
unsafe impl Send for Table {}
// SAFETY: as above.
unsafe impl Sync for Table {}

impl Table {
    /// No table.
    pub const NULL: Table = Table(std::ptr::null());
}

/// When a write to a table is acknowledged.
///
/// A number, so that one that this build does not know can be refused.
#[repr(transparent)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, StableAbi)]
pub struct Durability(pub u32);

impl Durability {
    /// When it is in memory; rows end with the process.
    pub const MEMORY: Durability = Durability(0);
    /// When it survives the end of the process, whatever ends it.
    pub const PROCESS: Durability = Durability(1);
    /// When the disk has confirmed it: it survives a loss of power.
    pub const DISK: Durability = Durability(2);
}

/// One step that a version can make with rows of a table; the two differ by
/// one.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, StableAbi)]
pub struct RowStep {
    /// The schema that the row has.
    pub from: u32,
    /// The schema that it gets.
    pub to: u32,
}

/// What a version says of a table when it opens it.
#[repr(C)]
#[derive(Debug, Clone, Copy, StableAbi)]
pub struct TableSpec<'a> {
    /// The table's name among those of its plugin, by the rules of plugin names.
    pub name: RStr<'a>,
    /// The schema that the version reads and writes, from 1 up.
    pub schema: u32,
    /// The steps that it can make, up and down. It is not let in while there are
    /// older rows that these do not bring up to its schema.
    pub steps: RSlice<'a, RowStep>,
    /// The least that it asks for; an operator can ask for more.
    pub durability: Durability,
    /// Rows at most; 0 for the host's own limit.
    pub rows_max: u64,
    /// Bytes of keys, values and images at most; 0 for the host's own limit.
    pub bytes_max: u64,
}

/// What was read.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, StableAbi)]
pub struct RowInfo {
    /// The schema of the bytes; 0 when there is no such row. Never later than
    /// the reader's own.
    pub schema: u32,
    /// Changes with every write to the row; [`NO_ROW`](Self::NO_ROW) when there
    /// is none.
    pub revision: u64,
    /// Not 0: the bytes are an image, and the row's value is of a later schema.
    /// A reader that turns them into its own does not write that back.
    pub is_image: u32,
    /// How many bytes there are. When that is more than there was room for,
    /// nothing was copied.
    pub bytes: usize,
}

impl RowInfo {
    /// The revision of a row that is not there.
    pub const NO_ROW: u64 = 0;
    /// Nothing was found.
    pub const NONE: RowInfo = RowInfo { schema: 0, revision: Self::NO_ROW, is_image: 0, bytes: 0 };
}

/// A row to be written.
#[repr(C)]
#[derive(Debug, Clone, Copy, StableAbi)]
pub struct RowWrite<'a> {
    /// The value, in the schema of the writer.
    pub value: RSlice<'a, u8>,
    /// The image, in the schema `image_schema`.
    pub image: RSlice<'a, u8>,
    /// The schema of the image, [`NO_IMAGE`](Self::NO_IMAGE), or
    /// [`NO_WAY_BACK`](Self::NO_WAY_BACK).
    pub image_schema: u32,
    /// Only if the row has this revision; [`ANY`](Self::ANY) whatever it has.
    pub expected: u64,
}

impl RowWrite<'_> {
    /// None is needed, as [`TablesVtable::image_schema`] says.
    pub const NO_IMAGE: u32 = 0;
    /// One is needed and cannot be made: the version has no step down.
    pub const NO_WAY_BACK: u32 = u32::MAX;
    /// Whatever revision the row has.
    pub const ANY: u64 = u64::MAX;
}

/// What became of a write.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, StableAbi)]
pub struct Written {
    /// The row's revision now; [`RowInfo::NO_ROW`] after a removal, and when the
    /// write failed with [`Status::CONFLICT`] because there is no row.
    pub revision: u64,
    /// Not 0: the write is in memory, and not yet as durable as its table
    /// promises. [`TablesVtable::wait`] tells when it is.
    pub ticket: u64,
    /// Whether there was a row before.
    pub existed: u32,
}

impl Written {
    /// Nothing was written.
    pub const NOTHING: Written = Written { revision: RowInfo::NO_ROW, ticket: 0, existed: 0 };
}

/// How large a table is.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, StableAbi)]
pub struct TableSize {
    /// Rows.
    pub rows: u64,
    /// Bytes of keys, values and images.
    pub bytes: u64,
}

/// The vtable of the host's interface. Functions never unwind and never wait,
/// but for `wait`; none calls the plugin but through the sinks that it was
/// given. An error's code and message are in the sink.
///
/// Writes are refused until the version is being activated.
#[repr(C)]
#[derive(StableAbi)]
#[sabi(kind(Prefix(prefix_ref = TablesVtableRef, prefix_fields = TablesVtablePrefix)))]
pub struct TablesVtable {
    /// Opens a table for this version, which is possible during `prepare` only.
    pub open: unsafe extern "C" fn(
        host: &HostContext,
        spec: &TableSpec<'_>,
        out: &mut Table,
        sink: &Sink,
    ) -> Status,
    /// The schema that an image of every row written has to have, 0 if none is
    /// needed. It changes when a version is committed, or is to be gone back to;
    /// a write with another one is then answered with [`Status::IMAGE`].
    pub image_schema: unsafe extern "C" fn(table: Table) -> u32,
    /// Reads a row into `into`.
    pub get: unsafe extern "C" fn(
        table: Table,
        key: RSlice<'_, u8>,
        into: RSliceMut<'_, u8>,
        out: &mut RowInfo,
        sink: &Sink,
    ) -> Status,
    /// Writes a row. [`Status::CONFLICT`] when it has not the expected revision;
    /// `out` says which it has.
    pub put: unsafe extern "C" fn(
        table: Table,
        key: RSlice<'_, u8>,
        row: &RowWrite<'_>,
        out: &mut Written,
        sink: &Sink,
    ) -> Status,
    /// Removes a row, under the same condition as in [`RowWrite::expected`].
    pub remove: unsafe extern "C" fn(
        table: Table,
        key: RSlice<'_, u8>,
        expected: u64,
        out: &mut Written,
        sink: &Sink,
    ) -> Status,
    /// Writes some rows to the sink's body, one behind the other, each as
    /// [`ScannedRow`] has it. `cursor` is 0 at first and then what the call
    /// before left there; [`SCAN_END`] when there are no more.
    ///
    /// A row that is there for the whole scan is seen exactly once, in a state
    /// that it had during the scan. One that the version cannot read is among
    /// them, as [`ScannedRow::failure`] has it. The order says nothing.
    pub scan: unsafe extern "C" fn(table: Table, cursor: &mut u64, sink: &Sink) -> Status,
    /// How large the table is.
    pub size: unsafe extern "C" fn(table: Table) -> TableSize,
    /// Removes the rows that are there when it is called.
    pub clear: unsafe extern "C" fn(table: Table, out: &mut Written, sink: &Sink) -> Status,
    /// Waits until a write is as durable as its table promises.
    pub wait: unsafe extern "C" fn(table: Table, ticket: u64, sink: &Sink) -> Status,
    /// Starts to wait likewise. Statuses, `poll` and `cancel` as with `start` of
    /// the host's vtable.
    #[sabi(last_prefix_field)]
    pub start_wait: unsafe extern "C" fn(
        host: &HostContext,
        table: Table,
        ticket: u64,
        out: &mut Pending,
        sink: &Sink,
    ) -> Status,
    /// As `put`, for what a reader has converted and offers to keep, unless another thread
    /// is at work on the rows around it or in their store. Then nothing is written, `out`
    /// is left as it is, and the status is [`Status::OK`]: somebody else will convert the
    /// row.
    pub offer: unsafe extern "C" fn(
        table: Table,
        key: RSlice<'_, u8>,
        row: &RowWrite<'_>,
        out: &mut Written,
        sink: &Sink,
    ) -> Status,
}

/// The cursor behind the last row.
pub const SCAN_END: u64 = u64::MAX;

/// A row to be converted.
#[repr(C)]
#[derive(Debug, Clone, Copy, StableAbi)]
pub struct RowIn<'a> {
    /// The row's value.
    pub value: RSlice<'a, u8>,
    /// Its schema.
    pub schema: u32,
    /// The schema of the image that is wanted beside it, 0 for none.
    pub image_schema: u32,
}

/// The vtable of the plugin's interface, which plugins with tables offer.
/// Functions never unwind.
#[repr(C)]
#[derive(StableAbi)]
#[sabi(kind(Prefix(prefix_ref = RowsVtableRef, prefix_fields = RowsVtablePrefix)))]
pub struct RowsVtable {
    /// Turns a row of a table that the instance has open into the version's own
    /// schema, written to the sink's body, unless it has that already; and into
    /// the schema of the image, if one is wanted, written to [`Part::IMAGE`].
    /// [`Status::NO_STEP`] when either cannot be reached.
    ///
    /// Thread: any, beside calls.
    ///
    /// [`Part::IMAGE`]: crate::Part::IMAGE
    #[sabi(last_prefix_field)]
    pub convert:
        unsafe extern "C" fn(instance: Instance, table: RStr<'_>, row: &RowIn<'_>, sink: &Sink) -> Status,
}

/// A row in the answer to a scan.
///
/// ```
/// use replug_abi::ScannedRow;
///
/// let mut body = Vec::new();
/// ScannedRow { key: b"k", value: b"value", schema: 2, revision: 9 }.append_to(&mut body);
/// let (row, rest) = ScannedRow::read(&body).expect("just written");
/// assert_eq!((row.key, row.value, row.schema, row.revision), (&b"k"[..], &b"value"[..], 2, 9));
/// assert!(rest.is_empty());
/// assert!(ScannedRow::read(&body[..7]).is_none());
///
/// body.clear();
/// ScannedRow::append_failure(b"k", 9, "table.newer_row", "it has schema 3", &mut body);
/// let (row, _) = ScannedRow::read(&body).expect("just written");
/// assert_eq!((row.key, row.failure()), (&b"k"[..], Some(("table.newer_row", "it has schema 3"))));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScannedRow<'a> {
    /// The row's key.
    pub key: &'a [u8],
    /// Its value, or its image where the reader's schema is older.
    pub value: &'a [u8],
    /// The schema of the bytes; [`UNREADABLE`](Self::UNREADABLE) where they say why
    /// there are none.
    pub schema: u32,
    /// As in [`RowInfo::revision`].
    pub revision: u64,
}

impl<'a> ScannedRow<'a> {
    /// In the place of a schema, and none itself: the version cannot read the row.
    pub const UNREADABLE: u32 = 0;

    /// Appends a row that cannot be read, with a code and a message: these are its
    /// value, with a line feed between them.
    pub fn append_failure(key: &[u8], revision: u64, code: &str, message: &str, bytes: &mut Vec<u8>) {
        let value = [code, message].join("\n");
        let schema = Self::UNREADABLE;
        ScannedRow { key, value: value.as_bytes(), schema, revision }.append_to(bytes);
    }

    /// Code and message, if the row cannot be read.
    pub fn failure(&self) -> Option<(&'a str, &'a str)> {
        let text = (self.schema == Self::UNREADABLE).then(|| std::str::from_utf8(self.value))?;
        text.ok().and_then(|text| text.split_once('\n')).or(Some(("table.failed", "the host says no more")))
    }

    /// Appends the row: lengths of key and value, and schema, as `u32`, and the
    /// revision as `u64`, little-endian; then key and value.
    pub fn append_to(&self, bytes: &mut Vec<u8>) {
        // Lengths are bounded by the limits of a table, far below 4 GiB.
        bytes.extend_from_slice(&(self.key.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&(self.value.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&self.schema.to_le_bytes());
        bytes.extend_from_slice(&self.revision.to_le_bytes());
        bytes.extend_from_slice(self.key);
        bytes.extend_from_slice(self.value);
    }

    /// The first row of `bytes`, and what follows it; none if they are too few.
    pub fn read(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (key_len, bytes) = bytes.split_first_chunk()?;
        let (value_len, bytes) = bytes.split_first_chunk()?;
        let (schema, bytes) = bytes.split_first_chunk()?;
        let (revision, bytes) = bytes.split_first_chunk()?;
        let (key, bytes) = bytes.split_at_checked(u32::from_le_bytes(*key_len) as usize)?;
        let (value, rest) = bytes.split_at_checked(u32::from_le_bytes(*value_len) as usize)?;
        let (schema, revision) = (u32::from_le_bytes(*schema), u64::from_le_bytes(*revision));
        Some((ScannedRow { key, value, schema, revision }, rest))
    }
}
