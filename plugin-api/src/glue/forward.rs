//! The plugin's log on its way to the host.
//!
//! The plugin has a copy of `tracing` of its own. This subscriber turns its
//! events into plain data: the host could not keep `'static` metadata of a
//! library that is going to be unmapped.

use crate::context;
use abi_stable::std_types::{RSlice, RStr};
use replug_abi::{HostContext, LogField, Part, Sink, Status};
use std::{
    ffi::c_void,
    fmt,
    panic::PanicHookInfo,
    ptr,
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};
use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    span,
    subscriber::Interest,
};

/// The host of the first instance: logs of a library are not told apart by
/// instance.
static HOST: OnceLock<HostContext> = OnceLock::new();

/// Sends this library's log lines and panics to the host from now on.
pub(crate) fn install(host: HostContext) {
    if HOST.set(host).is_ok() {
        // A second subscriber can only come from the author's own code, which
        // then wins on purpose.
        let _ = tracing::subscriber::set_global_default(Forward);
    }
}

/// Replaces the panic hook of the plugin's std: the default one would map the
/// debug files of the library (tens of MB) to print a backtrace.
pub(crate) fn quiet_panics() {
    std::panic::set_hook(Box::new(|info: &PanicHookInfo<'_>| {
        let Some(host) = HOST.get() else { return };
        let place = info.location().map(ToString::to_string).unwrap_or_default();
        let thread = std::thread::current();
        let fields = [
            LogField { name: RStr::from_str("location"), value: RStr::from_str(&place) },
            LogField {
                name: RStr::from_str("thread"),
                value: RStr::from_str(thread.name().unwrap_or("unnamed")),
            },
        ];
        let message = format!("panicked: {}", super::fence::text(info.payload()));
        context::log(host, 1, "panic", &message, &fields);
    }));
}

/// Where typed calls of this library say why they fail.
pub(crate) fn errors() -> Sink {
    // SAFETY: `error` asks for no context.
    unsafe { Sink::new(ptr::null_mut(), error) }
}

unsafe extern "C" fn error(_: *mut c_void, part: Part, text: RSlice<'_, u8>) -> Status {
    let Some(host) = HOST.get() else { return Status::REFUSED };
    let Some(error) = context::host_vtable(host).error() else { return Status::UNSUPPORTED };
    // SAFETY: the host keeps its context until this library is unmapped.
    unsafe { error(host.data, part, text) }
}

struct Forward;

impl Subscriber for Forward {
    /// Asked each time: the host may change its level while this library runs,
    /// and `always` or `never` would be remembered for each callsite.
    fn register_callsite(&self, _: &'static Metadata<'static>) -> Interest {
        Interest::sometimes()
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let Some(host) = HOST.get() else { return false };
        // SAFETY: the host keeps its context until this library is unmapped.
        let wanted = unsafe { context::host_vtable(host).log_level()(host.data) };
        number(*metadata.level()) <= wanted
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        // Spans are not forwarded; ids only have to be valid and distinct.
        static NEXT: AtomicU64 = AtomicU64::new(1);
        span::Id::from_u64(NEXT.fetch_add(1, Ordering::Relaxed))
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let Some(host) = HOST.get() else { return };
        let mut line = Line::default();
        event.record(&mut line);
        let fields: Vec<LogField<'_>> = line
            .fields
            .iter()
            .map(|(name, value)| LogField { name: RStr::from_str(name), value: RStr::from_str(value) })
            .collect();
        let metadata = event.metadata();
        context::log(host, number(*metadata.level()), metadata.target(), &line.message, &fields);
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

fn number(level: Level) -> u32 {
    match level {
        Level::ERROR => 1,
        Level::WARN => 2,
        Level::INFO => 3,
        Level::DEBUG => 4,
        _ => 5,
    }
}

#[derive(Default)]
struct Line {
    message: String,
    fields: Vec<(&'static str, String)>,
}

impl Visit for Line {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            self.message = value.to_owned();
        } else {
            self.fields.push((field.name(), value.to_owned()));
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.message = format!("{value:?}");
        } else {
            self.fields.push((field.name(), format!("{value:?}")));
        }
    }
}
