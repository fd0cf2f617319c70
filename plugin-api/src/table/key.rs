//! Keys as bytes: each key has one form, and the forms sort as the keys do.
//!
//! The bytes are the table's, not the version's: they stay as they are for as
//! long as a table lives, whatever happens to the types of its values.

/// What can be the key of a table's rows: `String`, `Vec<u8>`, `[u8; N]`, the
/// integers of fixed width, and tuples of two and three of them.
///
/// Keys sort by their bytes as they do by [`Ord`]. A key has at most 1024 bytes
/// in its table; texts in a tuple have two more than their own, and one more
/// for each NUL in them.
///
/// A type of one's own passes on to what it is made of:
///
/// ```
/// use replug_plugin_api::table::{AsKey, Key};
///
/// struct Tenant(u32);
///
/// impl Key for Tenant {
///     fn read(bytes: &mut &[u8]) -> Option<Self> {
///         u32::read(bytes).map(Tenant)
///     }
/// }
///
/// impl AsKey<Tenant> for Tenant {
///     fn append_to(&self, bytes: &mut Vec<u8>) {
///         self.0.append_to(bytes);
///     }
/// }
/// ```
pub trait Key: Sized + 'static {
    /// Takes the key off the front of `bytes`; none if they do not begin with
    /// what [`AsKey::append_to`] wrote.
    fn read(bytes: &mut &[u8]) -> Option<Self>;

    /// The key that is all of `bytes`, as [`AsKey::with_bytes`] had them.
    fn read_whole(mut bytes: &[u8]) -> Option<Self> {
        Self::read(&mut bytes).filter(|_| bytes.is_empty())
    }
}

/// What finds the rows of a table with keys of type `K`: a `K`, or something
/// borrowed in its place, as `str` is for `String`, also within tuples.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no key of a table whose keys are `{K}`",
    note = "keys are looked up by reference: `get(&7)`, `get(\"name\")`, `get(&(\"name\", 7))`"
)]
pub trait AsKey<K: Key> {
    /// Appends the key, in a form of which the end can be seen.
    fn append_to(&self, bytes: &mut Vec<u8>);

    /// Hands out the key by itself.
    fn with_bytes<R>(&self, f: impl FnOnce(&[u8]) -> R) -> R {
        let mut bytes = Vec::new();
        self.append_to(&mut bytes);
        f(&bytes)
    }
}

impl<K: Key, Q: AsKey<K> + ?Sized> AsKey<K> for &Q {
    fn append_to(&self, bytes: &mut Vec<u8>) {
        (**self).append_to(bytes);
    }

    fn with_bytes<R>(&self, f: impl FnOnce(&[u8]) -> R) -> R {
        (**self).with_bytes(f)
    }
}

/// Fixed width, so that the end is known; the sign bit is turned over, so that
/// negative numbers sort first.
macro_rules! integers {
    ($($int:ty => $offset:expr),*) => {$(
        impl Key for $int {
            fn read(bytes: &mut &[u8]) -> Option<Self> {
                let (number, rest) = bytes.split_first_chunk()?;
                *bytes = rest;
                Some(Self::from_be_bytes(*number) ^ $offset)
            }
        }

        impl AsKey<$int> for $int {
            fn append_to(&self, bytes: &mut Vec<u8>) {
                bytes.extend_from_slice(&(*self ^ $offset).to_be_bytes());
            }

            fn with_bytes<R>(&self, f: impl FnOnce(&[u8]) -> R) -> R {
                f(&(*self ^ $offset).to_be_bytes())
            }
        }
    )*};
}

integers!(u8 => 0, u16 => 0, u32 => 0, u64 => 0, u128 => 0);
integers!(i8 => i8::MIN, i16 => i16::MIN, i32 => i32::MIN, i64 => i64::MIN, i128 => i128::MIN);

impl<const N: usize> Key for [u8; N] {
    fn read(bytes: &mut &[u8]) -> Option<Self> {
        let (array, rest) = bytes.split_first_chunk()?;
        *bytes = rest;
        Some(*array)
    }
}

impl<const N: usize> AsKey<[u8; N]> for [u8; N] {
    fn append_to(&self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(self);
    }

    fn with_bytes<R>(&self, f: impl FnOnce(&[u8]) -> R) -> R {
        f(self)
    }
}

impl Key for Vec<u8> {
    fn read(bytes: &mut &[u8]) -> Option<Self> {
        let mut string = Vec::new();
        loop {
            let nul = bytes.iter().position(|byte| *byte == 0)?;
            string.extend_from_slice(&bytes[..nul]);
            let mark = *bytes.get(nul + 1)?;
            *bytes = &bytes[nul + 2..];
            match mark {
                END => return Some(string),
                NUL => string.push(0),
                _ => return None,
            }
        }
    }

    fn read_whole(bytes: &[u8]) -> Option<Self> {
        Some(bytes.to_vec())
    }
}

/// What follows a NUL in a string whose end can be seen: the lower one is the
/// end, so that a string sorts before all that go on from it.
const END: u8 = 0;
/// That the NUL is one of the string's own.
const NUL: u8 = 1;

impl AsKey<Vec<u8>> for [u8] {
    fn append_to(&self, bytes: &mut Vec<u8>) {
        for (at, piece) in self.split(|byte| *byte == 0).enumerate() {
            if at > 0 {
                bytes.extend_from_slice(&[0, NUL]);
            }
            bytes.extend_from_slice(piece);
        }
        bytes.extend_from_slice(&[0, END]);
    }

    fn with_bytes<R>(&self, f: impl FnOnce(&[u8]) -> R) -> R {
        f(self)
    }
}

impl Key for String {
    fn read(bytes: &mut &[u8]) -> Option<Self> {
        String::from_utf8(Vec::read(bytes)?).ok()
    }

    fn read_whole(bytes: &[u8]) -> Option<Self> {
        std::str::from_utf8(bytes).ok().map(str::to_owned)
    }
}

/// Types that are looked up as what they lend.
macro_rules! lent {
    ($($type:ty as $key:ty: $lend:ident),*) => {$(
        impl AsKey<$key> for $type {
            fn append_to(&self, bytes: &mut Vec<u8>) {
                AsKey::<Vec<u8>>::append_to(self.$lend(), bytes);
            }

            fn with_bytes<R>(&self, f: impl FnOnce(&[u8]) -> R) -> R {
                f(self.$lend())
            }
        }
    )*};
}

lent!(Vec<u8> as Vec<u8>: as_slice, str as String: as_bytes, String as String: as_bytes);

macro_rules! tuples {
    ($(($($key:ident $lookup:ident $at:tt),*)),*) => {$(
        impl<$($key: Key),*> Key for ($($key,)*) {
            fn read(bytes: &mut &[u8]) -> Option<Self> {
                Some(($($key::read(bytes)?,)*))
            }
        }

        impl<$($key: Key, $lookup: AsKey<$key>),*> AsKey<($($key,)*)> for ($($lookup,)*) {
            fn append_to(&self, bytes: &mut Vec<u8>) {
                $(self.$at.append_to(bytes);)*
            }
        }
    )*};
}

tuples!((A P 0, B Q 1), (A P 0, B Q 1, C R 2));

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::fmt::Debug;

    /// Both come back, and their bytes stand to each other as they do.
    fn check<K: Key + AsKey<K> + Ord + Debug>(left: &K, right: &K) {
        let bytes = |key: &K| key.with_bytes(<[u8]>::to_vec);
        assert_eq!(K::read_whole(&bytes(left)).as_ref(), Some(left));
        assert_eq!(bytes(left).cmp(&bytes(right)), left.cmp(right), "{left:?} {right:?}");
        let mut both = Vec::new();
        left.append_to(&mut both);
        right.append_to(&mut both);
        let mut rest = &both[..];
        assert_eq!((K::read(&mut rest).as_ref(), K::read(&mut rest).as_ref()), (Some(left), Some(right)));
        assert!(rest.is_empty());
    }

    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(prop_oneof![0_u8..3, 254_u8.., any::<u8>()], 0..6)
    }

    proptest! {
        #[test]
        fn keys_come_back_and_sort_as_they_do(
            text in ("[\0-\u{2}a-c]{0,5}", ".{0,9}"),
            strings in (bytes(), bytes()),
            numbers in any::<((u64, u64), (i32, i32), (u8, u8), (i128, i128))>(),
        ) {
            let ((a, b), (c, d), (e, f), (g, h)) = numbers;
            check(&text.0, &text.1);
            check(&strings.0, &strings.1);
            check(&a, &b);
            check(&c, &d);
            check(&g, &h);
            check(&a.to_be_bytes(), &b.to_be_bytes());
            check(&(strings.0.clone(), c), &(strings.1.clone(), d));
            check(&(text.0.clone(), text.1.clone(), e), &(text.1.clone(), text.0.clone(), f));
            check(&((c, strings.0.clone()), text.0.clone()), &((c, strings.1.clone()), text.1.clone()));
        }

        #[test]
        fn bytes_that_are_no_key_are_none_and_those_that_are_are_its_own(bytes in bytes()) {
            if let Some(key) = <(String, u8)>::read_whole(&bytes) {
                prop_assert_eq!(key.with_bytes(<[u8]>::to_vec), bytes.clone());
            }
            if let Some(key) = <(Vec<u8>, Vec<u8>)>::read_whole(&bytes) {
                prop_assert_eq!(key.with_bytes(<[u8]>::to_vec), bytes);
            }
        }
    }

    #[test]
    fn borrowed_forms_have_the_bytes_of_the_owned_ones() {
        fn bytes<K: Key>(key: &(impl AsKey<K> + ?Sized)) -> Vec<u8> {
            key.with_bytes(<[u8]>::to_vec)
        }
        assert_eq!(bytes::<String>("abc"), bytes::<String>(&"abc".to_owned()));
        assert_eq!(bytes::<String>(&"abc"), b"abc");
        assert_eq!(bytes::<Vec<u8>>(&[1_u8, 2][..]), bytes::<Vec<u8>>(&vec![1_u8, 2]));
        assert_eq!(bytes::<(String, u16)>(&("a\0", 7_u16)), b"a\0\x01\0\0\0\x07");
        assert_eq!(bytes::<u64>(&7), [0, 0, 0, 0, 0, 0, 0, 7]);
        assert_eq!(bytes::<[u8; 2]>(&[1, 2]), [1, 2]);
    }
}
