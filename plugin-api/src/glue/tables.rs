//! A table of the host, behind safe functions: bytes in and out.
//!
//! Knows no types and converts nothing; errors are the host's own.

use super::answer::{Answer, outcome};
#[cfg(feature = "async")]
use super::outgoing::Outgoing;
use crate::{Error, Result, context::host_vtable};
use abi_stable::std_types::{RSlice, RSliceMut, RStr};
#[cfg(feature = "async")]
use replug_abi::Pending;
use replug_abi::{
    HostContext, RowInfo, RowWrite, Status, Table, TableSize, TableSpec, TablesVtableRef, Written, interface,
};
use std::ffi::c_void;

/// A table that this version of the plugin has open.
#[derive(Clone, Copy)]
pub(crate) struct HostTable {
    #[cfg_attr(not(feature = "async"), expect(dead_code, reason = "only a wait that is awaited needs it"))]
    host: HostContext,
    vtable: TablesVtableRef,
    table: Table,
}

/// What became of a write that the host did not refuse.
#[derive(Debug)]
pub(crate) enum Outcome {
    Done(Written),
    /// The row has another revision.
    Conflict,
    /// It needs an image of another schema.
    Image,
}

impl HostTable {
    /// Opens a table of a host that offers them: the plugin's root module asks
    /// for that.
    pub(crate) fn open(host: HostContext, spec: &TableSpec<'_>) -> Result<HostTable> {
        let Some(vtable) = tables_vtable(&host) else {
            return Err(Error::new("table.not_offered", "the host has no tables"));
        };
        let mut table = Table::NULL;
        // SAFETY: the host keeps its context and the vtable until this library
        // is unmapped; the spec, the place and the sink outlive the call.
        let (status, answer) = outcome(|sink| unsafe { vtable.open()(&host, spec, &mut table, sink) });
        done(status, answer).map(|()| HostTable { host, vtable, table })
    }

    /// The schema that an image of every row written has to have; 0 for none.
    #[inline]
    pub(crate) fn image_schema(&self) -> u32 {
        // SAFETY: the table was opened by this host, which keeps it and the
        // vtable until this library is unmapped.
        unsafe { self.vtable.image_schema()(self.table) }
    }

    /// Copies a row into `into` if it fits.
    #[inline]
    pub(crate) fn get(&self, key: &[u8], into: &mut [u8]) -> Result<RowInfo> {
        let mut info = RowInfo::NONE;
        let (key, into) = (RSlice::from_slice(key), RSliceMut::from_mut_slice(into));
        let (status, answer) =
            // SAFETY: as in `image_schema`; what is lent outlives the call.
            outcome(|sink| unsafe { self.vtable.get()(self.table, key, into, &mut info, sink) });
        done(status, answer).map(|()| info)
    }

    #[inline]
    pub(crate) fn put(&self, key: &[u8], row: &RowWrite<'_>) -> Result<Outcome> {
        let mut written = Written::NOTHING;
        let key = RSlice::from_slice(key);
        let (status, answer) =
            // SAFETY: as in `get`.
            outcome(|sink| unsafe { self.vtable.put()(self.table, key, row, &mut written, sink) });
        written_or(status, answer, written)
    }

    /// Writes a row that was converted to be read, if nobody is in the way.
    pub(crate) fn offer(&self, key: &[u8], row: &RowWrite<'_>) -> Result<Outcome> {
        // In a host that has let this plugin in it is there: see `requirements`.
        let Some(offer) = self.vtable.offer() else { return self.put(key, row) };
        let mut written = Written::NOTHING;
        let key = RSlice::from_slice(key);
        // SAFETY: as in `get`.
        let (status, answer) = outcome(|sink| unsafe { offer(self.table, key, row, &mut written, sink) });
        written_or(status, answer, written)
    }

    #[inline]
    pub(crate) fn remove(&self, key: &[u8], expected: u64) -> Result<Outcome> {
        let mut written = Written::NOTHING;
        let key = RSlice::from_slice(key);
        let (status, answer) =
            // SAFETY: as in `get`.
            outcome(|sink| unsafe { self.vtable.remove()(self.table, key, expected, &mut written, sink) });
        written_or(status, answer, written)
    }

    pub(crate) fn clear(&self) -> Result<Written> {
        let mut written = Written::NOTHING;
        // SAFETY: as in `get`.
        let (status, answer) = outcome(|sink| unsafe { self.vtable.clear()(self.table, &mut written, sink) });
        done(status, answer).map(|()| written)
    }

    /// Some rows, one behind the other.
    pub(crate) fn scan(&self, cursor: &mut u64) -> Result<Vec<u8>> {
        // SAFETY: as in `get`.
        let (status, answer) =
            Answer::collect(|sink| unsafe { self.vtable.scan()(self.table, cursor, sink) });
        if status.is_ok() { Ok(answer.into_body()) } else { Err(refusal(status, Some(Box::new(answer)))) }
    }

    pub(crate) fn size(&self) -> TableSize {
        // SAFETY: as in `image_schema`.
        unsafe { self.vtable.size()(self.table) }
    }

    /// Waits until a write is as durable as its table promises.
    pub(crate) fn wait(&self, ticket: u64) -> Result<()> {
        // SAFETY: as in `get`.
        let (status, answer) = outcome(|sink| unsafe { self.vtable.wait()(self.table, ticket, sink) });
        done(status, answer)
    }

    /// As [`wait`](Self::wait), without holding a thread.
    #[cfg(feature = "async")]
    pub(crate) async fn wait_async(&self, ticket: u64) -> Result<()> {
        // In a block of its own: the answer must not live across the await.
        let started = {
            let mut pending = Pending::NULL;
            let (status, answer) = outcome(|sink| {
                // SAFETY: as in `get`.
                unsafe { self.vtable.start_wait()(&self.host, self.table, ticket, &mut pending, sink) }
            });
            if status != Status::PENDING {
                return done(status, answer);
            }
            Outgoing::new(self.host, pending, "wait")
        };
        started.await.map(drop)
    }
}

fn tables_vtable(host: &HostContext) -> Option<TablesVtableRef> {
    let find = host_vtable(host).find()?;
    // SAFETY: as in `open`.
    let vtable = unsafe { find(host.data, RStr::from_str(interface::TABLES)) };
    // SAFETY: the host compared the layout of this type with its own, because
    // plugins that open tables ask for the interface in their root module; it
    // keeps the vtable until the library is unmapped.
    (!vtable.is_null()).then(|| unsafe { std::mem::transmute::<*const c_void, TablesVtableRef>(vtable) })
}

#[inline]
fn done(status: Status, answer: Option<Box<Answer>>) -> Result<()> {
    if status.is_ok() { Ok(()) } else { Err(refusal(status, answer)) }
}

#[inline]
fn written_or(status: Status, answer: Option<Box<Answer>>, written: Written) -> Result<Outcome> {
    match status {
        Status::OK => Ok(Outcome::Done(written)),
        Status::CONFLICT => Ok(Outcome::Conflict),
        Status::IMAGE => Ok(Outcome::Image),
        status => Err(refusal(status, answer)),
    }
}

#[cold]
fn refusal(status: Status, answer: Option<Box<Answer>>) -> Error {
    let answer = answer.map(|answer| *answer).unwrap_or_default();
    answer.into_error("table.failed", || status.to_string())
}
