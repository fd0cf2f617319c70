//! The plugin's view of its host.

#[cfg(feature = "async")]
use crate::glue::outgoing::Outgoing;
use crate::{
    Reply, Result,
    glue::answer::Answer,
    state::State,
    table::{Key, Opened, Table, TableOptions},
    tasks::{StopSignal, Tasks},
};
use abi_stable::std_types::{RSlice, RStr};
use replug_abi::{HostContext, HostVtableRef, LogField, LogRecord, Request};
#[cfg(feature = "async")]
use replug_abi::{Pending, Status};
use std::{ffi::c_void, sync::Arc, time::Duration};

/// The host, as one instance sees it. Cheap to clone; usable from any thread
/// of the plugin while its library is loaded.
///
/// There are two of a kind. The context that [`Plugin::prepare`] receives
/// stands for the plugin itself. That of a [`Call`](crate::Call) stands for the
/// call too: what is called through it has the caller's deadline, request id
/// and trace parent, so that one chain of calls ends in time and reads as one.
/// Work that goes on when the call is answered uses the first.
///
/// ```
/// use replug_plugin_api::prelude::*;
/// use std::time::Duration;
///
/// struct Page {
///     context: Context,
/// }
///
/// impl Plugin for Page {
///     type Config = ();
///
///     fn prepare((): (), context: &Context) -> Result<Self> {
///         Ok(Page { context: context.clone() })
///     }
///
///     fn methods(methods: &mut Methods<Self>) {
///         methods.method("page", "A rendered page", |_, call| {
///             // Ends when the caller's time is over.
///             call.context().call("markdown", "render", call.body())
///         });
///     }
///
///     fn activate(&self) -> Result<()> {
///         let context = self.context.clone();
///         self.context.spawn("page-refresh", move |stop: StopSignal| {
///             while !stop.wait(Duration::from_secs(60)) {
///                 if let Err(error) = context.call("cache", "refresh", b"") {
///                     replug_plugin_api::tracing::warn!(%error, "not refreshed");
///                 }
///             }
///         })
///     }
/// }
/// ```
///
/// [`Plugin::prepare`]: crate::Plugin::prepare
#[derive(Clone)]
pub struct Context {
    pub(crate) shared: Arc<Shared>,
    cause: Option<Arc<Cause>>,
}

pub(crate) struct Shared {
    host: HostContext,
    name: &'static str,
    version: &'static str,
    pub(crate) tasks: Tasks,
    pub(crate) tables: Opened,
    #[cfg(feature = "async")]
    pub(crate) runtime: crate::runtime::Runtime,
}

impl Shared {
    /// Asks all that runs for the instance to end, and waits for nothing.
    pub(crate) fn abandon(&self) {
        // Who has not ended yet is no news: nobody has waited.
        let _ = self.tasks.stop(Duration::ZERO);
        #[cfg(feature = "async")]
        self.runtime.stop(Duration::ZERO);
    }
}

/// What a call hands on to those that it causes.
#[derive(Default)]
pub(crate) struct Cause {
    /// The token of the chain that it belongs to; 0 for that of the thread.
    pub(crate) chain: u64,
    /// When its caller stops waiting, of `CLOCK_MONOTONIC`; 0 for never.
    pub(crate) deadline_ns: u64,
    pub(crate) request_id: String,
    pub(crate) trace_parent: String,
}

impl Context {
    pub(crate) fn new(
        host: HostContext,
        name: &'static str,
        version: &'static str,
        with_tables: bool,
    ) -> Self {
        let shared = Shared {
            host,
            name,
            version,
            tasks: Tasks::default(),
            tables: Opened::new(with_tables),
            #[cfg(feature = "async")]
            runtime: crate::runtime::Runtime::new(name),
        };
        Context { shared: Arc::new(shared), cause: None }
    }

    /// The plugin's own name.
    pub fn name(&self) -> &'static str {
        self.shared.name
    }

    /// The plugin's own version.
    pub fn version(&self) -> &'static str {
        self.shared.version
    }

    /// Calls a method of another plugin of the host, or of this one, and waits
    /// for the answer on this thread.
    ///
    /// Not for async methods: the thread that would wait is one of the few of
    /// the plugin's runtime, and when each waits for another async method of the
    /// plugin, all wait until their deadlines. There, await `call_async`.
    ///
    /// # Errors
    /// The other plugin's own error, or the host's: `call.unknown_plugin`,
    /// `call.unknown_method`, `call.depth` when plugins call each other without
    /// end, `gate.timeout` while the other hands its state over.
    pub fn call(&self, plugin: &str, method: &str, body: &[u8]) -> Result<Reply> {
        let request = self.request(method, body);
        let (status, answer) = Answer::collect(|sink| {
            // SAFETY: the host keeps its context and the vtable until this
            // library is unmapped; request and sink outlive the call.
            unsafe { self.vtable().call()(self.shared.host.data, RStr::from_str(plugin), &request, sink) }
        });
        answer.into_result(status, method)
    }

    /// As [`call`](Context::call), without holding a thread.
    ///
    /// The host wakes whoever polls the future, on any of its threads. An
    /// executor of one's own sees to it that its waker returns soon and takes no
    /// lock that is held across a call of the host: one that blocks holds up
    /// every plugin. Those of tokio, which the SDK's runtime is, do.
    ///
    /// # Errors
    /// As [`call`](Context::call). Dropping the future cancels the call.
    #[cfg(feature = "async")]
    pub async fn call_async(&self, plugin: &str, method: &str, body: &[u8]) -> Result<Reply> {
        // In a block of its own: the request must not live across the await.
        let started = {
            let request = self.request(method, body);
            let mut pending = Pending::NULL;
            let (status, answer) = Answer::collect(|sink| {
                // SAFETY: as in `call`; the host copies what must outlive it.
                unsafe {
                    self.vtable().start()(
                        self.shared.host.data,
                        RStr::from_str(plugin),
                        &request,
                        &mut pending,
                        sink,
                    )
                }
            });
            if status != Status::PENDING {
                return answer.into_result(status, method);
            }
            Outgoing::new(self.shared.host, pending, method)
        };
        started.await
    }

    /// Opens a table of the plugin, which the host keeps, with rows of type `V`.
    /// Only while [`Plugin::prepare`] runs, and once each: a [`Table`] is cheap
    /// to clone. The export line has `state = tables`.
    ///
    /// A name is one of lower-case letters, digits, `-`, `_` and `.`.
    ///
    /// [`Plugin::prepare`]: crate::Plugin::prepare
    ///
    /// # Errors
    /// `table.not_declared` without that in the export line,
    /// `table.opened_twice`, and the host's: `table.not_open` at another time,
    /// `table.name`, `table.schema`.
    pub fn table<K: Key, V: State>(&self, name: &str) -> Result<Table<K, V>> {
        self.table_with(name, TableOptions::new())
    }

    /// As [`table`](Context::table), with limits, or kept on disk.
    ///
    /// # Errors
    /// As [`table`](Context::table).
    pub fn table_with<K: Key, V: State>(&self, name: &str, options: TableOptions) -> Result<Table<K, V>> {
        self.shared.tables.open(self.shared.host, name, options)
    }

    /// Runs a thread that the host stops and waits for before it unloads the
    /// plugin. The closure returns soon after the signal says stop.
    ///
    /// # Errors
    /// `spawn.failed` when the system cannot start another thread or the name
    /// has a NUL in it, `spawn.stopping` when the instance is stopping already.
    pub fn spawn<F>(&self, name: &str, body: F) -> Result<()>
    where
        F: FnOnce(StopSignal) + Send + 'static,
    {
        self.shared.tasks.spawn(name, body)
    }

    /// The same host for what a call causes.
    pub(crate) fn caused_by(&self, cause: Cause) -> Context {
        Context { shared: Arc::clone(&self.shared), cause: Some(Arc::new(cause)) }
    }

    pub(crate) fn cause(&self) -> Option<&Cause> {
        self.cause.as_deref()
    }

    fn request<'a>(&'a self, method: &'a str, body: &'a [u8]) -> Request<'a> {
        let mut request = Request::new(method, body);
        if let Some(cause) = self.cause() {
            request.chain = cause.chain;
            request.deadline_ns = cause.deadline_ns;
            request.request_id = RStr::from_str(&cause.request_id);
            request.trace_parent = RStr::from_str(&cause.trace_parent);
        }
        request
    }

    pub(crate) fn current_chain(&self) -> u64 {
        // SAFETY: as in `call`.
        unsafe { self.vtable().current_chain()(self.shared.host.data) }
    }

    pub(crate) fn vtable(&self) -> HostVtableRef {
        host_vtable(&self.shared.host)
    }
}

/// The host's vtable behind its erased pointer.
pub(crate) fn host_vtable(host: &HostContext) -> HostVtableRef {
    // SAFETY: the host checked the layout of this type against its own before
    // it called the plugin, and keeps the vtable until the library is unmapped.
    unsafe { std::mem::transmute::<*const c_void, HostVtableRef>(host.vtable) }
}

/// Writes one line to the host's log.
pub(crate) fn log(host: &HostContext, level: u32, target: &str, message: &str, fields: &[LogField<'_>]) {
    let record = LogRecord {
        level,
        target: RStr::from_str(target),
        message: RStr::from_str(message),
        fields: RSlice::from_slice(fields),
    };
    // SAFETY: the host keeps `host` valid until the library is unmapped; the
    // record is borrowed for the call only.
    unsafe { host_vtable(host).log()(host.data, &record) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Call;
    use abi_stable::prefix_type::WithMetadata;
    use replug_abi::{ForeignWaker, HostVtable, Part, Pending, Sink, Status};
    use std::sync::Mutex;

    /// What a host got to see of a request.
    #[derive(Debug, Default, PartialEq)]
    struct Seen {
        chain: u64,
        deadline_ns: u64,
        request_id: String,
        trace_parent: String,
    }

    const VTABLE: &WithMetadata<HostVtable> = &WithMetadata::new(HostVtable {
        log,
        log_level,
        call,
        start,
        poll,
        cancel,
        current_chain,
        find,
        error,
    });

    fn context(seen: &'static Mutex<Vec<Seen>>) -> Context {
        let vtable = VTABLE.static_as_prefix().to_raw_ptr().cast();
        Context::new(HostContext { data: std::ptr::from_ref(seen).cast(), vtable }, "test", "1.0.0", false)
    }

    unsafe extern "C" fn log(_: *const c_void, _: &LogRecord<'_>) {}

    unsafe extern "C" fn log_level(_: *const c_void) -> u32 {
        0
    }

    unsafe extern "C" fn call(
        data: *const c_void,
        _: RStr<'_>,
        request: &Request<'_>,
        sink: &Sink,
    ) -> Status {
        // SAFETY: `context` made it of a static.
        let seen = unsafe { &*data.cast::<Mutex<Vec<Seen>>>() };
        seen.lock().expect("no test panics inside").push(Seen {
            chain: request.chain,
            deadline_ns: request.deadline_ns,
            request_id: request.request_id.as_str().to_owned(),
            trace_parent: request.trace_parent.as_str().to_owned(),
        });
        sink.write(Part::BODY, b"answer")
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

    unsafe extern "C" fn poll(_: Pending, _: &ForeignWaker, _: &Sink) -> Status {
        Status::UNSUPPORTED
    }

    unsafe extern "C" fn cancel(_: Pending) -> Status {
        Status::UNSUPPORTED
    }
    unsafe extern "C" fn current_chain(_: *const c_void) -> u64 {
        77
    }
    unsafe extern "C" fn find(_: *const c_void, _: RStr<'_>) -> *const c_void {
        std::ptr::null()
    }
    unsafe extern "C" fn error(_: *const c_void, _: Part, _: RSlice<'_, u8>) -> Status {
        Status::UNSUPPORTED
    }

    /// They were dropped: nested calls had no deadline, and traces broke.
    #[test]
    fn calls_that_a_call_causes_have_its_deadline_and_its_ids() {
        static SEEN: Mutex<Vec<Seen>> = Mutex::new(Vec::new());
        let instance = context(&SEEN);
        let mut request = Request::new("outer", b"");
        request.deadline_ns = u64::MAX;
        request.request_id = RStr::from_str("r-1");
        request.trace_parent = RStr::from_str("00-1-2-01");
        let outer = Call::new(&request, &instance);
        let owned = outer.to_owned();
        for context in [outer.context(), owned.context(), &instance] {
            let answer = context.call("other", "inner", b"").expect("is answered");
            assert_eq!(answer.body(), b"answer");
        }
        let expected = |chain| Seen {
            chain,
            deadline_ns: u64::MAX,
            request_id: "r-1".to_owned(),
            trace_parent: "00-1-2-01".to_owned(),
        };
        // On its own thread the host knows the chain; elsewhere the token does.
        assert_eq!(*SEEN.lock().expect("nobody panics"), [expected(0), expected(77), Seen::default()]);
        assert_eq!((owned.request_id(), owned.trace_parent()), ("r-1", "00-1-2-01"));
        assert!(owned.time_left().is_some_and(|left| left > Duration::from_secs(1)));
    }

    #[derive(serde::Serialize, serde::Deserialize)]
    struct Row;

    impl State for Row {
        const VERSION: u32 = 1;
        const PREVIOUS: Option<crate::state::Link> = None;
    }

    #[test]
    fn tables_of_which_the_export_line_says_nothing_are_not_opened() {
        static SEEN: Mutex<Vec<Seen>> = Mutex::new(Vec::new());
        let refused = context(&SEEN).table::<u64, Row>("rows").expect_err("must be refused");
        assert_eq!(refused.code(), "table.not_declared");
        assert!(refused.message().contains("add `state = tables`"), "{refused}");
    }
}
