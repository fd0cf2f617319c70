//! Errors on their way to a client: problem details (RFC 9457) with the code,
//! the blame, the causes and the next step.
//!
//! Both ends use it: the server writes what the client reads. It prints
//! nothing; that is the business of `refusal`.

mod rejected;
mod status;

pub(crate) use rejected::{Checked, unknown_route, wrong_method};

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use replug_host::{
    CallError, HostError,
    event::FailureReport,
    failure::{Code, Failure},
};
use serde::{Deserialize, Serialize};
use status::status;
use std::{error::Error, ops::Deref};

/// An error answer. Boxed, because results carry it everywhere.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Problem(Box<Details>);

/// The body of an error answer. Its type is `about:blank`, so the title is the
/// status in words; programs go by the code.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Details {
    pub(crate) title: String,
    pub(crate) status: u16,
    /// What happened.
    pub(crate) detail: String,
    /// The causes, nearest first.
    #[serde(default)]
    pub(crate) why: Vec<String>,
    pub(crate) code: String,
    pub(crate) blame: String,
    pub(crate) next: String,
    /// The plugin's own code, where the plugin answered with an error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) plugin_code: Option<String>,
}

impl Problem {
    pub(crate) fn new(code: Code, detail: impl Into<String>) -> Self {
        let status = status(code);
        Problem(Box::new(Details {
            title: status.canonical_reason().unwrap_or("Error").to_owned(),
            status: status.as_u16(),
            detail: detail.into(),
            why: Vec::new(),
            code: code.as_str().to_owned(),
            blame: code.blame().as_str().to_owned(),
            next: code.next_step().to_owned(),
            plugin_code: None,
        }))
    }

    /// An error with its causes.
    pub(crate) fn of(error: &(impl Failure + ?Sized)) -> Self {
        let detail = error.to_string();
        let why = causes(error, &detail);
        let mut problem = Problem::new(error.code(), detail);
        problem.0.why = why;
        problem
    }

    /// The same with causes, nearest first.
    pub(crate) fn because(mut self, why: Vec<String>) -> Self {
        self.0.why = why;
        self
    }

    /// The same with a next step that is nearer than the code's.
    pub(crate) fn next(mut self, step: impl Into<String>) -> Self {
        self.0.next = step.into();
        self
    }

    /// A request that the API does not understand.
    pub(crate) fn bad_request(detail: impl Into<String>) -> Self {
        Problem::new(Code::RequestInvalid, detail)
    }
}

/// The causes of an error, nearest first, without those that the text before
/// them tells already.
pub(crate) fn causes(error: &(impl Error + ?Sized), told: &str) -> Vec<String> {
    let mut why: Vec<String> = Vec::new();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let text = inner.to_string();
        if !why.last().map_or(told, String::as_str).contains(&text) {
            why.push(text);
        }
        cause = inner.source();
    }
    why
}

impl Deref for Problem {
    type Target = Details;

    fn deref(&self) -> &Details {
        &self.0
    }
}

impl From<CallError> for Problem {
    fn from(error: CallError) -> Self {
        let mut problem = Problem::of(&error);
        if let CallError::Plugin { code, .. } = error {
            // Tables are the host's: where one refuses, so is what to do about it.
            if let Some(of_table) = Code::from_name(&code).filter(|_| code.starts_with("table.")) {
                problem.0.blame = of_table.blame().as_str().to_owned();
                problem.0.next = of_table.next_step().to_owned();
            }
            problem.0.plugin_code = Some(code);
        }
        problem
    }
}

impl From<HostError> for Problem {
    fn from(error: HostError) -> Self {
        match error {
            // Its message has the causes already; its code is the inner one.
            HostError::Failed(FailureReport { ref message, .. }) => {
                Problem::new(error.code(), message.as_str())
            }
            other => Problem::of(&other),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, axum::Json(self)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot save")]
    struct Outer(#[source] Middle);

    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct Middle(#[source] std::io::Error);

    #[test]
    fn causes_are_told_once_nearest_first() {
        let error = Outer(Middle(std::io::Error::other("the disk is full")));
        assert_eq!(causes(&error, "cannot save"), ["the disk is full"]);
        assert!(causes(&error, "cannot save: the disk is full").is_empty());
    }

    fn from_a_plugin(code: &str) -> Problem {
        Problem::from(CallError::Plugin {
            plugin: "limiter".parse().expect("a name"),
            code: code.to_owned(),
            message: "cost must be 0 or above".to_owned(),
            retryable: false,
        })
    }

    #[test]
    fn a_plugins_own_error_keeps_its_own_code() {
        for own in ["limiter.bad_cost", "host.stopped"] {
            let problem = from_a_plugin(own);
            assert_eq!((problem.status, problem.code.as_str()), (422, "call.plugin"));
            assert_eq!(problem.plugin_code.as_deref(), Some(own));
            assert_eq!(
                (problem.blame.as_str(), problem.next.as_str()),
                ("plugin", Code::CallPlugin.next_step())
            );
        }
    }

    #[test]
    fn what_a_table_refused_says_who_has_to_act_whichever_plugin_passed_it_on() {
        let problem = from_a_plugin("table.bytes_max");
        assert_eq!((problem.status, problem.code.as_str()), (422, "call.plugin"));
        assert_eq!(problem.plugin_code.as_deref(), Some("table.bytes_max"));
        assert_eq!(
            (problem.blame.as_str(), problem.next.as_str()),
            ("operator", Code::TableBytesMax.next_step())
        );
    }
}
