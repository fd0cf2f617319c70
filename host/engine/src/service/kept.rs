//! The calls of a plugin that came last, kept so that a rehearsal can make them again.
//!
//! Only for plugins for which that is asked: a call may say what nobody should keep.

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// The largest body that is kept, in bytes, and the most of all together.
const BODY_BYTES_MAX: usize = 64 * 1024;
const BYTES_MAX: usize = 1024 * 1024;

/// A call as it came.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KeptCall {
    pub(crate) method: String,
    pub(crate) body: Vec<u8>,
}

impl KeptCall {
    fn bytes(&self) -> usize {
        self.method.len() + self.body.len()
    }
}

/// Those that came last.
pub(super) struct KeptCalls {
    count_max: usize,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    calls: VecDeque<KeptCall>,
    bytes: usize,
}

impl KeptCalls {
    pub(super) fn new(count_max: usize) -> Self {
        KeptCalls { count_max, kept: Mutex::default() }
    }

    /// Keeps a call, unless it is large, or another thread keeps one at this moment: no
    /// caller waits for that.
    pub(super) fn note(&self, method: &str, body: &[u8]) {
        if method.len() + body.len() > BODY_BYTES_MAX {
            return;
        }
        let Some(mut kept) = self.kept.try_lock() else { return };
        let call = KeptCall { method: method.to_owned(), body: body.to_vec() };
        kept.bytes += call.bytes();
        kept.calls.push_back(call);
        while kept.calls.len() > self.count_max || kept.bytes > BYTES_MAX {
            let Some(oldest) = kept.calls.pop_front() else { break };
            kept.bytes -= oldest.bytes();
        }
    }

    /// Those that there are, the oldest first.
    pub(super) fn all(&self) -> Vec<KeptCall> {
        self.kept.lock().calls.iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_calls_are_kept_within_the_bounds() {
        let kept = KeptCalls::new(3);
        for n in 0..5_u8 {
            kept.note("add", &[n]);
        }
        let bodies: Vec<Vec<u8>> = kept.all().into_iter().map(|call| call.body).collect();
        assert_eq!(bodies, [[2], [3], [4]]);
        kept.note("add", &vec![0; BODY_BYTES_MAX]);
        assert_eq!(kept.all().len(), 3, "what is too large is left out");
        let many = KeptCalls::new(usize::MAX);
        for _ in 0..40 {
            many.note("put", &vec![0; BODY_BYTES_MAX - 3]);
        }
        assert_eq!(many.all().len(), BYTES_MAX / BODY_BYTES_MAX);
    }
}
