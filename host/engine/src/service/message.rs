//! What goes into a call and what comes back.

use crate::clock::monotonic_ns;
use abi_stable::std_types::{RSlice, RStr};
use replug_abi::Request;
use std::time::Duration;

/// How long a caller waits when it does not say.
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);

/// The deadline of a call that begins now and does not say.
pub(super) fn default_deadline_ns() -> u64 {
    monotonic_ns().saturating_add(TIMEOUT_DEFAULT.as_nanos() as u64)
}

/// What a call carries besides method and body.
///
/// ```
/// use replug_host::CallOptions;
/// use std::time::Duration;
///
/// let options = CallOptions::default().timeout(Duration::from_secs(2)).request_id("r-17");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallOptions {
    pub(super) timeout: Option<Duration>,
    pub(super) content_type: String,
    pub(super) request_id: String,
    pub(super) trace_parent: String,
    pub(super) sticky_key: Vec<u8>,
    pub(super) caller: String,
}

impl Default for CallOptions {
    /// A timeout of 30 s and nothing else.
    fn default() -> Self {
        CallOptions {
            timeout: Some(TIMEOUT_DEFAULT),
            content_type: String::new(),
            request_id: String::new(),
            trace_parent: String::new(),
            sticky_key: Vec::new(),
            caller: String::new(),
        }
    }
}

impl CallOptions {
    /// How long the caller waits. A sync method cannot be interrupted: its late
    /// answer is still an answer. An async one is cancelled.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Waits for as long as it takes.
    #[must_use]
    pub fn no_timeout(mut self) -> Self {
        self.timeout = None;
        self
    }

    /// Media type of the body.
    #[must_use]
    pub fn content_type(mut self, content_type: impl Into<String>) -> Self {
        self.content_type = content_type.into();
        self
    }

    /// Names the call in logs and traces.
    #[must_use]
    pub fn request_id(mut self, id: impl Into<String>) -> Self {
        self.request_id = id.into();
        self
    }

    /// A W3C `traceparent`.
    #[must_use]
    pub fn trace_parent(mut self, parent: impl Into<String>) -> Self {
        self.trace_parent = parent.into();
        self
    }

    /// What sticky routing hashes: while two versions serve, all calls with one
    /// key go to one of them.
    #[must_use]
    pub fn sticky_key(mut self, key: impl Into<Vec<u8>>) -> Self {
        self.sticky_key = key.into();
        self
    }

    /// Who calls. While two versions serve, a caller may be pinned to one of
    /// them; that goes before its key.
    #[must_use]
    pub fn caller(mut self, name: impl Into<String>) -> Self {
        self.caller = name.into();
        self
    }

    /// The deadline of a call that begins now; 0 for none.
    pub(super) fn deadline_ns(&self) -> u64 {
        let Some(timeout) = self.timeout else { return 0 };
        let timeout_ns = u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX);
        monotonic_ns().saturating_add(timeout_ns)
    }

    /// The request of a call that begins now.
    pub(super) fn request<'a>(&'a self, method: &'a str, body: &'a [u8]) -> Request<'a> {
        Request {
            content_type: RStr::from_str(&self.content_type),
            request_id: RStr::from_str(&self.request_id),
            trace_parent: RStr::from_str(&self.trace_parent),
            sticky_key: RSlice::from_slice(&self.sticky_key),
            deadline_ns: self.deadline_ns(),
            ..Request::new(method, body)
        }
    }
}

/// A plugin's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    body: Vec<u8>,
    content_type: String,
}

impl Reply {
    pub(super) fn new(body: Vec<u8>, content_type: String) -> Self {
        Reply { body, content_type }
    }

    /// The body.
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// The body, consumed.
    pub fn into_body(self) -> Vec<u8> {
        self.body
    }

    /// The body as text.
    ///
    /// # Errors
    /// When it is not UTF-8.
    pub fn text(&self) -> Result<&str, std::str::Utf8Error> {
        std::str::from_utf8(&self.body)
    }

    /// Media type of the body; empty when the plugin did not say.
    pub fn content_type(&self) -> &str {
        &self.content_type
    }
}
