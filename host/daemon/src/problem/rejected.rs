//! Requests that do not reach a handler, as problems like all others: no such
//! route, another method, a body or a query that cannot be read.

use super::Problem;
use axum::{
    extract::{
        FromRequest, FromRequestParts, Request,
        rejection::{BytesRejection, JsonRejection, PathRejection, QueryRejection},
    },
    http::{Method, StatusCode, Uri, request::Parts},
};
use replug_host::failure::Code;

/// An extractor whose refusal is a [`Problem`].
pub(crate) struct Checked<E>(pub(crate) E);

impl<S, E> FromRequestParts<S> for Checked<E>
where
    S: Send + Sync,
    E: FromRequestParts<S>,
    Problem: From<E::Rejection>,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        Ok(Checked(E::from_request_parts(parts, state).await?))
    }
}

impl<S, E> FromRequest<S> for Checked<E>
where
    S: Send + Sync,
    E: FromRequest<S>,
    Problem: From<E::Rejection>,
{
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        Ok(Checked(E::from_request(request, state).await?))
    }
}

/// The answer where no route is.
pub(crate) async fn unknown_route(uri: Uri) -> Problem {
    let detail = format!(
        "there is no route {}; `GET /v1/status` and `GET /v1/plugins` are two that there are",
        uri.path()
    );
    Problem::new(Code::RequestUnknownRoute, detail)
}

/// The answer where a route has other methods; the router adds `Allow`.
pub(crate) async fn wrong_method(method: Method, uri: Uri) -> Problem {
    Problem::new(Code::RequestWrongMethod, format!("the route {} does not take {method}", uri.path()))
}

macro_rules! from_rejections {
    ($($rejection:ty),*) => {$(
        impl From<$rejection> for Problem {
            fn from(rejection: $rejection) -> Self {
                of(rejection.status(), rejection.body_text())
            }
        }
    )*};
}

from_rejections!(JsonRejection, QueryRejection, PathRejection, BytesRejection);

fn of(status: StatusCode, detail: String) -> Problem {
    match status {
        StatusCode::PAYLOAD_TOO_LARGE => Problem::new(Code::CallPayloadTooLarge, detail),
        _ => Problem::bad_request(detail),
    }
}
