//! The caller's side of a typed call, which runs in the host: what the proxies
//! that the attribute writes are made of.
//!
//! What a plugin says of an error comes by way of the host, which notes it for the
//! thread: a call that succeeds makes nothing for the case that it does not, and
//! looks at its status only.

use replug_abi::{
    Fault, FaultKind, Instance, InterfaceVersion, SliceSink, Status, TextSink, pushed,
    words::{self, Words},
};
use std::{ffi::c_void, marker::PhantomData, mem::MaybeUninit};

/// The instance that a proxy calls, and through what, for the time of one call.
#[derive(Clone, Copy)]
pub struct Callee<'call, V> {
    instance: Instance,
    vtable: V,
    answer_bytes_max: usize,
    // Not `Send`: the version is in use by this thread.
    call: PhantomData<(&'call (), *const ())>,
}

impl<V: Copy> Callee<'_, V> {
    /// # Safety
    /// `vtable` was offered for instances like this one, and both stay valid
    /// during the lifetime.
    #[inline(always)]
    pub const unsafe fn new(instance: Instance, vtable: V, answer_bytes_max: usize) -> Self {
        Callee { instance, vtable, answer_bytes_max, call: PhantomData }
    }

    /// The vtable.
    #[inline(always)]
    pub const fn vtable(&self) -> V {
        self.vtable
    }

    /// The first argument of its functions.
    #[inline(always)]
    pub const fn instance(&self) -> Instance {
        self.instance
    }

    /// Bytes of an owned result.
    #[inline(always)]
    pub const fn answer_bytes_max(&self) -> usize {
        self.answer_bytes_max
    }
}

/// A result by value.
///
/// # Safety
/// When `call` returns [`Status::OK`] it has written an `R`.
#[inline(always)]
pub unsafe fn value<R: Copy>(method: &'static str, call: impl FnOnce(*mut R) -> Status) -> Result<R, Fault> {
    let mut out = MaybeUninit::<R>::uninit();
    let status = call(out.as_mut_ptr());
    if !status.is_ok() {
        return Err(fault(method, status));
    }
    // SAFETY: the status is that of success, and the caller's promise.
    Ok(unsafe { out.assume_init() })
}

/// An owned list.
#[inline]
pub fn items<T: Copy>(
    method: &'static str,
    bytes_max: usize,
    call: impl FnOnce(&SliceSink<T>) -> Status,
) -> Result<Vec<T>, Fault> {
    let mut items = Items { items: Vec::new(), bytes_max, overflowed: false };
    // SAFETY: `items` outlives the sink and is not touched until `call` returns.
    let sink = unsafe { SliceSink::new((&raw mut items).cast(), append::<T>) };
    // SAFETY: there is no value to be written.
    let called = unsafe { value::<()>(method, |_| call(&sink)) };
    if items.overflowed {
        return Err(FaultKind::TooLarge { method, bytes_max }.into());
    }
    called.map(|()| items.items)
}

/// An owned text.
#[inline]
pub fn text(
    method: &'static str,
    bytes_max: usize,
    call: impl FnOnce(&TextSink) -> Status,
) -> Result<String, Fault> {
    let mut text = Items { items: Vec::new(), bytes_max, overflowed: false };
    // SAFETY: as in `items`.
    let sink = TextSink::new(unsafe { SliceSink::new((&raw mut text).cast(), append::<u8>) });
    // SAFETY: as in `items`.
    let called = unsafe { value::<()>(method, |_| call(&sink)) };
    if text.overflowed {
        return Err(FaultKind::TooLarge { method, bytes_max }.into());
    }
    called?;
    String::from_utf8(text.items).map_err(|_| FaultKind::Broken { method, status: Status::OK }.into())
}

/// The plugin is older than the method.
#[cold]
pub fn missing(method: &'static str, since: InterfaceVersion) -> Fault {
    FaultKind::Missing { method, since }.into()
}

/// Why a call has no result. It takes with it what was said last on this thread,
/// whatever its status is, so that nothing of it is told of a later call: a
/// function says an error right before it answers with one, and begins with the
/// code, which ends what was said before.
#[cold]
#[inline(never)]
fn fault(method: &'static str, status: Status) -> Fault {
    let Words { code, message, retryable } = words::take();
    let kind = match status {
        Status::PANIC => FaultKind::Panicked { method, message },
        Status::ERROR => FaultKind::Refused { method, code, message, retryable },
        status => FaultKind::Broken { method, status },
    };
    kind.into()
}

/// An owned result as far as it has come.
struct Items<T> {
    items: Vec<T>,
    bytes_max: usize,
    overflowed: bool,
}

/// SAFETY: `context` is the `Items<T>` of [`items`] or [`text`], which is alive
/// and otherwise untouched while its sink is in use, on the thread of the call;
/// `count` items stand from `new` on.
unsafe extern "C" fn append<T: Copy>(context: *mut c_void, new: *const T, count: usize) -> Status {
    // SAFETY: see above.
    let (items, new) = unsafe { (&mut *context.cast::<Items<T>>(), pushed(new, count)) };
    let left = items.bytes_max.saturating_sub(size_of_val(items.items.as_slice()));
    if size_of_val(new) > left {
        items.overflowed = true;
        return Status::REFUSED;
    }
    items.items.extend_from_slice(new);
    Status::OK
}

#[cfg(test)]
mod tests {
    use super::*;
    use replug_abi::Part;

    fn answered(status: Status, say: impl FnOnce()) -> Result<(), Fault> {
        // SAFETY: there is no value to be written.
        unsafe {
            value::<()>("method", |_| {
                say();
                status
            })
        }
    }

    fn error(code: &str, message: &str) {
        let parts: [(Part, &[u8]); 3] = [
            (Part::ERROR_CODE, code.as_bytes()),
            (Part::ERROR_MESSAGE, message.as_bytes()),
            (Part::ERROR_RETRYABLE, &[1]),
        ];
        assert!(parts.iter().all(|(part, data)| words::note(*part, data).is_ok()));
    }

    #[test]
    fn words_go_with_the_call_that_failed_and_with_no_later_one() {
        let silent = Err(FaultKind::Panicked { method: "method", message: String::new() }.into());
        let broken = answered(Status::DEADLINE, || error("early", "of another call"));
        assert_eq!(broken, Err(FaultKind::Broken { method: "method", status: Status::DEADLINE }.into()));
        assert_eq!(answered(Status::PANIC, || {}), silent, "whatever the status was");
        assert_eq!(answered(Status::OK, || error("early", "of another call")), Ok(()));
        let told = answered(Status::ERROR, || error("late", "of this one"));
        let (code, message) = ("late".to_owned(), "of this one".to_owned());
        assert_eq!(told, Err(FaultKind::Refused { method: "method", code, message, retryable: true }.into()));
        assert_eq!(answered(Status::PANIC, || {}), silent, "told once");
    }
}
