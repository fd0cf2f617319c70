//! Followers of events: any number of streams wait on one thread.
//!
//! The engine's reader of events waits on a thread. Here one thread waits for
//! all, and wakes the streams; each has its own place in the log and reads it
//! without waiting. A slow client holds nobody up: it loses the oldest events
//! and is told how many.

use crate::problem::{Checked, Problem};
use axum::{
    body::{Body, Bytes},
    extract::{Query, State},
    http::header,
    response::{IntoResponse, Response},
};
use replug_host::{
    Host,
    event::{Events, Next},
    failure::Code,
};
use serde::Deserialize;
use std::{
    convert::Infallible,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    thread,
    time::Duration,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};

/// Streams of events at once.
const FOLLOWERS_MAX: usize = 64;

/// Lines that wait for a slow client.
const LINES_MAX: usize = 256;

/// How often the thread looks whether anybody can still follow.
const LOOK: Duration = Duration::from_secs(1);

/// What streams of events share.
#[derive(Clone)]
pub(super) struct Followers {
    /// Changes whenever something happened; closed when nothing will any more.
    news: watch::Receiver<()>,
    places: Arc<Semaphore>,
}

impl Followers {
    /// Starts the thread, which ends with the host or with the last follower.
    pub(super) fn of(host: &Host) -> io::Result<Followers> {
        let (bell, news) = watch::channel(());
        let events = host.events();
        thread::Builder::new().name("replug-events".to_owned()).spawn(move || ring(events, &bell))?;
        Ok(Followers { news, places: Arc::new(Semaphore::new(FOLLOWERS_MAX)) })
    }

    fn take_place(&self) -> Result<OwnedSemaphorePermit, Problem> {
        Arc::clone(&self.places).try_acquire_owned().map_err(|_| {
            let detail = format!("{FOLLOWERS_MAX} clients read events, which is the limit");
            Problem::new(Code::HostOverloaded, detail)
        })
    }
}

fn ring(mut events: Events, bell: &watch::Sender<()>) {
    while !bell.is_closed() {
        match events.next_within(LOOK) {
            // Without a follower nobody listens.
            Next::Event(_) | Next::Lost(_) => _ = bell.send(()),
            Next::Nothing => {}
            Next::Ended => return,
        }
    }
}

/// Which events are wanted.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    /// The first event's number.
    #[serde(default = "first")]
    since: u64,
    /// Whether to go on with what happens from now on.
    #[serde(default = "yes")]
    follow: bool,
}

fn first() -> u64 {
    1
}

fn yes() -> bool {
    true
}

/// Events as lines of JSON: those that are kept, then what happens.
pub(super) async fn events(
    State(host): State<Host>,
    State(followers): State<Followers>,
    Checked(Query(wanted)): Checked<Query<Wanted>>,
) -> Result<Response, Problem> {
    let place = followers.take_place()?;
    let (lines, written) = mpsc::channel(LINES_MAX);
    let events = host.events_since(wanted.since);
    tokio::spawn(async move {
        copy(events, followers.news, wanted.follow, lines).await;
        drop(place);
    });
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], Body::new(Lines(written))).into_response())
}

/// Until the client is gone, the host has ended, or all that was asked for is
/// written.
async fn copy(
    mut events: Events,
    mut news: watch::Receiver<()>,
    mut follow: bool,
    lines: mpsc::Sender<Bytes>,
) {
    loop {
        let line = match events.next_within(Duration::ZERO) {
            Next::Event(event) => match serde_json::to_string(&*event) {
                Ok(line) => line,
                Err(_) => continue,
            },
            Next::Lost(count) => format!(r#"{{"event":"lost","count":{count}}}"#),
            Next::Nothing if follow => {
                tokio::select! {
                    // Without a bell what is kept is the end.
                    changed = news.changed() => follow = changed.is_ok(),
                    () = lines.closed() => return,
                }
                continue;
            }
            Next::Nothing | Next::Ended => return,
        };
        if lines.send(Bytes::from(line + "\n")).await.is_err() {
            return;
        }
    }
}

/// Lines as the body of an answer.
struct Lines(mpsc::Receiver<Bytes>);

impl hyper::body::Body for Lines {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<hyper::body::Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|line| line.map(|line| Ok(hyper::body::Frame::data(line))))
    }
}
