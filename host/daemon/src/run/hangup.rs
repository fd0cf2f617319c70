//! What SIGHUP does: whom the configuration file trusts is read again.

use crate::{config::Config, problem::Problem};
use replug_host::Host;
use std::path::{Path, PathBuf};
use tokio::signal::unix::Signal;

/// Obeys the signal for as long as the host runs, beside those that end it: a host that is
/// in the middle of a hook takes its time.
pub(super) async fn obey(mut hangup: Signal, config: Option<PathBuf>, is_development: bool, host: Host) {
    while hangup.recv().await.is_some() {
        match &config {
            Some(path) => read_again(path, is_development, &host).await,
            None => tracing::info!("SIGHUP changes nothing: no configuration file is named"),
        }
    }
}

/// Reads the file again and hands the host what it says of trust; everything else in it
/// takes the next start. A file with a mistake changes nothing.
async fn read_again(path: &Path, is_development: bool, host: &Host) {
    let read = Config::read(path).map_err(|error| Problem::of(&error).next(error.next_step()));
    let applied = match read {
        Ok(config) => host.set_trust(config.trust(is_development)).await.map_err(Problem::from),
        Err(problem) => Err(problem),
    };
    match applied {
        Ok(()) => tracing::info!("{} was read again: who is trusted counts from now on", path.display()),
        Err(problem) => {
            let (what, why, next) = (&problem.detail, problem.why.join(": "), &problem.next);
            tracing::error!(code = problem.code, why, next, "what was trusted before still is: {what}");
        }
    }
}
