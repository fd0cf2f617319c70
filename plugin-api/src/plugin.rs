//! The traits that an author implements.

use crate::{Context, Methods, Result, state::State};

/// A plugin: what is built from configuration and answers calls.
///
/// All but [`Config`](Plugin::Config) and [`prepare`](Plugin::prepare) has a
/// default. The host calls the hooks in this order, on threads of its own:
///
/// `prepare` → [`Snapshot::restore`] → `activate` → `self_test` → calls →
/// `freeze` (or back by `thaw`) → [`Snapshot::export`] → `stop` → dropped.
///
/// A panic in any of them is caught and reported with the hook's name; before
/// the plugin is published it means that the version is refused and the one
/// before it serves on.
///
/// ```
#[doc = include_str!("../examples/hello.rs")]
/// # fn main() {}
/// ```
pub trait Plugin: Send + Sync + Sized + 'static {
    /// The plugin's settings. `()` for none. A plugin without settings in the
    /// host's configuration gets an empty map; a type that cannot be read from
    /// one, such as `()`, gets null.
    type Config: serde::de::DeserializeOwned;

    /// Builds an instance. No effects outside the process: rehearsals run this
    /// too, where no other plugin can be called.
    ///
    /// # Errors
    /// Refuses the version.
    fn prepare(config: Self::Config, context: &Context) -> Result<Self>;

    /// Registers the methods that callers may name.
    fn methods(methods: &mut Methods<Self>) {
        let _ = methods;
    }

    /// Takes what only one version can have: ports, files, background threads.
    ///
    /// # Errors
    /// Refuses the version; the old one goes on.
    fn activate(&self) -> Result<()> {
        Ok(())
    }

    /// Checks the instance before callers reach it. A host that rehearses versions asks
    /// this of an instance that was not activated, too, where it may open no socket,
    /// write no file and call no other plugin.
    ///
    /// # Errors
    /// Refuses the version; the old one goes on.
    fn self_test(&self) -> Result<()> {
        Ok(())
    }

    /// Stops background work that changes state. No call is in flight.
    ///
    /// # Errors
    /// Abandons the swap; `thaw` is called.
    fn freeze(&self) -> Result<()> {
        Ok(())
    }

    /// Undoes [`freeze`](Plugin::freeze): the next version could not take over.
    ///
    /// # Errors
    /// Are reported; the version serves on.
    fn thaw(&self) -> Result<()> {
        Ok(())
    }

    /// Ends what the instance runs, after its last call. Threads that were
    /// spawned through the context, and the async runtime, are ended after it,
    /// whatever it returns, and also when it panics.
    ///
    /// # Errors
    /// Are reported; the instance is dropped all the same.
    fn stop(&self) -> Result<()> {
        Ok(())
    }
}

/// A plugin that keeps state in the instance and hands it over as a whole.
///
/// Named in the export line with `state = snapshot`. See [`state`](crate::state)
/// for how a later version reads what an earlier one wrote.
///
/// ```
/// use replug_plugin_api::{prelude::*, state::State};
/// use serde::{Deserialize, Serialize};
/// use std::sync::atomic::{AtomicU64, Ordering};
///
/// #[derive(Serialize, Deserialize, State)]
/// #[state(version = 1)]
/// struct Counted {
///     count: u64,
/// }
///
/// struct Counter(AtomicU64);
///
/// impl Plugin for Counter {
///     type Config = ();
///     fn prepare((): (), _: &Context) -> Result<Self> {
///         Ok(Counter(AtomicU64::new(0)))
///     }
///     fn methods(methods: &mut Methods<Self>) {
///         methods.method("add", "Counts one more", |counter, _| {
///             Ok((counter.0.fetch_add(1, Ordering::Relaxed) + 1).to_string())
///         });
///     }
/// }
///
/// impl Snapshot for Counter {
///     type State = Counted;
///     fn export(&self) -> Result<Counted> {
///         Ok(Counted { count: self.0.load(Ordering::Relaxed) })
///     }
///     fn restore(&mut self, state: Counted) -> Result<()> {
///         self.0 = AtomicU64::new(state.count);
///         Ok(())
///     }
/// }
///
/// export!(Counter, name = "counter", state = snapshot);
/// # fn main() {}
/// ```
pub trait Snapshot: Plugin {
    /// The state, a versioned type.
    type State: State;

    /// The state as it is now. Beside calls when the host saves on its
    /// interval; alone when it hands over. State whose bytes have not changed is
    /// not saved again, so give what has no order always in the same one.
    ///
    /// # Errors
    /// Abandons the hand-over; this version serves on.
    fn export(&self) -> Result<Self::State>;

    /// Takes state over, before `activate`.
    ///
    /// # Errors
    /// Refuses the version; the old one serves on with its state.
    fn restore(&mut self, state: Self::State) -> Result<()>;
}
