//! `replug run`: a host until it is told to end.
//!
//! The first signal drains, saves and unloads; the second ends at once. The
//! exit code is 0 only when the end was in order.

mod log;
mod socket;
mod hangup;
mod end;

use crate::{
    api,
    cli::{RunArgs, SOCKET},
    config::Config,
    output,
    problem::Problem,
    refusal::refuse,
};
use replug_host::{
    Host, HostBuilder, HostError,
    failure::{Code, Failure},
    rehearse::Rehearsal,
};
use socket::Socket;
use std::{
    io,
    path::PathBuf,
    process::{self, ExitCode},
    time::Duration,
};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// How long the last answers may take to be written.
const LAST_ANSWERS_MAX: Duration = Duration::from_millis(500);

/// How long the end waits for threads that serve calls which do not return.
const THREADS_MAX: Duration = Duration::from_millis(500);

/// The exit code after a second signal.
const CUT_SHORT: i32 = 1;

/// Runs the host; 0 after an orderly end.
pub(crate) fn run(args: &RunArgs) -> ExitCode {
    log::start(&args.log);
    match serve(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => refuse(&problem),
    }
}

/// The process cannot do what a host needs of it.
#[derive(Debug, thiserror::Error)]
enum ProcessError {
    #[error("cannot start the threads that answer requests and write the log")]
    Threads(#[source] io::Error),
    #[error("cannot listen for the signals that end the host")]
    Signals(#[source] io::Error),
}

impl Failure for ProcessError {
    fn code(&self) -> Code {
        Code::HostThread
    }
}

fn threads(error: io::Error) -> Problem {
    Problem::of(&ProcessError::Threads(error))
}

fn serve(args: &RunArgs) -> Result<(), Problem> {
    let Settings { options, rehearsal, socket } = settings(args)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(threads)?;
    // Before anything runs that a signal would have to end in order.
    let (mut signals, hangup) = runtime.block_on(async { Signals::new() })?;
    let host = options.start().map_err(not_started)?;
    log::follow(&host).map_err(threads)?;
    runtime.spawn(hangup::obey(hangup, args.config.clone(), args.dev, host.clone()));
    let ended = runtime.block_on(until_told(&host, socket, rehearsal, &mut signals));
    runtime.shutdown_timeout(THREADS_MAX);
    ended
}

/// Whom to trust is asked for in the file, which knows better what to do.
fn not_started(error: HostError) -> Problem {
    let is_about_trust = matches!(error, HostError::Option { option: "trust", .. });
    let problem = Problem::from(error);
    if is_about_trust {
        return problem.next("name keys or digests under [trust] in the configuration file, or pass --dev");
    }
    problem
}

/// What flags, environment and file say.
struct Settings {
    options: HostBuilder,
    /// How files are checked by hand.
    rehearsal: Rehearsal,
    /// Where to listen.
    socket: PathBuf,
}

fn settings(args: &RunArgs) -> Result<Settings, Problem> {
    let config = match &args.config {
        None => Config::default(),
        Some(path) => Config::read(path).map_err(|error| Problem::of(&error).next(error.next_step()))?,
    };
    let plugins = args.plugins.clone().or(config.plugins.clone()).ok_or_else(|| {
        Problem::new(Code::ConfigInvalid, "no plugin directory is named")
            .next("pass --plugins DIR, or set plugins in the configuration file")
    })?;
    let data = args.data.clone().or(config.data.clone()).unwrap_or_else(|| PathBuf::from(".replug"));
    let socket = args.socket.clone().or(config.socket.clone()).unwrap_or_else(|| data.join(SOCKET));
    let rehearsal = config.rehearsal();
    let options = config.apply(Host::builder(&plugins).data_dir(data), args.dev);
    if !options.is_production() {
        tracing::warn!(
            "for development: whatever is dropped into {} is loaded, signed or not",
            plugins.display()
        );
    }
    Ok(Settings { options, rehearsal, socket })
}

/// The signals that end a host.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// With the one that does not. Needs the runtime.
    fn new() -> Result<(Self, Signal), Problem> {
        let listen = |kind| signal(kind).map_err(|error| Problem::of(&ProcessError::Signals(error)));
        let (terminate, interrupt) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
        Ok((Signals { terminate, interrupt }, listen(SignalKind::hangup())?))
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Serves the socket until a signal, and ends the host in order.
async fn until_told(
    host: &Host,
    path: PathBuf,
    rehearsal: Rehearsal,
    signals: &mut Signals,
) -> Result<(), Problem> {
    let socket = Socket::listen(path).await.map_err(|error| Problem::of(&error))?;
    let left_over = socket.left_over();
    let router = api::router(host.clone(), rehearsal).map_err(threads)?;
    output::write(format!("ready: {}\n", socket.path().display()));
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let server = tokio::spawn(async move {
        let stopped = async { drop(stopped.await) };
        axum::serve(socket, router).with_graceful_shutdown(stopped).await
    });
    signals.next().await;
    tracing::info!("draining, saving and ending; a second signal ends at once");
    let ending = {
        let host = host.clone();
        tokio::task::spawn_blocking(move || end::end(&host))
    };
    let ended = tokio::select! {
        ended = ending => ended,
        () = signals.next() => process::exit(CUT_SHORT),
    };
    // Answers that are being written get out; followers of events do not hold
    // the end up.
    drop(stop);
    let _ = tokio::time::timeout(LAST_ANSWERS_MAX, server).await;
    drop(left_over);
    ended.unwrap_or_else(|panic| Err(end::unclean(vec![panic.to_string()])))
}
