//! HTTP over a unix socket: one request, one connection.

use crate::problem::{Problem, causes};
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, Response, StatusCode, body::Bytes, body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use replug_host::failure::Code;
use std::{
    error::Error,
    fmt::Write as _,
    io::{self, Write},
    path::Path,
};
use tokio::net::UnixStream;

/// What is asked of a host.
pub(crate) struct Ask<'a> {
    pub(crate) method: Method,
    /// From [`path`], with a query where one is needed.
    pub(crate) path: String,
    pub(crate) headers: &'a [(&'a str, String)],
    pub(crate) body: Vec<u8>,
}

impl Ask<'_> {
    /// A read.
    pub(crate) fn get(path: impl Into<String>) -> Self {
        Ask { method: Method::GET, path: path.into(), headers: &[], body: Vec::new() }
    }
}

/// The path of these segments, each percent-encoded: a name is data and never
/// a slash or a query.
pub(crate) fn path(segments: &[&str]) -> String {
    let mut path = String::new();
    for segment in segments {
        path.push('/');
        for byte in segment.bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                    path.push(char::from(byte));
                }
                // Writing to a string does not fail.
                _ => _ = write!(path, "%{byte:02X}"),
            }
        }
    }
    path
}

/// Sends one request and reads the whole answer.
pub(crate) fn request(socket: &Path, ask: Ask<'_>) -> Result<Bytes, Problem> {
    on_runtime(async {
        let response = send(socket, ask).await?;
        Ok(response.into_body().collect().await.map_err(|error| cut_off(&error))?.to_bytes())
    })
}

/// Sends one request and copies the answer out as it comes.
pub(crate) fn stream(socket: &Path, ask: Ask<'_>, out: &mut impl Write) -> Result<(), Problem> {
    on_runtime(async {
        let mut body = send(socket, ask).await?.into_body();
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.map_err(|error| cut_off(&error))?.into_data() else { continue };
            if out.write_all(&data).and_then(|()| out.flush()).is_err() {
                // Nobody reads any more, as with `| head`.
                return Ok(());
            }
        }
        Ok(())
    })
}

fn on_runtime<T>(work: impl Future<Output = Result<T, Problem>>) -> Result<T, Problem> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| {
        Problem::new(Code::HostThread, "cannot set up the connection to the host")
            .because(vec![error.to_string()])
    })?;
    runtime.block_on(work)
}

async fn send(socket: &Path, ask: Ask<'_>) -> Result<Response<Incoming>, Problem> {
    let mut request = Request::builder().method(ask.method).uri(ask.path).header("host", "localhost");
    for (name, value) in ask.headers {
        request = request.header(*name, value);
    }
    let request = request.body(Full::new(Bytes::from(ask.body))).map_err(|error| {
        Problem::bad_request("this cannot be sent as an HTTP request").because(vec![error.to_string()])
    })?;
    let stream = UnixStream::connect(socket).await.map_err(|error| nobody(socket, &error))?;
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| cut_off(&error))?;
    tokio::spawn(connection);
    let response = sender.send_request(request).await.map_err(|error| cut_off(&error))?;
    if response.status() < StatusCode::BAD_REQUEST {
        return Ok(response);
    }
    let status = response.status();
    let body = response.into_body().collect().await.map_err(|error| cut_off(&error))?.to_bytes();
    Err(serde_json::from_slice(&body).unwrap_or_else(|_| {
        let detail = format!("what answers at {} is no replug host", socket.display());
        let answer = String::from_utf8_lossy(&body[..body.len().min(FOREIGN_BYTES_SHOWN)]).into_owned();
        Problem::new(Code::HostUnreachable, detail).because(vec![format!("it says {status}"), answer])
    }))
}

/// How much is shown of an answer that no host gave.
const FOREIGN_BYTES_SHOWN: usize = 200;

fn nobody(socket: &Path, error: &io::Error) -> Problem {
    let detail = format!("no host answers at {}", socket.display());
    Problem::new(Code::HostUnreachable, detail).because(vec![error.to_string()])
}

fn cut_off(error: &hyper::Error) -> Problem {
    let mut why = vec![error.to_string()];
    why.extend(causes(error as &dyn Error, &why[0]));
    Problem::new(Code::HostUnreachable, "the host went away before it had answered")
        .because(why)
        .next("read in the host's log why it ended; what was asked of it may have been done")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_one_segment_whatever_they_contain() {
        assert_eq!(path(&["v1", "plugins", "limiter", "call", "take"]), "/v1/plugins/limiter/call/take");
        assert_eq!(path(&["a/b", "c?d#e", "%20", "ö x"]), "/a%2Fb/c%3Fd%23e/%2520/%C3%B6%20x");
    }
}
