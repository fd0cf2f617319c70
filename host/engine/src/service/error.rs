//! Why a call was not answered.

use super::message::Reply;
use crate::{
    dispatch::Refused,
    failure::{Code, Failure},
    id::{PluginName, VersionId},
    load::Answer,
};
use replug_abi::Status;

/// A call has no answer. What the plugin did before it failed is not undone.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// There is no plugin of this name in the host.
    #[error("there is no plugin {name:?}")]
    UnknownPlugin {
        /// The name that was asked for.
        name: String,
    },
    /// The call did not reach the plugin.
    #[error("plugin {plugin}: {source}")]
    Refused {
        /// The plugin.
        plugin: PluginName,
        /// Why.
        source: Refused,
    },
    /// The plugin has no method of this name.
    #[error("plugin {plugin}: {message}")]
    UnknownMethod {
        /// The plugin.
        plugin: PluginName,
        /// The plugin's words: the methods that there are.
        message: String,
    },
    /// The version does not offer a typed interface.
    #[error("plugin {plugin}: version {version} does not offer interface {interface}")]
    UnknownInterface {
        /// The plugin.
        plugin: PluginName,
        /// The version that served the call.
        version: Box<VersionId>,
        /// Id and version of the interface as the host knows it.
        interface: String,
    },
    /// The plugin answered with an error of its own.
    #[error("plugin {plugin}: {code}: {message}")]
    Plugin {
        /// The plugin.
        plugin: PluginName,
        /// The plugin's code.
        code: String,
        /// The plugin's message.
        message: String,
        /// Whether the plugin says that the same call may succeed later.
        retryable: bool,
    },
    /// The plugin panicked in this call. The panic was caught.
    #[error("plugin {plugin} panicked in {method}: {message}")]
    Panicked {
        /// The plugin.
        plugin: PluginName,
        /// The method.
        method: String,
        /// The panic's text.
        message: String,
    },
    /// The deadline passed before the answer came.
    #[error("plugin {plugin}: the deadline passed before {method} answered")]
    Deadline {
        /// The plugin.
        plugin: PluginName,
        /// The method.
        method: String,
    },
    /// The version that ran the call stopped before it answered.
    #[error("plugin {plugin}: {method} was cancelled: the version that ran it stopped")]
    Cancelled {
        /// The plugin.
        plugin: PluginName,
        /// The method.
        method: String,
    },
    /// Body or answer are larger than allowed.
    #[error("plugin {plugin}: {what} has more than {bytes_max} bytes")]
    TooLarge {
        /// The plugin.
        plugin: PluginName,
        /// The body or the answer.
        what: &'static str,
        /// The limit.
        bytes_max: usize,
    },
    /// The plugin's limit of calls in flight is reached.
    #[error("plugin {plugin}: {in_flight_max} calls are in flight, which is the limit")]
    Overloaded {
        /// The plugin.
        plugin: PluginName,
        /// The limit.
        in_flight_max: usize,
    },
    /// The host has ended.
    #[error("the host has stopped")]
    Stopped,
}

impl Failure for CallError {
    fn code(&self) -> Code {
        match self {
            CallError::UnknownPlugin { .. } => Code::CallUnknownPlugin,
            CallError::Refused { source, .. } => source.code(),
            CallError::UnknownMethod { .. } => Code::CallUnknownMethod,
            CallError::UnknownInterface { .. } => Code::CallUnknownInterface,
            CallError::Plugin { .. } => Code::CallPlugin,
            CallError::Panicked { .. } => Code::CallPanicked,
            CallError::Deadline { .. } => Code::CallDeadline,
            CallError::Cancelled { .. } => Code::CallCancelled,
            CallError::TooLarge { .. } => Code::CallPayloadTooLarge,
            CallError::Overloaded { .. } => Code::CallOverloaded,
            CallError::Stopped => Code::HostStopped,
        }
    }
}

impl CallError {
    /// Whether the same call may succeed later.
    pub fn is_retryable(&self) -> bool {
        match self {
            CallError::Refused { source, .. } => {
                matches!(source, Refused::GateTimeout | Refused::NotActive)
            }
            CallError::Plugin { retryable, .. } => *retryable,
            CallError::Overloaded { .. } | CallError::Deadline { .. } | CallError::Cancelled { .. } => true,
            _ => false,
        }
    }
}

/// What a plugin's status and sink amount to.
pub(super) fn outcome(
    plugin: &PluginName,
    method: &str,
    answer_bytes_max: usize,
    status: Status,
    answer: Answer,
) -> Result<Reply, CallError> {
    let plugin = || plugin.clone();
    if answer.overflowed {
        return Err(CallError::TooLarge {
            plugin: plugin(),
            what: "the answer",
            bytes_max: answer_bytes_max,
        });
    }
    Err(match status {
        Status::OK => return Ok(Reply::new(answer.body, answer.content_type)),
        Status::NO_METHOD => CallError::UnknownMethod { plugin: plugin(), message: answer.error_message },
        Status::PANIC => {
            CallError::Panicked { plugin: plugin(), method: method.to_owned(), message: answer.error_text() }
        }
        Status::DEADLINE => CallError::Deadline { plugin: plugin(), method: method.to_owned() },
        Status::CANCELLED => CallError::Cancelled { plugin: plugin(), method: method.to_owned() },
        other => CallError::Plugin {
            plugin: plugin(),
            code: if answer.error_code.is_empty() { other.to_string() } else { answer.error_code },
            message: answer.error_message,
            retryable: answer.retryable,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_whose_version_stopped_may_be_made_again() {
        let plugin: PluginName = "limiter".parse().expect("a name");
        let error =
            outcome(&plugin, "take", 64, Status::CANCELLED, Answer::default()).expect_err("no answer");
        assert_eq!((error.code(), error.is_retryable()), (Code::CallCancelled, true));
        assert_eq!(error.to_string(), "plugin limiter: take was cancelled: the version that ran it stopped");
    }
}
