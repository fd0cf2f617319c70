//! HTTP as a client sees it, without a library in between.

use crate::process::text;
use replug_tests::harness::PATIENCE;
use std::{
    io::{BufRead, BufReader, Read, Write},
    os::unix::net::UnixStream,
    path::Path,
};

/// What a host answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Status line and headers, in lower case.
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// Asks and reads the whole answer. `headers` end with a line break each.
pub(crate) fn ask(socket: &Path, line: &str, headers: &str, body: &str) -> Answer {
    let mut reader = send(socket, line, headers, body);
    let (status, head) = head(&mut reader);
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).expect("the rest of the answer");
    Answer { status, head, body: text(&bytes) }
}

/// Asks for a stream; what follows the headers can be read from it.
pub(crate) fn follow(socket: &Path, line: &str) -> (u16, BufReader<UnixStream>) {
    let mut reader = send(socket, line, "", "");
    let (status, _) = head(&mut reader);
    (status, reader)
}

/// Asks and waits for nothing.
pub(crate) fn send(socket: &Path, line: &str, headers: &str, body: &str) -> BufReader<UnixStream> {
    let mut stream = UnixStream::connect(socket).expect("connects");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let length = body.len();
    // In one piece: what is refused by its head may be answered, and the connection
    // ended, before a second piece comes.
    let request = format!(
        "{line} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n{body}"
    );
    stream.write_all(request.as_bytes()).expect("asks");
    BufReader::new(stream)
}

fn head(reader: &mut impl BufRead) -> (u16, String) {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        let read = reader.read_line(&mut head).expect("a line of the head");
        assert!(read > 0, "the connection ended in the head: {head:?}");
    }
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    (status, head.to_lowercase())
}
