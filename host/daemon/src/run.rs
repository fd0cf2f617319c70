//! `replug run`: a host until it is told to end.

use crate::{
    api,
    cli::{RunArgs, SOCKET},
    config::Config,
};
use replug_host::{
    Host, HostError,
    event::{EventKind, Next},
    failure::Failure,
};
use std::{
    fs::{self, Permissions},
    io::{self, IsTerminal},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};
use tokio::{
    net::{UnixListener, UnixStream},
    signal::unix::{SignalKind, signal},
};

/// Runs the host; 0 after an orderly end.
pub(crate) fn run(args: &RunArgs) -> ExitCode {
    start_logging(&args.log);
    match serve(args) {
        Ok(code) => code,
        Err(Refusal { code, what, next }) => {
            eprintln!("error[{code}]: {what}\n  next: {next}");
            ExitCode::FAILURE
        }
    }
}

struct Refusal {
    code: &'static str,
    what: String,
    next: String,
}

impl From<HostError> for Refusal {
    fn from(error: HostError) -> Self {
        let mut what = error.to_string();
        if let Some(cause) = std::error::Error::source(&error) {
            what = format!("{what}: {cause}");
        }
        Refusal { code: error.code().as_str(), what, next: error.code().next_step().to_owned() }
    }
}

fn start_logging(filter: &str) {
    let filter = tracing_subscriber::EnvFilter::new(filter);
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    if io::stderr().is_terminal() {
        builder.init();
    } else {
        builder.json().init();
    }
}

fn serve(args: &RunArgs) -> Result<ExitCode, Refusal> {
    let config = match &args.config {
        None => Config::default(),
        Some(path) => Config::read(path).map_err(|error| Refusal {
            code: "config.invalid",
            what: error.to_string(),
            next: "correct the file at the named place".to_owned(),
        })?,
    };
    let plugins = args.plugins.clone().or(config.plugins.clone()).ok_or_else(|| Refusal {
        code: "config.invalid",
        what: "no plugin directory is named".to_owned(),
        next: "pass --plugins DIR, or set plugins in the configuration file".to_owned(),
    })?;
    let data = args.data.clone().or(config.data.clone()).unwrap_or_else(|| PathBuf::from(".replug"));
    let host = config.apply(Host::builder(plugins).data_dir(&data)).start()?;
    let logged = host.events_since(1);
    std::thread::spawn(move || log_events(logged));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(io_refusal)?;
    let code = runtime.block_on(until_told(&host, &data.join(SOCKET)))?;
    runtime.shutdown_timeout(Duration::from_secs(1));
    Ok(code)
}

/// How long the last answers may take to be written.
const LAST_ANSWERS_MAX: Duration = Duration::from_millis(500);

/// Serves the socket until a signal, and ends the host in order.
async fn until_told(host: &Host, socket: &Path) -> Result<ExitCode, Refusal> {
    let mut term = signal(SignalKind::terminate()).map_err(io_refusal)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(io_refusal)?;
    let listener = listen(socket).await.map_err(io_refusal)?;
    let router = api::router(host.clone());
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let server = tokio::spawn(async move {
        let stopped = async { drop(stopped.await) };
        axum::serve(Peers(listener), router).with_graceful_shutdown(stopped).await
    });
    println!("ready: {}", socket.display());
    tokio::select! {
        _ = term.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("draining, saving and ending; a second signal ends at once");
    let ending = {
        let host = host.clone();
        tokio::task::spawn_blocking(move || host.shutdown())
    };
    tokio::select! {
        ended = ending => drop(ended),
        _ = term.recv() => std::process::exit(1),
        _ = interrupt.recv() => std::process::exit(1),
    }
    // Answers that are being written get out; followers of events do not hold
    // the end up.
    drop(stop);
    let _ = tokio::time::timeout(LAST_ANSWERS_MAX, server).await;
    // Gone already is as good.
    let _ = fs::remove_file(socket);
    Ok(ExitCode::SUCCESS)
}

/// The socket, for its owner only. One that nobody answers is left over from
/// a process that died: the data directory's lock says that there is no other.
async fn listen(path: &Path) -> io::Result<UnixListener> {
    if UnixStream::connect(path).await.is_err() {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Connections of this user and of root.
struct Peers(UnixListener);

impl axum::serve::Listener for Peers {
    type Io = UnixStream;
    type Addr = tokio::net::unix::SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            match self.0.accept().await {
                Ok((stream, address)) if is_allowed(&stream) => return (stream, address),
                Ok(_) => tracing::warn!("a connection of another user was refused"),
                Err(error) => {
                    tracing::warn!(%error, "a connection failed");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.0.local_addr()
    }
}

fn is_allowed(stream: &UnixStream) -> bool {
    let own = fs::metadata("/proc/self").map(|metadata| std::os::unix::fs::MetadataExt::uid(&metadata)).ok();
    stream.peer_cred().is_ok_and(|peer| peer.uid() == 0 || Some(peer.uid()) == own)
}

fn io_refusal(error: io::Error) -> Refusal {
    Refusal {
        code: "host.data_directory",
        what: format!("the socket or the runtime cannot be set up: {error}"),
        next: "check the data directory and the limits of the process".to_owned(),
    }
}

fn log_events(mut events: replug_host::event::Events) {
    loop {
        match events.next_within(Duration::from_secs(1)) {
            Next::Event(event) => {
                let version = event.version.as_deref().unwrap_or("");
                let details = serde_json::to_string(&event.kind).unwrap_or_default();
                match &event.kind {
                    EventKind::Refused { failure, .. } | EventKind::DeployFailed { failure, .. } => {
                        tracing::warn!(
                            version,
                            code = failure.code,
                            next = failure.next,
                            "{}",
                            failure.message
                        );
                    }
                    EventKind::Resident { .. }
                    | EventKind::StuckCall { .. }
                    | EventKind::StateProblem { .. } => {
                        tracing::warn!(version, details, "{}", event.kind.name());
                    }
                    kind => tracing::info!(version, details, "{}", kind.name()),
                }
            }
            Next::Lost(count) => tracing::warn!(count, "events were lost to the log"),
            Next::Nothing => {}
            Next::Ended => return,
        }
    }
}
