//! A plugin that leaves a signal handler behind: unmapped, the next `SIGUSR2`
//! would run what is no longer there. A binary of its own, because a host can
//! refuse the import of `signal` before it loads anything.
//!
//! # Methods
//!
//! | method | body | answer |
//! |---|---|---|
//! | `install` | ignored | `installed`: `SIGUSR2` has a handler in this library |
//! | `restore` | ignored | `restored`: it has the default one again |

use replug_plugin_api::prelude::*;

struct Signal;

impl Plugin for Signal {
    type Config = ();

    fn prepare((): (), _: &Context) -> Result<Self> {
        Ok(Signal)
    }

    fn methods(methods: &mut Methods<Self>) {
        methods
            .method("install", "Installs a handler", |_, _| {
                set(ignore as *const () as libc::sighandler_t).map(|()| "installed")
            })
            .method("restore", "Takes it away", |_, _| set(libc::SIG_DFL).map(|()| "restored"));
    }
}

fn set(handler: libc::sighandler_t) -> Result<()> {
    // SAFETY: the handler is the default or a function of the right type that
    // does nothing. That it may outlive its library is the fault on show.
    if unsafe { libc::signal(libc::SIGUSR2, handler) } == libc::SIG_ERR {
        return Err(std::io::Error::last_os_error().into());
    }
    Ok(())
}

extern "C" fn ignore(_: libc::c_int) {}

export!(Signal, name = "signal", version = "1.0.0");
