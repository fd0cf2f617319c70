//! A call as a handler sees it.

use crate::{Context, Error, Result, context::Cause};
use replug_abi::Request;
use std::{cell::OnceCell, time::Duration};

/// A call, borrowed from the caller for as long as the handler runs.
///
/// ```
/// use replug_plugin_api::{Call, Reply, Result};
///
/// /// Adds two numbers: `{"a": 1, "b": 2}`.
/// fn add(call: &Call<'_>) -> Result<Reply> {
///     let terms: std::collections::HashMap<String, i64> = call.json()?;
///     Reply::json(&terms.values().sum::<i64>())
/// }
/// ```
pub struct Call<'a> {
    request: &'a Request<'a>,
    instance: &'a Context,
    /// Made when it is first asked for: most calls make none of their own.
    context: OnceCell<Context>,
}

impl<'a> Call<'a> {
    pub(crate) fn new(request: &'a Request<'a>, instance: &'a Context) -> Self {
        Call { request, instance, context: OnceCell::new() }
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

    /// The plugin's host; calls made through it have this call's deadline,
    /// request id and trace parent.
    pub fn context(&self) -> &Context {
        self.context.get_or_init(|| self.instance.caused_by(self.cause(self.request.chain)))
    }

    /// The same call, owned, for threads and tasks that go on with it. Calls
    /// made through its context count as caused by this one.
    pub fn to_owned(&self) -> OwnedCall {
        let chain = match self.request.chain {
            0 => self.instance.current_chain(),
            chain => chain,
        };
        OwnedCall {
            method: self.method().to_owned(),
            body: self.body().to_vec(),
            content_type: self.content_type().to_owned(),
            sticky_key: self.sticky_key().to_vec(),
            context: self.instance.caused_by(self.cause(chain)),
        }
    }

    fn cause(&self, chain: u64) -> Cause {
        Cause {
            chain,
            deadline_ns: self.request.deadline_ns,
            request_id: self.request_id().to_owned(),
            trace_parent: self.trace_parent().to_owned(),
        }
    }
}

/// A call that outlives the function that received it: what async handlers get.
///
/// ```
/// use replug_plugin_api::{Call, Context, Result};
///
/// /// Answers at once and does the work on a thread, as part of the same call.
/// fn submit(call: &Call<'_>, context: &Context) -> Result<()> {
///     let call = call.to_owned();
///     context.spawn("submit", move |_| {
///         let _ = call.context().call("archive", "store", call.body());
///     })
/// }
/// ```
#[derive(Clone)]
pub struct OwnedCall {
    method: String,
    body: Vec<u8>,
    content_type: String,
    sticky_key: Vec<u8>,
    /// Has the rest: what the calls that this one makes need as well.
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
        time_left(self.context.cause().map_or(0, |cause| cause.deadline_ns))
    }

    /// The call's name in logs and traces; may be empty.
    pub fn request_id(&self) -> &str {
        self.context.cause().map_or("", |cause| &cause.request_id)
    }

    /// A W3C `traceparent`; may be empty.
    pub fn trace_parent(&self) -> &str {
        self.context.cause().map_or("", |cause| &cause.trace_parent)
    }

    /// What sticky routing hashed; may be empty.
    pub fn sticky_key(&self) -> &[u8] {
        &self.sticky_key
    }

    /// The plugin's host; calls made through it belong to this call's chain, and
    /// have its deadline, request id and trace parent.
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
