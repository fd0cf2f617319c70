//! What the two sides of a typed interface share: which interface a type
//! stands for, where owned results go, and what can be wrong with a call.
//!
//! Implementations are written by `replug_plugin_api::interface`; a host
//! depends on this package only. Nothing here calls a plugin.

use crate::{Instance, InterfaceVersion, Status};
use abi_stable::StableAbi;
use std::{ffi::c_void, fmt, slice};

/// A typed interface. Implemented for `dyn Trait` by the attribute `interface`
/// of `replug_plugin_api::interface`.
///
/// # Safety
/// `Vtable` is the prefix reference of a vtable, one pointer, whose functions
/// keep to the rules of this package and treat their first argument as the
/// instance that they were offered with. Whatever `Proxy<'call>` gives out of
/// a plugin's memory lives no longer than `'call`.
pub unsafe trait TypedInterface: 'static {
    /// The interface's id, a dotted name.
    const ID: &'static str;
    /// The version that this side was built against.
    const VERSION: InterfaceVersion;
    /// The prefix reference of the vtable.
    type Vtable: StableAbi + Copy + Send + Sync + 'static;
    /// What a caller gets for the time of one call.
    type Proxy<'call>;

    /// What calls `instance` through `vtable`, as long as `'call`. An owned
    /// result may have `answer_bytes_max` bytes.
    ///
    /// # Safety
    /// `vtable` was offered for instances like this one, its layout was checked
    /// against that of `Vtable`, and both stay valid during `'call`.
    unsafe fn proxy<'call>(
        instance: Instance,
        vtable: Self::Vtable,
        answer_bytes_max: usize,
    ) -> Self::Proxy<'call>;
}

/// Where a callee writes an owned result that is a list of `T`.
///
/// Thread, validity and owner as of a [`Sink`](crate::Sink).
#[repr(C)]
#[derive(StableAbi)]
pub struct SliceSink<T> {
    // Handed back to `push`; opaque to the callee.
    context: *mut c_void,
    // Copies `count` items from `items` on. Never unwinds. A status other than
    // `OK` (a limit of the caller was reached) ends the answer.
    push: unsafe extern "C" fn(context: *mut c_void, items: *const T, count: usize) -> Status,
}

impl<T: Copy> SliceSink<T> {
    /// A sink that hands `context` and each piece of an answer to `push`.
    ///
    /// # Safety
    /// Until the sink is dropped, `push` may be called with `context` and as
    /// many items as stand where it is told, on this thread; it never unwinds.
    pub const unsafe fn new(
        context: *mut c_void,
        push: unsafe extern "C" fn(context: *mut c_void, items: *const T, count: usize) -> Status,
    ) -> Self {
        SliceSink { context, push }
    }

    /// Appends items to the answer.
    pub fn push(&self, items: &[T]) -> Status {
        // SAFETY: whoever made this sink promised it in `new`; a sink is neither
        // `Clone` nor `Send`, so this is its thread and its time.
        unsafe { (self.push)(self.context, items.as_ptr(), items.len()) }
    }
}

/// Where a callee writes an owned result that is text, UTF-8.
#[repr(transparent)]
#[derive(StableAbi)]
pub struct TextSink(SliceSink<u8>);

impl TextSink {
    /// A sink for text over one for bytes.
    pub const fn new(bytes: SliceSink<u8>) -> Self {
        TextSink(bytes)
    }

    /// Appends text to the answer.
    pub fn push(&self, text: &str) -> Status {
        self.0.push(text.as_bytes())
    }
}

/// The items that a [`SliceSink`] was given.
///
/// # Safety
/// `items` and `count` are those of one call of a sink's `push`, which has not
/// returned.
pub const unsafe fn pushed<'a, T>(items: *const T, count: usize) -> &'a [T] {
    // SAFETY: `SliceSink::push` took them from a slice.
    unsafe { slice::from_raw_parts(items, count) }
}

/// A method of a typed interface has no result; [`kind`](Self::kind) says why.
///
/// One pointer: a result costs as much as it is wide, and most have none of this.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault(Box<FaultKind>);

/// Why a method of a typed interface has no result. Names of methods are the
/// caller's own; texts are copies.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum FaultKind {
    /// The plugin panicked. The panic was caught on its side.
    Panicked {
        /// The method.
        method: &'static str,
        /// The panic's text.
        message: String,
    },
    /// The plugin answered with an error of its own.
    Refused {
        /// The method.
        method: &'static str,
        /// The plugin's code.
        code: String,
        /// The plugin's message.
        message: String,
        /// Whether the plugin says that the same call may succeed later.
        retryable: bool,
    },
    /// The plugin was built against an older minor, which lacks the method.
    Missing {
        /// The method.
        method: &'static str,
        /// The version that brought it.
        since: InterfaceVersion,
    },
    /// The result has more bytes than the host allows.
    TooLarge {
        /// The method.
        method: &'static str,
        /// The limit.
        bytes_max: usize,
    },
    /// The plugin broke the rules of the ABI: text that is not UTF-8, or a
    /// status that a typed call cannot have.
    Broken {
        /// The method.
        method: &'static str,
        /// What it answered.
        status: Status,
    },
}

impl Fault {
    /// Why there is no result.
    pub fn kind(&self) -> &FaultKind {
        &self.0
    }

    /// The same, to be kept.
    pub fn into_kind(self) -> FaultKind {
        *self.0
    }

    /// The method that has no result.
    pub fn method(&self) -> &'static str {
        self.0.method()
    }
}

impl From<FaultKind> for Fault {
    #[cold]
    fn from(kind: FaultKind) -> Self {
        Fault(Box::new(kind))
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FaultKind {
    /// The method that has no result.
    pub const fn method(&self) -> &'static str {
        match self {
            FaultKind::Panicked { method, .. }
            | FaultKind::Refused { method, .. }
            | FaultKind::Missing { method, .. }
            | FaultKind::TooLarge { method, .. }
            | FaultKind::Broken { method, .. } => method,
        }
    }
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FaultKind::Panicked { method, message } => write!(f, "{method} panicked: {message}"),
            FaultKind::Refused { method, code, message, .. } => write!(f, "{method}: {code}: {message}"),
            FaultKind::Missing { method, since } => {
                write!(f, "the plugin has no {method}, which is there since version {since}")
            }
            FaultKind::TooLarge { method, bytes_max } => {
                write!(f, "the result of {method} has more than {bytes_max} bytes")
            }
            FaultKind::Broken { method, status } if status.is_ok() => {
                write!(f, "the result of {method} is not UTF-8")
            }
            FaultKind::Broken { method, status } => write!(f, "{method} answered with {status}"),
        }
    }
}

impl std::error::Error for Fault {}
