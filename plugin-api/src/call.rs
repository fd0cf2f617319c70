//! A call as a handler sees it.

use crate::{Context, Error, Result};
use replug_abi::Request;
use std::time::Duration;

/// A call, borrowed from the caller for as long as the handler runs.
pub struct Call<'a> {
    request: &'a Request<'a>,
    context: &'a Context,
}

impl<'a> Call<'a> {
    pub(crate) fn new(request: &'a Request<'a>, context: &'a Context) -> Self {
        Call { request, context }
    }

    /// The method's name.
    pub fn method(&self) -> &'a str {
        self.request.method.as_str()
    }

    /// The body.
    pub fn body(&self) -> &'a [u8] {
        self.request.body.as_slice()
    }

    /// The body as text.
    ///
    /// # Errors
    /// `call.not_utf8` when the body is not UTF-8.
    pub fn text(&self) -> Result<&'a str> {
        text(self.body())
    }

    /// The body, read as JSON.
    ///
    /// # Errors
    /// `call.bad_json` when the body is not JSON of this shape.
    pub fn json<T: serde::de::DeserializeOwned>(&self) -> Result<T> {
        json(self.body())
    }

    /// Media type of the body; empty when the caller did not say.
    pub fn content_type(&self) -> &'a str {
        self.request.content_type.as_str()
    }

    /// How long the caller still waits; `None` for ever.
    pub fn time_left(&self) -> Option<Duration> {
        time_left(self.request.deadline_ns)
    }

    /// The call's name in logs and traces; may be empty.
    pub fn request_id(&self) -> &'a str {
        self.request.request_id.as_str()
    }

    /// A W3C `traceparent`; may be empty.
    pub fn trace_parent(&self) -> &'a str {
        self.request.trace_parent.as_str()
    }

    /// What sticky routing hashed; may be empty.
    pub fn sticky_key(&self) -> &'a [u8] {
        self.request.sticky_key.as_slice()
    }

    /// The plugin's host.
    pub fn context(&self) -> &'a Context {
        self.context
    }

    /// The same call, owned, for threads and tasks that go on with it. Calls
    /// made through its context count as caused by this one.
    pub fn to_owned(&self) -> OwnedCall {
        let chain = match self.request.chain {
            0 => self.context.current_chain(),
            chain => chain,
        };
        OwnedCall {
            method: self.method().to_owned(),
            body: self.body().to_vec(),
            content_type: self.content_type().to_owned(),
            request_id: self.request_id().to_owned(),
            trace_parent: self.trace_parent().to_owned(),
            sticky_key: self.sticky_key().to_vec(),
            deadline_ns: self.request.deadline_ns,
            context: self.context.in_chain(chain),
        }
    }
}

/// A call that outlives the function that received it: what async handlers get.
#[derive(Clone)]
pub struct OwnedCall {
    method: String,
    body: Vec<u8>,
    content_type: String,
    request_id: String,
    trace_parent: String,
    sticky_key: Vec<u8>,
    deadline_ns: u64,
    context: Context,
}

impl OwnedCall {
    /// The method's name.
    pub fn method(&self) -> &str {
        &self.method
    }

    /// The body.
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// The body as text.
    ///
    /// # Errors
    /// `call.not_utf8` when the body is not UTF-8.
    pub fn text(&self) -> Result<&str> {
        text(&self.body)
    }

    /// The body, read as JSON.
    ///
    /// # Errors
    /// `call.bad_json` when the body is not JSON of this shape.
    pub fn json<T: serde::de::DeserializeOwned>(&self) -> Result<T> {
        json(&self.body)
    }

    /// Media type of the body; empty when the caller did not say.
    pub fn content_type(&self) -> &str {
        &self.content_type
    }

    /// How long the caller still waits; `None` for ever.
    pub fn time_left(&self) -> Option<Duration> {
        time_left(self.deadline_ns)
    }

    /// The call's name in logs and traces; may be empty.
    pub fn request_id(&self) -> &str {
        &self.request_id
    }

    /// A W3C `traceparent`; may be empty.
    pub fn trace_parent(&self) -> &str {
        &self.trace_parent
    }

    /// What sticky routing hashed; may be empty.
    pub fn sticky_key(&self) -> &[u8] {
        &self.sticky_key
    }

    /// The plugin's host; calls made through it belong to this call's chain.
    pub fn context(&self) -> &Context {
        &self.context
    }
}

fn text(body: &[u8]) -> Result<&str> {
    std::str::from_utf8(body).map_err(|e| Error::new("call.not_utf8", format!("the body is not UTF-8: {e}")))
}

fn json<T: serde::de::DeserializeOwned>(body: &[u8]) -> Result<T> {
    serde_json::from_slice(body)
        .map_err(|e| Error::new("call.bad_json", format!("the body does not fit: {e}")))
}

fn time_left(deadline_ns: u64) -> Option<Duration> {
    (deadline_ns != 0)
        .then(|| Duration::from_nanos(deadline_ns.saturating_sub(crate::glue::clock::monotonic_ns())))
}
