//! Which values may cross between a host and a plugin.

use abi_stable::std_types::{ROption, RSlice, RStr, Tuple1, Tuple2, Tuple3, Tuple4};

/// A value that owns nothing and points to nothing that outlives `'call`.
///
/// Arguments and results of a typed [`interface`](crate::interface) are such
/// values: what a plugin hands out may point into its memory, which can be
/// unmapped after the call, so that nothing of it may be kept. Derive it, beside
/// `StableAbi`, for `repr(C)` structs and enums whose fields are portable; they
/// have at most one lifetime, that of what they borrow.
///
/// ```
/// use abi_stable::{StableAbi, std_types::RStr};
/// use replug_plugin_api::interface::Portable;
///
/// #[repr(C)]
/// #[derive(Clone, Copy, StableAbi, Portable)]
/// pub struct Field<'a> {
///     pub key: RStr<'a>,
///     pub value: RStr<'a>,
/// }
/// ```
///
/// Text that lives for ever on one side does not on the other:
///
/// ```compile_fail
/// use abi_stable::{StableAbi, std_types::RStr};
/// use replug_plugin_api::interface::Portable;
///
/// #[repr(C)]
/// #[derive(Clone, Copy, StableAbi, Portable)]
/// pub struct Field {
///     pub key: RStr<'static>,
/// }
/// ```
///
/// # Safety
/// Every pointer in the value is valid for `'call` at most, as its type says:
/// for no lifetime in the type can a longer one be asked for. Nothing in it can
/// be changed through a shared reference, and a copy is as good as the value.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot cross between a host and a plugin",
    label = "owns memory, can be changed while shared, or has not been checked",
    note = "numbers, `RStr`, `RSlice`, shared references, arrays, `ROption` and `Tuple2` of such are portable",
    note = "for a `repr(C)` struct or enum of them write `#[derive(Clone, Copy, StableAbi, Portable)]`"
)]
pub unsafe trait Portable<'call>: Copy {}

macro_rules! plain {
    ($($type:ty),*) => {
        $(
            // SAFETY: holds no pointer.
            unsafe impl Portable<'_> for $type {}
        )*
    };
}

plain!((), bool, u8, u16, u32, u64, usize, i8, i16, i32, i64, isize, f32, f64);

// SAFETY: points to what lives for `'call`, shared, which is portable itself.
unsafe impl<'call, T: Portable<'call>> Portable<'call> for &'call T {}
// SAFETY: as above.
unsafe impl<'call, T: Portable<'call>> Portable<'call> for RSlice<'call, T> {}
// SAFETY: as above; text is plain bytes.
unsafe impl<'call> Portable<'call> for RStr<'call> {}
// SAFETY: holds portable values and nothing else.
unsafe impl<'call, T: Portable<'call>, const N: usize> Portable<'call> for [T; N] {}
// SAFETY: as above.
unsafe impl<'call, T: Portable<'call>> Portable<'call> for ROption<T> {}
// SAFETY: as above.
unsafe impl<'call, A: Portable<'call>> Portable<'call> for Tuple1<A> {}
// SAFETY: as above.
unsafe impl<'call, A: Portable<'call>, B: Portable<'call>> Portable<'call> for Tuple2<A, B> {}
// SAFETY: as above.
unsafe impl<'call, A, B, C> Portable<'call> for Tuple3<A, B, C>
where
    A: Portable<'call>,
    B: Portable<'call>,
    C: Portable<'call>,
{
}
// SAFETY: as above.
unsafe impl<'call, A, B, C, D> Portable<'call> for Tuple4<A, B, C, D>
where
    A: Portable<'call>,
    B: Portable<'call>,
    C: Portable<'call>,
    D: Portable<'call>,
{
}

/// Stops the build where `T` does not fit a call: for arguments and results.
#[doc(hidden)]
pub const fn portable<'call, T: Portable<'call>>() {}

/// Stops the build where what is pointed to is no `T`, to the lifetimes in it.
#[doc(hidden)]
pub const fn is<T>(_: *mut T) {}

/// As [`portable`], for what a plugin may write to: it could leave a pointer
/// behind in a value that lives on, so that there may be none in it.
#[doc(hidden)]
pub const fn writable<T: for<'call> Portable<'call>>() {}
