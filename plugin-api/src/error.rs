//! What a plugin answers when it cannot do what was asked.

use std::{borrow::Cow, fmt};

/// The result of hooks and handlers.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error value of a plugin: a code of its own, a message, and whether the
/// same call may succeed later.
///
/// Every `std::error::Error` converts into it, so `?` works on library errors;
/// the causes are written behind the message.
///
/// ```
/// use replug_plugin_api::Error;
///
/// let full = Error::new("bucket.empty", "no tokens left").retryable();
/// assert_eq!(full.code(), "bucket.empty");
///
/// let parse: Error = "x".parse::<u32>().unwrap_err().into();
/// assert_eq!(parse.code(), "error");
/// ```
pub struct Error {
    code: Cow<'static, str>,
    message: String,
    retryable: bool,
}

impl Error {
    /// An error with a code that callers can act on and a message for people.
    pub fn new(code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Error { code: code.into(), message: message.into(), retryable: false }
    }

    /// Says that the same call may succeed later.
    #[must_use]
    pub fn retryable(mut self) -> Self {
        self.retryable = true;
        self
    }

    /// The code.
    pub fn code(&self) -> &str {
        &self.code
    }

    /// The message.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Whether the same call may succeed later.
    pub fn is_retryable(&self) -> bool {
        self.retryable
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

// `Error` is not a `std::error::Error` itself: the two would overlap here, and
// `?` on library errors is what authors need most.
impl<E: std::error::Error> From<E> for Error {
    fn from(error: E) -> Self {
        let mut message = error.to_string();
        let mut cause = error.source();
        while let Some(inner) = cause {
            message.push_str(": ");
            message.push_str(&inner.to_string());
            cause = inner.source();
        }
        Error::new("error", message)
    }
}
