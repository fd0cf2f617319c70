//! What a plugin says of a typed call that fails, on its way to the caller.
//!
//! The host notes it for the thread that it is said on, and the proxy that made
//! the call takes it from there: a call that succeeds makes nothing for the case
//! that it does not.

use crate::{Part, Status};
use std::cell::Cell;

/// Bytes of a code and of a message; the rest is cut off.
const TEXT_BYTES_MAX: usize = 64 * 1024;

thread_local! {
    static WORDS: Cell<Option<Box<Words>>> = const { Cell::new(None) };
}

/// An error as the plugin put it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Words {
    /// Its code.
    pub code: String,
    /// Its message; a panic's text.
    pub message: String,
    /// Whether the same call may succeed later.
    pub retryable: bool,
}

/// Notes a part of the error of the call that is about to end on this thread. An
/// error begins with its code, which ends what was said before.
///
/// A thread that is ending keeps nothing, and answers [`Status::REFUSED`].
pub fn note(part: Part, data: &[u8]) -> Status {
    let text = || String::from_utf8_lossy(&data[..data.len().min(TEXT_BYTES_MAX)]).into_owned();
    let noted = WORDS.try_with(|cell| {
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

/// What was noted last on this thread, once. Empty where nothing was, or where
/// thread-locals are gone already.
pub fn take() -> Words {
    let words = WORDS.try_with(Cell::take).ok().flatten();
    words.map(|words| *words).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(code: &str, message: &str, retryable: bool) -> Words {
        Words { code: code.to_owned(), message: message.to_owned(), retryable }
    }

    #[test]
    fn words_are_told_once_and_end_with_the_next_code() {
        assert_eq!(note(Part::ERROR_CODE, b"early"), Status::OK);
        assert_eq!(note(Part::ERROR_MESSAGE, b"of another call"), Status::OK);
        assert_eq!(note(Part::ERROR_RETRYABLE, &[1]), Status::OK);
        assert_eq!(note(Part::ERROR_CODE, b"late"), Status::OK);
        assert_eq!(take(), said("late", "", false));
        assert_eq!(take(), Words::default());
    }

    #[test]
    fn words_of_any_bytes_and_length_are_kept_as_far_as_they_go() {
        assert_eq!(note(Part::ERROR_CODE, b"\xff"), Status::OK);
        assert_eq!(note(Part::ERROR_MESSAGE, &vec![b'a'; TEXT_BYTES_MAX + 1]), Status::OK);
        assert_eq!(note(Part::ERROR_RETRYABLE, &[]), Status::OK);
        assert_eq!(take(), said("\u{fffd}", &"a".repeat(TEXT_BYTES_MAX), false));
    }

    #[test]
    fn words_stay_on_their_thread() {
        assert_eq!(note(Part::ERROR_CODE, b"here"), Status::OK);
        let elsewhere = std::thread::spawn(take).join().expect("does not panic");
        assert_eq!(elsewhere, Words::default());
        assert_eq!(take(), said("here", "", false));
    }
}
