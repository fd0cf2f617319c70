//! HTTP over a unix socket.

use crate::problem::Problem;
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, StatusCode, body::Bytes, client::conn::http1};
use hyper_util::rt::TokioIo;
use std::{
    io::{self, Write},
    path::Path,
};
use tokio::net::UnixStream;

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum ClientError {
    /// Nobody listens at the socket.
    Unreachable(String),
    /// The host refused.
    Refused(Problem),
}

impl From<hyper::Error> for ClientError {
    fn from(error: hyper::Error) -> Self {
        ClientError::Unreachable(error.to_string())
    }
}

/// Sends one request and reads the whole answer.
pub(crate) fn request(
    socket: &Path,
    method: Method,
    path: &str,
    headers: &[(&str, String)],
    body: Vec<u8>,
) -> Result<Bytes, ClientError> {
    on_runtime(async {
        let response = send(socket, method, path, headers, body).await?;
        Ok(response.into_body().collect().await?.to_bytes())
    })
}

/// Sends one request and copies the answer out as it comes.
pub(crate) fn stream(socket: &Path, path: &str, out: &mut impl Write) -> Result<(), ClientError> {
    on_runtime(async {
        let mut body = send(socket, Method::GET, path, &[], Vec::new()).await?.into_body();
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame?.into_data() else { continue };
            let written = out.write_all(&data).and_then(|()| out.flush());
            if written.is_err() {
                // Nobody reads any more, as with `| head`.
                return Ok(());
            }
        }
        Ok(())
    })
}

fn on_runtime<T>(work: impl Future<Output = Result<T, ClientError>>) -> Result<T, ClientError> {
    let unreachable = |error: io::Error| ClientError::Unreachable(error.to_string());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(unreachable)?;
    runtime.block_on(work)
}

async fn send(
    socket: &Path,
    method: Method,
    path: &str,
    headers: &[(&str, String)],
    body: Vec<u8>,
) -> Result<hyper::Response<hyper::body::Incoming>, ClientError> {
    let stream = UnixStream::connect(socket)
        .await
        .map_err(|error| ClientError::Unreachable(format!("{}: {error}", socket.display())))?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let mut request = Request::builder().method(method).uri(path).header("host", "localhost");
    for (name, value) in headers {
        request = request.header(*name, value);
    }
    let request = request
        .body(Full::new(Bytes::from(body)))
        .map_err(|error| ClientError::Refused(Problem::bad_request(error.to_string())))?;
    let response = sender.send_request(request).await?;
    if response.status() < StatusCode::BAD_REQUEST {
        return Ok(response);
    }
    let status = response.status();
    let body = response.into_body().collect().await?.to_bytes();
    let problem = serde_json::from_slice(&body)
        .unwrap_or_else(|_| Problem::bad_request(format!("{status}: {}", String::from_utf8_lossy(&body))));
    Err(ClientError::Refused(problem))
}
