//! The plugin's own async runtime: started by the first async call, shut down
//! when the instance stops. No thread of the host ever runs on it.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};
use tokio::runtime::{Builder, Handle};

/// Threads of the runtime. Handlers share them; long work belongs on
/// `spawn_blocking`.
const WORKER_THREADS: usize = 2;

pub(crate) struct Runtime {
    plugin: &'static str,
    state: Mutex<State>,
}

enum State {
    NotStarted,
    Running(tokio::runtime::Runtime),
    Stopped,
}

impl Runtime {
    pub(crate) fn new(plugin: &'static str) -> Self {
        Runtime { plugin, state: Mutex::new(State::NotStarted) }
    }

    /// A handle to the running runtime.
    pub(crate) fn handle(&self) -> std::io::Result<Handle> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match &*state {
            State::Running(runtime) => Ok(runtime.handle().clone()),
            State::Stopped => Err(std::io::Error::other("the plugin is stopping")),
            State::NotStarted => {
                let runtime = Builder::new_multi_thread()
                    .worker_threads(WORKER_THREADS)
                    .thread_name(format!("{}-async", self.plugin))
                    .enable_all()
                    .build()?;
                let handle = runtime.handle().clone();
                *state = State::Running(runtime);
                Ok(handle)
            }
        }
    }

    /// Cancels what still runs and waits for the runtime's threads.
    pub(crate) fn stop(&self, wait: Duration) {
        let state = std::mem::replace(
            &mut *self.state.lock().unwrap_or_else(PoisonError::into_inner),
            State::Stopped,
        );
        if let State::Running(runtime) = state {
            runtime.shutdown_timeout(wait);
        }
    }
}
