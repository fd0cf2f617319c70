//! The sample plugin `threads`, version 2.0.0: stateless, and hard to unload.
//!
//! It holds threads, thread-locals, sockets, a pool and statics, as plugins of
//! real life do, and takes no care of them beyond what the SDK asks for: see
//! `threads-core`. It keeps no state between versions. Unlike 1.0.0 it answers
//! `churn` with JSON, and names the thread that answered `sleep`.
//!
//! # Methods
//!
//! | method | kind | body | answer |
//! |---|---|---|---|
//! | `churn` | sync | text | `{"version": "2.0.0", "call": 3, "call_of_thread": 1, "thread": "main", "words": 5}` |
//! | `parallel` | sync | a number as decimal text, below 2^32 | the sum of the squares up to it |
//! | `sleep` | async | `{"ms": 5}` | `slept on threads-async` |
//! | `echo` | async | any | the same bytes, over a TCP socket |
//! | `nested` | sync | `{"plugin": "markdown", "method": "render", "body": "*hi*"}` | the other plugin's |
//! | `relay` | async | as `nested` | the other plugin's |
//! | `slow` | sync | `{"ms": 5}` | `waited`; holds the caller's thread |
//! | `stats` | sync | ignored | `{"version": "2.0.0", "beats": 7, "destructors_run": 2}` |
//!
//! # Configuration
//!
//! | key | default | says |
//! |---|---|---|
//! | `spawn_every` | 16 | every how many calls `churn` runs a thread; 0 for never |
//! | `pool_threads` | 2 | threads behind `parallel` |
//! | `heartbeat_ms` | 50 | milliseconds between two beats of the background thread |

#![deny(unsafe_code)]

use replug_plugin_api::{prelude::*, serde_json, tokio};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use threads_core::{Churn, Config, Nested, Pool, Sleep};

struct Threads {
    config: Config,
    context: Context,
    churn: Churn,
    pool: Pool,
    beats: Arc<AtomicU64>,
}

impl Plugin for Threads {
    type Config = Config;

    fn prepare(config: Config, context: &Context) -> Result<Self> {
        Ok(Threads {
            churn: Churn::new(config.spawn_every),
            pool: Pool::default(),
            beats: Arc::default(),
            context: context.clone(),
            config,
        })
    }

    fn methods(methods: &mut Methods<Self>) {
        methods
            .method("churn", "Uses everything that sticks", |threads, call| threads.churn(call.text()?))
            .method("parallel", "Sums squares on a pool", |threads, call| {
                let n = call.text()?.trim().parse()?;
                Ok(threads.pool.sum_of_squares(n)?.to_string())
            })
            .method("nested", "Calls another plugin", |_, call| call.json::<Nested>()?.run(call))
            .method("slow", "Holds the caller's thread", |_, call| {
                threads_core::sleep_blocking(call.json::<Sleep>()?.time());
                Ok("waited")
            })
            .method("stats", "Beats and destructors", |threads, call| threads.stats(call.context().version()))
            .async_method("sleep", "Waits for a timer", |_, call| async move {
                tokio::time::sleep(call.json::<Sleep>()?.time()).await;
                let thread = std::thread::current();
                Ok(format!("slept on {}", thread.name().unwrap_or("unnamed")))
            })
            .async_method("relay", "Calls another plugin, and awaits it", |_, call| async move {
                call.json::<Nested>()?.relay(&call).await
            })
            .async_method("echo", "Echoes over a socket", |_, call| async move {
                threads_core::echo(call.body().to_vec()).await
            });
    }

    fn activate(&self) -> Result<()> {
        let pause = Duration::from_millis(self.config.heartbeat_ms);
        threads_core::heartbeat(&self.context, pause, &self.beats)?;
        self.pool.start(self.config.pool_threads)
    }

    fn stop(&self) -> Result<()> {
        self.pool.stop();
        Ok(())
    }
}

impl Threads {
    fn churn(&self, text: &str) -> Result<Reply> {
        let churned = self.churn.run(text)?;
        Reply::json(&serde_json::json!({
            "version": self.context.version(),
            "call": churned.call,
            "call_of_thread": churned.call_of_thread,
            "thread": churned.thread,
            "words": churned.words,
        }))
    }

    fn stats(&self, version: &str) -> Result<Reply> {
        Reply::json(&serde_json::json!({
            "version": version,
            "beats": self.beats.load(Ordering::Relaxed),
            "destructors_run": self.churn.destructors_run(),
        }))
    }
}

export!(Threads, name = "threads", version = "2.0.0");
