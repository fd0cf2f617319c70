//! The vtables of the host in memory.

use super::store::{Refused, Store, View};
use abi_stable::{
    prefix_type::WithMetadata,
    std_types::{RSlice, RSliceMut, RStr},
};
use replug_abi::{
    ForeignWaker, HostContext, HostVtable, LogRecord, Part, Pending, Request, RowInfo, RowWrite, Sink,
    Status, Table, TableSize, TableSpec, TablesVtable, Written, interface,
};
use std::ffi::c_void;

/// The host's side of an instance.
pub(super) fn host_context(store: &'static Store) -> HostContext {
    let vtable = HOST.static_as_prefix().to_raw_ptr().cast();
    HostContext { data: std::ptr::from_ref(store).cast(), vtable }
}

const HOST: &WithMetadata<HostVtable> =
    &WithMetadata::new(HostVtable { log, log_level, call, start, poll, cancel, current_chain, find, error });

const TABLES: &WithMetadata<TablesVtable> = &WithMetadata::new(TablesVtable {
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
    // Nobody ever waits here.
    offer: put,
});

unsafe extern "C" fn log(_: *const c_void, _: &LogRecord<'_>) {}

unsafe extern "C" fn log_level(_: *const c_void) -> u32 {
    0
}

unsafe extern "C" fn call(_: *const c_void, plugin: RStr<'_>, _: &Request<'_>, sink: &Sink) -> Status {
    let message = format!("no plugin {:?}: the host of a test has none", plugin.as_str());
    sink.error("call.unknown_plugin", &message, false);
    Status::REFUSED
}

unsafe extern "C" fn start(
    data: *const c_void,
    plugin: RStr<'_>,
    request: &Request<'_>,
    _: &mut Pending,
    sink: &Sink,
) -> Status {
    // SAFETY: as promised to this function.
    unsafe { call(data, plugin, request, sink) }
}

/// Only waits for a disk are ever pending, and there is none.
unsafe extern "C" fn poll(_: Pending, _: &ForeignWaker, _: &Sink) -> Status {
    Status::OK
}

unsafe extern "C" fn cancel(_: Pending) -> Status {
    Status::OK
}

unsafe extern "C" fn current_chain(_: *const c_void) -> u64 {
    0
}

unsafe extern "C" fn find(_: *const c_void, id: RStr<'_>) -> *const c_void {
    if id.as_str() == interface::TABLES {
        return TABLES.static_as_prefix().to_raw_ptr().cast();
    }
    std::ptr::null()
}

/// Typed calls are made by hosts, and this one makes none.
unsafe extern "C" fn error(_: *const c_void, _: Part, _: RSlice<'_, u8>) -> Status {
    Status::UNSUPPORTED
}

/// SAFETY: `host` came from [`host_context`].
unsafe extern "C" fn open(host: &HostContext, spec: &TableSpec<'_>, out: &mut Table, _: &Sink) -> Status {
    // SAFETY: a store is leaked when it is made.
    let store: &'static Store = unsafe { &*host.data.cast::<Store>() };
    // For tables, which live as long as they like.
    let view: &'static View = Box::leak(Box::new(View {
        store,
        rows: store.table(spec.name.as_str()),
        schema: spec.schema,
        durability: spec.durability,
        rows_max: spec.rows_max,
        bytes_max: spec.bytes_max,
    }));
    *out = Table(std::ptr::from_ref(view).cast());
    Status::OK
}

/// SAFETY: `table` came from [`open`].
unsafe fn view(table: Table) -> &'static View {
    // SAFETY: a view is leaked when it is made.
    unsafe { &*table.0.cast::<View>() }
}

/// SAFETY: `table` came from [`open`]; so for all that follow.
unsafe extern "C" fn image_schema(table: Table) -> u32 {
    // SAFETY: the caller's promise.
    unsafe { view(table) }.image_schema()
}

unsafe extern "C" fn get(
    table: Table,
    key: RSlice<'_, u8>,
    mut into: RSliceMut<'_, u8>,
    out: &mut RowInfo,
    sink: &Sink,
) -> Status {
    // SAFETY: the caller's promise.
    match unsafe { view(table) }.get(key.as_slice(), into.as_mut_slice()) {
        Ok(info) => {
            *out = info;
            Status::OK
        }
        Err(refused) => refuse(&refused, sink),
    }
}

unsafe extern "C" fn put(
    table: Table,
    key: RSlice<'_, u8>,
    row: &RowWrite<'_>,
    out: &mut Written,
    sink: &Sink,
) -> Status {
    // SAFETY: the caller's promise.
    answer(unsafe { view(table) }.put(key.as_slice(), row), out, sink)
}

unsafe extern "C" fn remove(
    table: Table,
    key: RSlice<'_, u8>,
    expected: u64,
    out: &mut Written,
    sink: &Sink,
) -> Status {
    // SAFETY: the caller's promise.
    answer(unsafe { view(table) }.remove(key.as_slice(), expected), out, sink)
}

unsafe extern "C" fn scan(table: Table, cursor: &mut u64, sink: &Sink) -> Status {
    // SAFETY: the caller's promise.
    let (rows, next) = unsafe { view(table) }.scan(*cursor);
    *cursor = next;
    sink.write(Part::BODY, &rows)
}

unsafe extern "C" fn size(table: Table) -> TableSize {
    // SAFETY: the caller's promise.
    unsafe { view(table) }.size()
}

unsafe extern "C" fn clear(table: Table, out: &mut Written, sink: &Sink) -> Status {
    // SAFETY: the caller's promise.
    answer(unsafe { view(table) }.clear(), out, sink)
}

unsafe extern "C" fn wait(_: Table, _: u64, _: &Sink) -> Status {
    Status::OK
}

/// Pending, though `poll` says at once that it is done: so futures are polled.
unsafe extern "C" fn start_wait(_: &HostContext, _: Table, _: u64, _: &mut Pending, _: &Sink) -> Status {
    Status::PENDING
}

fn answer(result: Result<Written, Refused>, out: &mut Written, sink: &Sink) -> Status {
    match result {
        Ok(written) => {
            *out = written;
            Status::OK
        }
        Err(refused) => {
            if let Refused::Conflict { revision } = refused {
                *out = Written { revision, ..Written::NOTHING };
            }
            refuse(&refused, sink)
        }
    }
}

fn refuse(refused: &Refused, sink: &Sink) -> Status {
    match refused {
        Refused::Conflict { .. } => Status::CONFLICT,
        Refused::Image => Status::IMAGE,
        Refused::Error(code, message) => {
            sink.error(code, message, false);
            Status::ERROR
        }
    }
}
