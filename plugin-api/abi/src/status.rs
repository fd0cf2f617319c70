//! The answer of every ABI function.

use abi_stable::StableAbi;
use std::fmt;

/// What an ABI function says about its outcome.
///
/// A plain number rather than an enum: a value that this build does not know
/// must be an error, never undefined behaviour. New values are only appended.
#[must_use = "an ABI function may have failed"]
#[repr(transparent)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, StableAbi)]
pub struct Status(pub u32);

impl Status {
    /// Done; out pointers and sink parts are filled.
    pub const OK: Status = Status(0);
    /// Refused by the callee's own code; the sink holds code and message.
    pub const ERROR: Status = Status(1);
    /// The callee panicked; the panic was caught and its text is in the sink.
    pub const PANIC: Status = Status(2);
    /// Not finished; the waker will be woken.
    pub const PENDING: Status = Status(3);
    /// There is no method of this name.
    pub const NO_METHOD: Status = Status(4);
    /// The callee does not offer this function.
    pub const UNSUPPORTED: Status = Status(5);
    /// There is no migration step between these schema versions.
    pub const NO_STEP: Status = Status(6);
    /// The configuration does not fit the plugin's type.
    pub const BAD_CONFIG: Status = Status(7);
    /// State bytes cannot be decoded.
    pub const BAD_STATE: Status = Status(8);
    /// The callee's deadline passed.
    pub const DEADLINE: Status = Status(9);
    /// Refused before the callee's own code answered. From a host function: it
    /// did not route the call, and the sink holds code and message. From a sink:
    /// a limit of its owner was reached; the callee stops writing and returns
    /// this status as its own.
    pub const REFUSED: Status = Status(10);
    /// The callee stopped before it answered; the same call may be made again.
    pub const CANCELLED: Status = Status(11);
    /// The row was changed since it was read.
    pub const CONFLICT: Status = Status(12);
    /// The row needs an image of another schema than it came with, because a
    /// version was committed or is to be gone back to: make it anew.
    pub const IMAGE: Status = Status(13);

    /// Whether this is [`Status::OK`].
    pub const fn is_ok(self) -> bool {
        self.0 == Status::OK.0
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match *self {
            Status::OK => "ok",
            Status::ERROR => "error",
            Status::PANIC => "panic",
            Status::PENDING => "pending",
            Status::NO_METHOD => "no such method",
            Status::UNSUPPORTED => "unsupported",
            Status::NO_STEP => "no migration step",
            Status::BAD_CONFIG => "bad configuration",
            Status::BAD_STATE => "bad state",
            Status::DEADLINE => "deadline passed",
            Status::REFUSED => "refused",
            Status::CANCELLED => "cancelled",
            Status::CONFLICT => "changed by another",
            Status::IMAGE => "an image of another schema is needed",
            Status(other) => return write!(f, "status {other}"),
        };
        f.write_str(name)
    }
}
