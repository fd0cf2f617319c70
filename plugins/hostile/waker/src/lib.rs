//! A plugin that calls others and leaves its wakers with them: at a closed
//! gate, or in a call that it forgets. Unmapped, the next to wake one would run
//! what is no longer there. Safe code, all of it.
//!
//! # Methods
//!
//! | method | body | answer |
//! |---|---|---|
//! | `relay` | a `Relay` as JSON | the other plugin's, which gets a body of so many `bytes` |
//! | `echo` | anything | the same |
//! | `time_left` | ignored | milliseconds until its deadline, or `none` |
//! | `ask` | an `Ask` as JSON | `waits`, or the other plugin's answer if that came at once |
//!
//! `ask` waits for the file `after`, begins to call `method` of `plugin`, and
//! drops or forgets that call when it waits.

use replug_plugin_api::prelude::*;
use serde::Deserialize;
use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{self, Poll, Wake},
    thread,
    time::Duration,
};

#[derive(Deserialize)]
struct Ask {
    plugin: String,
    method: String,
    #[serde(default)]
    body: String,
    after: PathBuf,
    forget: bool,
}

#[derive(Deserialize)]
struct Relay {
    plugin: String,
    method: String,
    bytes: usize,
}

struct Waker;

impl Plugin for Waker {
    type Config = ();

    fn prepare((): (), _: &Context) -> Result<Self> {
        Ok(Waker)
    }

    fn methods(methods: &mut Methods<Self>) {
        methods
            .method("ask", "Begins to call another", |_, call| call.json::<Ask>()?.run(call.context()))
            .method("relay", "Calls another", |_, call| {
                let relay: Relay = call.json()?;
                let body = vec![b'x'; relay.bytes];
                call.context().call(&relay.plugin, &relay.method, &body)
            })
            .method("echo", "Answers what it gets", |_, call| Ok(call.body().to_vec()))
            .method("time_left", "Says how long it may take", |_, call| {
                Ok(call.time_left().map_or("none".to_owned(), |left| left.as_millis().to_string()))
            });
    }
}

impl Ask {
    fn run(self, context: &Context) -> Result<Reply> {
        while !self.after.exists() {
            thread::sleep(Duration::from_millis(2));
        }
        let (context, body) = (context.clone(), self.body.into_bytes());
        let mut call = Box::pin(async move { context.call_async(&self.plugin, &self.method, &body).await });
        let waker = task::Waker::from(Arc::new(Count(AtomicU64::new(0))));
        let mut task = task::Context::from_waker(&waker);
        if let Poll::Ready(answer) = call.as_mut().poll(&mut task) {
            return answer;
        }
        if self.forget {
            std::mem::forget(call);
        } else {
            drop(call);
        }
        Ok(Reply::from("waits"))
    }
}

/// An executor's waker: code and heap of this library.
struct Count(AtomicU64);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

export!(Waker, name = "waker", version = "1.0.0");
