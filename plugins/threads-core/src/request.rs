//! The bodies of methods that are called with JSON.

use replug_plugin_api::{Call, OwnedCall, Reply, Result, serde::Deserialize};
use std::time::Duration;

/// How long a call may be told to wait: ten minutes.
const WAIT_MAX: Duration = Duration::from_secs(600);

/// `{"ms": 5}`.
#[derive(Debug, Deserialize)]
#[serde(crate = "replug_plugin_api::serde", deny_unknown_fields)]
pub struct Sleep {
    ms: u64,
}

impl Sleep {
    /// The time, at most ten minutes.
    pub fn time(&self) -> Duration {
        Duration::from_millis(self.ms).min(WAIT_MAX)
    }
}

/// `{"plugin": "markdown", "method": "render", "body": "*hi*"}`; `body` may be
/// left out.
#[derive(Debug, Deserialize)]
#[serde(crate = "replug_plugin_api::serde", deny_unknown_fields)]
pub struct Nested {
    plugin: String,
    method: String,
    #[serde(default)]
    body: String,
}

impl Nested {
    /// Makes the call that is asked for.
    ///
    /// # Errors
    /// Those of the plugin that is called, and the host's.
    pub fn run(&self, call: &Call<'_>) -> Result<Reply> {
        let Nested { plugin, method, body } = self;
        call.context().call(plugin, method, body.as_bytes())
    }

    /// The same without holding a thread.
    ///
    /// # Errors
    /// As [`run`](Nested::run).
    pub async fn relay(&self, call: &OwnedCall) -> Result<Reply> {
        let Nested { plugin, method, body } = self;
        call.context().call_async(plugin, method, body.as_bytes()).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_call_waits_longer_than_the_bound() {
        assert_eq!(Sleep { ms: 5 }.time(), Duration::from_millis(5));
        assert_eq!(Sleep { ms: u64::MAX }.time(), WAIT_MAX);
    }
}
