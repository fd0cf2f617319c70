//! What SIGHUP does: whom the configuration file trusts is read again.

use crate::{cli::RunArgs, config::Config, problem::Problem};
use replug_host::Host;

/// Reads the file again and hands the host what it says of trust; everything else in it
/// takes the next start. A file with a mistake changes nothing.
pub(super) async fn read_again(args: &RunArgs, host: &Host) {
    let Some(path) = &args.config else {
        return tracing::info!("SIGHUP changes nothing: no configuration file is named");
    };
    let read = Config::read(path).map_err(|error| Problem::of(&error).next(error.next_step()));
    let applied = match read {
        Ok(config) => host.set_trust(config.trust(args.dev)).await.map_err(Problem::from),
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
