//! The HTTP API, `/v1`, over the engine's public handles.

use crate::problem::Problem;
use axum::{
    Json, Router,
    body::{Body, Bytes},
    extract::{DefaultBodyLimit, Path, Query, State},
    http::{HeaderMap, HeaderValue, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use replug_host::{
    CallError, CallOptions, Host, HostStatus, Plugin, PluginStatus, Reply,
    event::{Events, Next},
};
use serde::Deserialize;
use std::time::Duration;
use tokio::sync::mpsc;

/// Largest body of a call over HTTP; the engine's own limit applies first.
const BODY_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Lines of events that wait for a slow client.
const EVENT_LINES_MAX: usize = 256;

/// The routes.
pub(crate) fn router(host: Host) -> Router {
    Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/v1/status", get(status))
        .route("/v1/plugins", get(plugins))
        .route("/v1/plugins/{name}", get(plugin))
        .route("/v1/plugins/{name}/methods", get(methods))
        .route("/v1/plugins/{name}/call/{method}", post(call))
        .route("/v1/plugins/{name}/activate", post(activate))
        .route("/v1/events", get(events))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(host)
}

async fn status(State(host): State<Host>) -> Json<HostStatus> {
    Json(host.status())
}

async fn plugins(State(host): State<Host>) -> Json<Vec<PluginStatus>> {
    Json(host.status().plugins)
}

async fn plugin(State(host): State<Host>, Path(name): Path<String>) -> Result<Json<PluginStatus>, Problem> {
    host.status().plugin(&name).cloned().map(Json).ok_or_else(|| unknown(&name))
}

async fn methods(State(host): State<Host>, Path(name): Path<String>) -> Result<Response, Problem> {
    let plugin = find(&host, &name)?;
    let listed = blocking(move || plugin.methods()).await??;
    Ok(([(header::CONTENT_TYPE, "application/json")], listed).into_response())
}

async fn call(
    State(host): State<Host>,
    Path((name, method)): Path<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Problem> {
    let plugin = find(&host, &name)?;
    let options = options(&headers)?;
    // A sync method runs on the thread that calls it, so it must not be one of
    // the server's; an async one is awaited.
    let listed = {
        let plugin = plugin.clone();
        blocking(move || plugin.methods()).await??
    };
    let reply = if is_async(&listed, &method) {
        plugin.call_async(&method, &body, options).await?
    } else {
        blocking(move || plugin.call_with(&method, &body, &options)).await??
    };
    Ok(answer(reply))
}

fn answer(reply: Reply) -> Response {
    let content_type = HeaderValue::from_str(reply.content_type())
        .ok()
        .filter(|value| !value.is_empty())
        .unwrap_or(HeaderValue::from_static("application/octet-stream"));
    ([(header::CONTENT_TYPE, content_type)], reply.into_body()).into_response()
}

fn is_async(methods: &str, name: &str) -> bool {
    #[derive(Deserialize)]
    struct Method {
        name: String,
        kind: String,
    }
    let methods: Vec<Method> = serde_json::from_str(methods).unwrap_or_default();
    methods.iter().any(|method| method.name == name && method.kind == "async")
}

fn options(headers: &HeaderMap) -> Result<CallOptions, Problem> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let mut options = CallOptions::default()
        .content_type(text("content-type"))
        .request_id(text("x-request-id"))
        .trace_parent(text("traceparent"))
        .sticky_key(text("replug-sticky-key"));
    let timeout = text("replug-timeout-ms");
    if !timeout.is_empty() {
        let ms = timeout.parse().map_err(|_| {
            Problem::bad_request(format!("replug-timeout-ms: expected milliseconds, found {timeout:?}"))
        })?;
        options = options.timeout(Duration::from_millis(ms));
    }
    Ok(options)
}

#[derive(Deserialize)]
struct Activate {
    version: Option<String>,
}

async fn activate(
    State(host): State<Host>,
    Path(name): Path<String>,
    Json(wanted): Json<Activate>,
) -> Result<Json<serde_json::Value>, Problem> {
    let name = name.parse().map_err(|error| Problem::bad_request(format!("{error}")))?;
    let version = match wanted.version.as_deref() {
        None => None,
        Some(text) => Some(
            text.parse::<semver::Version>()
                .map_err(|error| Problem::bad_request(format!("version {text:?}: {error}")))?,
        ),
    };
    let active = host.activate(&name, version).await?;
    Ok(Json(serde_json::json!({ "active": active.to_string() })))
}

#[derive(Deserialize)]
struct Since {
    #[serde(default = "first")]
    since: u64,
    #[serde(default)]
    follow: bool,
}

fn first() -> u64 {
    1
}

/// Events as lines of JSON, from a number on; for ever, if asked to.
async fn events(State(host): State<Host>, Query(since): Query<Since>) -> Response {
    let (lines, mut written) = mpsc::channel::<String>(EVENT_LINES_MAX);
    let events = host.events_since(since.since);
    tokio::task::spawn_blocking(move || write_events(events, since.follow, &lines));
    let stream = futures_stream(move |cx| written.poll_recv(cx));
    ([(header::CONTENT_TYPE, "application/x-ndjson")], Body::new(stream)).into_response()
}

/// How often a stream that waits looks whether its client is gone.
const LOOK: Duration = Duration::from_millis(250);

fn write_events(mut events: Events, follow: bool, lines: &mpsc::Sender<String>) {
    loop {
        let wait = if follow { LOOK } else { Duration::ZERO };
        let line = match events.next_within(wait) {
            Next::Event(event) => match serde_json::to_string(&*event) {
                Ok(line) => line,
                Err(_) => continue,
            },
            Next::Lost(count) => format!(r#"{{"event":"lost","count":{count}}}"#),
            Next::Nothing if follow && !lines.is_closed() => continue,
            Next::Nothing | Next::Ended => return,
        };
        if lines.blocking_send(line + "\n").is_err() {
            return;
        }
    }
}

/// A body from a polling function.
fn futures_stream<F>(poll: F) -> Lines<F>
where
    F: FnMut(&mut std::task::Context<'_>) -> std::task::Poll<Option<String>>,
{
    Lines { poll }
}

struct Lines<F> {
    poll: F,
}

impl<F> hyper::body::Body for Lines<F>
where
    F: FnMut(&mut std::task::Context<'_>) -> std::task::Poll<Option<String>> + Unpin,
{
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<hyper::body::Frame<Bytes>, Self::Error>>> {
        (self.poll)(cx).map(|line| line.map(|line| Ok(hyper::body::Frame::data(Bytes::from(line)))))
    }
}

fn find(host: &Host, name: &str) -> Result<Plugin, Problem> {
    host.find(name).ok_or_else(|| unknown(name))
}

fn unknown(name: &str) -> Problem {
    CallError::UnknownPlugin { name: name.to_owned() }.into()
}

/// Runs what waits on a thread of its own.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Problem> {
    tokio::task::spawn_blocking(work).await.map_err(|_| CallError::Stopped.into())
}
