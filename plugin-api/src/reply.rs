//! The answer of a method.

use crate::{Error, Result};
use std::borrow::Cow;

/// A body and its media type.
///
/// ```
/// use replug_plugin_api::Reply;
///
/// let reply = Reply::from("<p>hi</p>").with_content_type("text/html");
/// assert_eq!(reply.body(), b"<p>hi</p>");
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reply {
    body: Vec<u8>,
    content_type: Cow<'static, str>,
}

impl Reply {
    /// A value as JSON.
    ///
    /// # Errors
    /// When the value cannot be written as JSON, a map with keys that are not
    /// text for example.
    pub fn json<T: serde::Serialize + ?Sized>(value: &T) -> Result<Self> {
        let body = serde_json::to_vec(value).map_err(|e| Error::new("reply.json", e.to_string()))?;
        Ok(Reply { body, content_type: Cow::Borrowed("application/json") })
    }

    /// The same body with another media type.
    #[must_use]
    pub fn with_content_type(mut self, content_type: impl Into<Cow<'static, str>>) -> Self {
        self.content_type = content_type.into();
        self
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
    /// When the body is not UTF-8.
    pub fn text(&self) -> Result<&str> {
        std::str::from_utf8(&self.body).map_err(|e| Error::new("reply.not_utf8", e.to_string()))
    }

    /// The media type; empty when none was given.
    pub fn content_type(&self) -> &str {
        &self.content_type
    }
}

impl From<Vec<u8>> for Reply {
    fn from(body: Vec<u8>) -> Self {
        Reply { body, content_type: Cow::Borrowed("") }
    }
}

impl From<&[u8]> for Reply {
    fn from(body: &[u8]) -> Self {
        body.to_vec().into()
    }
}

impl From<String> for Reply {
    fn from(text: String) -> Self {
        Reply::from(text.into_bytes()).with_content_type("text/plain; charset=utf-8")
    }
}

impl From<&str> for Reply {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

impl From<()> for Reply {
    fn from((): ()) -> Self {
        Reply::default()
    }
}
