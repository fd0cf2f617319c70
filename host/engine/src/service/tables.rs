//! `replug.tables`: the tables that the engine keeps for its plugins, as the
//! ABI has them.
//!
//! Each function turns what a plugin hands in into a question to a
//! [`View`], and its answer back. What a row may be read or written as is
//! decided there; when a version may write, by the pipeline.

use super::{
    open_table::OpenTable,
    plugin_context::{Work, context, guard},
    plugin_tables::Spec,
};
use crate::{
    failure::Failure,
    table::{NewImage, TableError, Ticket, View, Write, WriteOutcome},
};
use abi_stable::{
    prefix_type::WithMetadata,
    std_types::{RSlice, RSliceMut},
};
use replug_abi::{
    HostContext, Part, Pending, RowInfo, RowWrite, Sink, Status, Table, TableSize, TableSpec, TablesVtable,
    TablesVtableRef, Written,
};
use std::{ffi::c_void, sync::Arc};
use tokio::sync::oneshot;

const VALUE: WithMetadata<TablesVtable> = WithMetadata::new(TablesVtable {
    open,
    image_schema,
    get,
    put,
    remove,
    scan,
    size,
    clear,
    wait,
    start_wait,
    offer,
});
static STATIC: &WithMetadata<TablesVtable> = &VALUE;
static VTABLE: TablesVtableRef = TablesVtableRef(STATIC.static_as_prefix());

/// The vtable, as `find` gives it out.
pub(super) fn vtable() -> *const c_void {
    VTABLE.0.to_raw_ptr().cast()
}

/// SAFETY: `table` came from [`open`], and its plugin is loaded: what is behind
/// it is kept with the plugin's context.
unsafe fn view<'a>(table: Table) -> &'a View {
    // SAFETY: see above.
    unsafe { &*table.0.cast::<OpenTable>() }.view()
}

/// SAFETY: `host` is that of a plugin which is loaded; the rest is valid for the
/// call.
unsafe extern "C" fn open(host: &HostContext, spec: &TableSpec<'_>, out: &mut Table, sink: &Sink) -> Status {
    guard(Status::ERROR, || {
        // SAFETY: the caller's promise.
        let context = unsafe { context(host.data) };
        let steps: Vec<(u32, u32)> = spec.steps.iter().map(|step| (step.from, step.to)).collect();
        let spec = Spec {
            name: spec.name.as_str(),
            schema: spec.schema,
            steps: &steps,
            durability: spec.durability,
            rows_max: spec.rows_max,
            bytes_max: spec.bytes_max,
        };
        match context.tables().open(&spec) {
            Ok(open) => {
                // Kept by the context, which outlives the plugin.
                *out = Table(Arc::as_ptr(&open).cast());
                Status::OK
            }
            Err(error) => refuse(sink, &error),
        }
    })
}

/// SAFETY: as for [`view`].
unsafe extern "C" fn image_schema(table: Table) -> u32 {
    // SAFETY: the caller's promise.
    guard(RowWrite::NO_IMAGE, || unsafe { view(table) }.image_schema())
}

/// SAFETY: as for [`view`]; the rest is valid for the call.
unsafe extern "C" fn get(
    table: Table,
    key: RSlice<'_, u8>,
    mut into: RSliceMut<'_, u8>,
    out: &mut RowInfo,
    sink: &Sink,
) -> Status {
    guard(Status::ERROR, || {
        // SAFETY: the caller's promise.
        match unsafe { view(table) }.get(key.as_slice(), into.as_mut_slice()) {
            Ok(row) => {
                *out = row;
                Status::OK
            }
            Err(error) => refuse(sink, &error),
        }
    })
}

/// SAFETY: as for [`get`].
unsafe extern "C" fn put(
    table: Table,
    key: RSlice<'_, u8>,
    row: &RowWrite<'_>,
    out: &mut Written,
    sink: &Sink,
) -> Status {
    guard(Status::ERROR, || {
        // SAFETY: the caller's promise.
        answer(unsafe { view(table) }.put(key.as_slice(), &write_of(row)), out, sink)
    })
}

/// SAFETY: as for [`get`].
unsafe extern "C" fn offer(
    table: Table,
    key: RSlice<'_, u8>,
    row: &RowWrite<'_>,
    out: &mut Written,
    sink: &Sink,
) -> Status {
    guard(Status::ERROR, || {
        // SAFETY: the caller's promise.
        match unsafe { view(table) }.offer(key.as_slice(), &write_of(row)).transpose() {
            Some(outcome) => answer(outcome, out, sink),
            None => Status::OK,
        }
    })
}

fn write_of<'a>(row: &RowWrite<'a>) -> Write<'a> {
    let image = match row.image_schema {
        RowWrite::NO_IMAGE => NewImage::None,
        RowWrite::NO_WAY_BACK => NewImage::NoWayBack,
        schema => NewImage::Of { schema, bytes: row.image.as_slice() },
    };
    Write { value: row.value.as_slice(), image, expected: row.expected }
}

/// SAFETY: as for [`get`].
unsafe extern "C" fn remove(
    table: Table,
    key: RSlice<'_, u8>,
    expected: u64,
    out: &mut Written,
    sink: &Sink,
) -> Status {
    guard(Status::ERROR, || {
        // SAFETY: the caller's promise.
        answer(unsafe { view(table) }.remove(key.as_slice(), expected), out, sink)
    })
}

fn answer(outcome: Result<WriteOutcome, TableError>, out: &mut Written, sink: &Sink) -> Status {
    match outcome {
        Ok(WriteOutcome::Written(written)) => {
            *out = written;
            Status::OK
        }
        Ok(WriteOutcome::Conflict(there)) => {
            *out = there;
            Status::CONFLICT
        }
        Ok(WriteOutcome::Image) => Status::IMAGE,
        Err(error) => refuse(sink, &error),
    }
}

/// SAFETY: as for [`get`].
unsafe extern "C" fn scan(table: Table, cursor: &mut u64, sink: &Sink) -> Status {
    guard(Status::ERROR, || {
        let mut body = Vec::new();
        // SAFETY: the caller's promise.
        *cursor = unsafe { view(table) }.scan(*cursor, &mut body);
        sink.write(Part::BODY, &body)
    })
}

/// SAFETY: as for [`view`].
unsafe extern "C" fn size(table: Table) -> TableSize {
    // SAFETY: the caller's promise.
    guard(TableSize::default(), || unsafe { view(table) }.size())
}

/// SAFETY: as for [`get`].
unsafe extern "C" fn clear(table: Table, out: &mut Written, sink: &Sink) -> Status {
    guard(Status::ERROR, || {
        // SAFETY: the caller's promise.
        answer(unsafe { view(table) }.clear().map(WriteOutcome::Written), out, sink)
    })
}

/// SAFETY: as for [`get`].
unsafe extern "C" fn wait(table: Table, ticket: u64, sink: &Sink) -> Status {
    guard(Status::ERROR, || {
        // SAFETY: the caller's promise.
        unsafe { view(table) }.wait(ticket).map_or_else(|error| refuse(sink, &error), |()| Status::OK)
    })
}

/// SAFETY: `host` is that of a plugin which is loaded, and `table` one of its
/// tables; the rest is valid for the call.
unsafe extern "C" fn start_wait(
    host: &HostContext,
    table: Table,
    ticket: u64,
    out: &mut Pending,
    _: &Sink,
) -> Status {
    guard(Status::ERROR, || {
        let (done, durable) = oneshot::channel();
        // SAFETY: the caller's promise.
        let (context, view) = unsafe { (context(host.data), view(table)) };
        // Whoever waited may have gone away.
        view.table().when_durable(Ticket(ticket), move |result| drop(done.send(result)));
        *out = context.started(Work::Durable(durable));
        Status::PENDING
    })
}

fn refuse(sink: &Sink, error: &impl Failure) -> Status {
    sink.error(error.code().as_str(), &error.to_string(), false);
    Status::ERROR
}
