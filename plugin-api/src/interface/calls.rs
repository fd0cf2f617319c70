//! The caller's side of a typed call, which runs in the host: what the proxies
//! that the attribute writes are made of.
//!
//! All calls share one sink for errors, which keeps what a plugin says for the
//! thread that it says it on: a call that succeeds makes nothing for the case
//! that it does not, and looks at its status only.

use abi_stable::std_types::RSlice;
use replug_abi::{Fault, Instance, InterfaceVersion, Part, Sink, SliceSink, Status, TextSink, pushed};
use std::{cell::Cell, ffi::c_void, marker::PhantomData, mem::MaybeUninit, ptr};

/// Bytes of an error's code and message; the rest is cut off.
const TEXT_BYTES_MAX: usize = 64 * 1024;

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
pub unsafe fn value<R: Copy>(
    method: &'static str,
    call: impl FnOnce(*mut R, &Sink) -> Status,
) -> Result<R, Fault> {
    let mut out = MaybeUninit::<R>::uninit();
    let status = call(out.as_mut_ptr(), ERRORS);
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
    call: impl FnOnce(&SliceSink<T>, &Sink) -> Status,
) -> Result<Vec<T>, Fault> {
    let mut items = Items { items: Vec::new(), bytes_max, overflowed: false };
    // SAFETY: `items` outlives the sink and is not touched until `call` returns.
    let sink = unsafe { SliceSink::new((&raw mut items).cast(), append::<T>) };
    // SAFETY: there is no value to be written.
    let called = unsafe { value::<()>(method, |_, errors| call(&sink, errors)) };
    if items.overflowed {
        return Err(Fault::TooLarge { method, bytes_max });
    }
    called.map(|()| items.items)
}

/// An owned text.
#[inline]
pub fn text(
    method: &'static str,
    bytes_max: usize,
    call: impl FnOnce(&TextSink, &Sink) -> Status,
) -> Result<String, Fault> {
    let mut text = Items { items: Vec::new(), bytes_max, overflowed: false };
    // SAFETY: as in `items`.
    let sink = TextSink::new(unsafe { SliceSink::new((&raw mut text).cast(), append::<u8>) });
    // SAFETY: as in `items`.
    let called = unsafe { value::<()>(method, |_, errors| call(&sink, errors)) };
    if text.overflowed {
        return Err(Fault::TooLarge { method, bytes_max });
    }
    called?;
    String::from_utf8(text.items).map_err(|_| Fault::Broken { method, status: Status::OK })
}

/// The plugin is older than the method.
#[cold]
pub const fn missing(method: &'static str, since: InterfaceVersion) -> Fault {
    Fault::Missing { method, since }
}

/// The sink for errors of every call. A constant, whose address each caller knows
/// without asking the linker's table for it.
// SAFETY: `note` expects no context, and uses the memory of its own thread.
const ERRORS: &Sink = &unsafe { Sink::new(ptr::null_mut(), note) };

thread_local! {
    /// What the plugin said about the error of the call that is about to end on
    /// this thread.
    static WORDS: Cell<Option<Box<Words>>> = const { Cell::new(None) };
}

#[derive(Default)]
struct Words {
    code: String,
    message: String,
    retryable: bool,
}

/// Why a call has no result. It takes with it what was said last on this thread,
/// whatever its status is, so that nothing of it is told of a later call: a
/// function says an error right before it answers with one, and begins with the
/// code, which ends what was said before. A row made by hand that says an error
/// and then succeeds leaves its words to one that fails without any; to look for
/// them after each success would be in the way of every call.
#[cold]
#[inline(never)]
fn fault(method: &'static str, status: Status) -> Fault {
    // Without a word, and where thread-locals are gone already, texts are empty.
    let words = WORDS.try_with(Cell::take).ok().flatten();
    let Words { code, message, retryable } = words.map(|words| *words).unwrap_or_default();
    match status {
        Status::PANIC => Fault::Panicked { method, message },
        Status::ERROR => Fault::Refused { method, code, message, retryable },
        status => Fault::Broken { method, status },
    }
}

unsafe extern "C" fn note(_: *mut c_void, part: Part, data: RSlice<'_, u8>) -> Status {
    let text = || {
        let bytes = data.as_slice();
        String::from_utf8_lossy(&bytes[..bytes.len().min(TEXT_BYTES_MAX)]).into_owned()
    };
    let noted = WORDS.try_with(|cell| {
        // An error begins with its code: what was said before it is of another.
        let mut words = cell.take().filter(|_| part != Part::ERROR_CODE).unwrap_or_default();
        match part {
            Part::ERROR_CODE => words.code = text(),
            Part::ERROR_MESSAGE => words.message = text(),
            Part::ERROR_RETRYABLE => words.retryable = data.first() == Some(&1),
            _ => {}
        }
        cell.set(Some(words));
    });
    if noted.is_ok() { Status::OK } else { Status::REFUSED }
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

    fn answered(status: Status, say: impl FnOnce(&Sink)) -> Result<(), Fault> {
        // SAFETY: there is no value to be written.
        unsafe {
            value::<()>("method", |_, errors| {
                say(errors);
                status
            })
        }
    }

    #[test]
    fn words_go_with_the_call_that_failed_and_with_no_later_one() {
        let silent = Err(Fault::Panicked { method: "method", message: String::new() });
        let broken = answered(Status::DEADLINE, |errors| errors.error("early", "of another call", true));
        assert_eq!(broken, Err(Fault::Broken { method: "method", status: Status::DEADLINE }));
        assert_eq!(answered(Status::PANIC, |_| {}), silent, "whatever the status was");
        assert_eq!(answered(Status::OK, |errors| errors.error("early", "of another call", true)), Ok(()));
        let told = answered(Status::ERROR, |errors| errors.error("late", "of this one", true));
        let (code, message) = ("late".to_owned(), "of this one".to_owned());
        assert_eq!(told, Err(Fault::Refused { method: "method", code, message, retryable: true }));
        assert_eq!(answered(Status::PANIC, |_| {}), silent, "told once");
    }
}
