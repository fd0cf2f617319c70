//! Calls over HTTP: headers become options, and one timeout covers all of it.

use super::{blocking::blocking, find};
use crate::problem::{Checked, Problem};
use axum::{
    body::Bytes,
    extract::{Path, State},
    http::{HeaderMap, HeaderValue, header},
    response::{IntoResponse, Response},
};
use replug_host::{CallError, CallOptions, Host, Plugin, Reply};
use serde::Deserialize;
use std::time::{Duration, Instant};

/// How long a caller waits who does not say; as in the engine.
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);

pub(super) async fn call(
    State(host): State<Host>,
    Checked(Path((name, method))): Checked<Path<(String, String)>>,
    headers: HeaderMap,
    Checked(body): Checked<Bytes>,
) -> Result<Response, Problem> {
    let plugin = find(&host, &name)?;
    let time = TimeLeft { began: Instant::now(), timeout: timeout(&headers)? };
    let options = options(&headers);
    let too_late = CallError::Deadline { plugin: plugin.name().clone(), method: method.clone() };
    // A sync method runs on the thread that calls it, so it must not be one of
    // the server's; an async one is awaited. The list of methods is the serving
    // version's: to read it may mean to wait at its gate.
    let is_async = tokio::time::timeout(time.timeout, is_async(plugin.clone(), method.clone()))
        .await
        .map_err(|_| too_late.clone())??;
    let reply = if is_async {
        plugin.call_async(&method, &body, options.timeout(time.left())).await?
    } else {
        blocking(move || {
            // The thread may have come late.
            let left = time.left();
            if left.is_zero() {
                return Err(too_late);
            }
            plugin.call_with(&method, &body, &options.timeout(left))
        })
        .await?
    };
    Ok(answer(reply))
}

struct TimeLeft {
    began: Instant,
    timeout: Duration,
}

impl TimeLeft {
    fn left(&self) -> Duration {
        self.timeout.saturating_sub(self.began.elapsed())
    }
}

async fn is_async(plugin: Plugin, name: String) -> Result<bool, Problem> {
    #[derive(Deserialize)]
    struct Method {
        name: String,
        kind: String,
    }
    let listed = blocking(move || plugin.methods()).await?;
    let methods: Vec<Method> = serde_json::from_str(&listed).unwrap_or_default();
    Ok(methods.iter().any(|method| method.name == name && method.kind == "async"))
}

fn answer(reply: Reply) -> Response {
    let content_type = HeaderValue::from_str(reply.content_type())
        .ok()
        .filter(|value| !value.is_empty())
        .unwrap_or(HeaderValue::from_static("application/octet-stream"));
    ([(header::CONTENT_TYPE, content_type)], reply.into_body()).into_response()
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

fn options(headers: &HeaderMap) -> CallOptions {
    CallOptions::default()
        .content_type(text(headers, "content-type"))
        .request_id(text(headers, "x-request-id"))
        .trace_parent(text(headers, "traceparent"))
        .sticky_key(text(headers, "replug-sticky-key"))
}

fn timeout(headers: &HeaderMap) -> Result<Duration, Problem> {
    let Some(value) = headers.get("replug-timeout-ms") else { return Ok(TIMEOUT_DEFAULT) };
    value.to_str().ok().and_then(|text| text.parse().ok()).map(Duration::from_millis).ok_or_else(|| {
        Problem::bad_request(format!("replug-timeout-ms: expected milliseconds, found {value:?}"))
    })
}
