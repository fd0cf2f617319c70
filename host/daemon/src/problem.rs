//! Errors on their way to a client: problem details (RFC 9457) with the code,
//! the blame and the next step.

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
use std::ops::Deref;

/// An error answer. Boxed, because results carry it everywhere.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Problem(Box<Details>);

/// The body of an error answer.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Details {
    pub(crate) title: String,
    pub(crate) status: u16,
    pub(crate) detail: String,
    pub(crate) code: String,
    pub(crate) blame: String,
    pub(crate) next: String,
}

impl Problem {
    fn new(code: Code, detail: String) -> Self {
        Problem(Box::new(Details {
            title: code.as_str().replace(['.', '_'], " "),
            status: status(code).as_u16(),
            detail,
            code: code.as_str().to_owned(),
            blame: code.blame().as_str().to_owned(),
            next: code.next_step().to_owned(),
        }))
    }

    /// What no code fits: a request that is not of the API.
    pub(crate) fn bad_request(detail: String) -> Self {
        Problem(Box::new(Details {
            title: "bad request".to_owned(),
            status: StatusCode::BAD_REQUEST.as_u16(),
            detail,
            code: "request.invalid".to_owned(),
            blame: "caller".to_owned(),
            next: "correct the request as the detail says".to_owned(),
        }))
    }
}

impl Deref for Problem {
    type Target = Details;

    fn deref(&self) -> &Details {
        &self.0
    }
}

impl From<CallError> for Problem {
    fn from(error: CallError) -> Self {
        Problem::new(error.code(), error.to_string())
    }
}

impl From<HostError> for Problem {
    fn from(error: HostError) -> Self {
        let code = error.code();
        let detail = match error {
            HostError::Failed(FailureReport { message, .. }) => message,
            other => other.to_string(),
        };
        Problem::new(code, detail)
    }
}

fn status(code: Code) -> StatusCode {
    match code {
        Code::CallPlugin => StatusCode::UNPROCESSABLE_ENTITY,
        Code::CallPanicked => StatusCode::INTERNAL_SERVER_ERROR,
        Code::GateTimeout | Code::CallNotActive | Code::CallOverloaded | Code::HostStopped => {
            StatusCode::SERVICE_UNAVAILABLE
        }
        Code::CallUnknownPlugin | Code::CallUnknownMethod | Code::DeployUnknownVersion => {
            StatusCode::NOT_FOUND
        }
        Code::CallPayloadTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Code::CallDeadline => StatusCode::GATEWAY_TIMEOUT,
        _ => StatusCode::CONFLICT,
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
