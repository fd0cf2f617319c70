//! The plugin's side of a typed call: what the adapters that the attribute
//! `interface` writes are made of.

use super::{answer, fence, forward, instance::Cell};
use crate::{Error, Plugin, Result};
use replug_abi::{Instance, Interface, SliceSink, Status, TextSink};
use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
};

/// The rows of typed interfaces that plugins of type `P` offer.
///
/// # Safety
/// The functions of the row's vtable take instances of `P`, and keep to what
/// their types say.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no interface that `{P}` offers",
    note = "the trait has the attribute `#[interface]`, and the plugin's type implements it"
)]
pub unsafe trait Provides<P> {
    /// The row of the root module.
    const ROW: Interface;
}

/// The plugin behind an instance, for functions of a row that is made by hand.
///
/// A panic of what is then called must not leave the function: catch it.
///
/// # Safety
/// `instance` is a live instance of `P`, as the first argument of a function is
/// that a host calls through a row of the export line of `P`.
pub unsafe fn plugin_of<P: Plugin>(instance: &Instance) -> &P {
    // SAFETY: the caller's promise.
    &unsafe { Cell::<P>::borrow(instance) }.plugin
}

/// A result by value goes to `out`.
///
/// # Safety
/// `instance` is a live instance of `P`, and `out` can be written to.
#[inline(always)]
pub unsafe fn value<'i, P: Plugin, R: Copy>(
    instance: &'i Instance,
    out: *mut R,
    body: impl FnOnce(&'i P) -> Result<R>,
) -> Status {
    fenced(|| {
        // SAFETY: the caller's promise.
        let cell = unsafe { Cell::<P>::borrow(instance) };
        match body(&cell.plugin) {
            Ok(result) => {
                // SAFETY: the caller's promise.
                unsafe { out.write(result) };
                Status::OK
            }
            Err(error) => failed(&error),
        }
    })
}

/// An owned list goes to `out`.
///
/// # Safety
/// `instance` is a live instance of `P`, and `out` a sink of this call, for
/// items that differ from `R` in lifetimes at most.
#[inline]
pub unsafe fn items<'i, P: Plugin, R: Copy>(
    instance: &'i Instance,
    out: *const SliceSink<R>,
    body: impl FnOnce(&'i P) -> Result<Vec<R>>,
) -> Status {
    fenced(|| {
        // SAFETY: the caller's promise.
        let (cell, out) = unsafe { (Cell::<P>::borrow(instance), &*out) };
        match body(&cell.plugin) {
            Ok(items) => out.push(&items),
            Err(error) => failed(&error),
        }
    })
}

/// An owned text goes to `out`.
///
/// # Safety
/// `instance` is a live instance of `P`.
#[inline]
pub unsafe fn text<'i, P: Plugin>(
    instance: &'i Instance,
    out: &TextSink,
    body: impl FnOnce(&'i P) -> Result<String>,
) -> Status {
    fenced(|| {
        // SAFETY: the caller's promise.
        let cell = unsafe { Cell::<P>::borrow(instance) };
        match body(&cell.plugin) {
            Ok(text) => out.push(&text),
            Err(error) => failed(&error),
        }
    })
}

/// As [`fence`](fence::fence) for functions without a sink: words go to the host.
#[inline(always)]
fn fenced(body: impl FnOnce() -> Status) -> Status {
    // Unwind safety: as there.
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(status) => status,
        Err(payload) => panicked(payload),
    }
}

#[cold]
#[inline(never)]
fn panicked(payload: Box<dyn Any + Send>) -> Status {
    fence::report(&forward::errors(), payload)
}

#[cold]
#[inline(never)]
fn failed(error: &Error) -> Status {
    answer::write_error(error, &forward::errors())
}
