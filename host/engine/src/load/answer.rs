//! The host's end of a sink: where a plugin's answer is collected.

use abi_stable::std_types::RSlice;
use replug_abi::{Part, Sink, Status};
use std::ffi::c_void;

/// How much a plugin may answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AnswerLimits {
    /// Bytes of the body.
    pub body_bytes_max: usize,
}

/// Bytes of each text part (content type, code, message); the rest is cut off.
const TEXT_BYTES_MAX: usize = 64 * 1024;

/// What a plugin wrote into the sink of one call.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The body.
    pub body: Vec<u8>,
    /// A row in the schema that older versions read; none where there is none.
    pub image: Option<Vec<u8>>,
    /// Media type of the body; empty when the plugin did not say.
    pub content_type: String,
    /// The plugin's error code; empty without one.
    pub error_code: String,
    /// The plugin's error message; empty without one.
    pub error_message: String,
    /// Whether the plugin says that the call may succeed later.
    pub retryable: bool,
    /// Whether the body was larger than the limit.
    pub overflowed: bool,
}

impl Answer {
    /// Runs `call` with a sink that fills a new answer.
    pub fn collect(limits: AnswerLimits, call: impl FnOnce(&Sink) -> Status) -> (Status, Answer) {
        Self::collect_into(Vec::new(), limits, call)
    }

    /// The same with the memory of `body`, whose content is forgotten: what was
    /// used before need not be cleared by the system once more.
    pub(crate) fn collect_into(
        mut body: Vec<u8>,
        limits: AnswerLimits,
        call: impl FnOnce(&Sink) -> Status,
    ) -> (Status, Answer) {
        body.clear();
        let mut collector = Collector { answer: Answer { body, ..Answer::default() }, limits };
        // SAFETY: the collector outlives the sink, which is lent to `call` only,
        // and is not touched until it returns.
        let sink = unsafe { Sink::new((&raw mut collector).cast(), write) };
        let status = call(&sink);
        (status, collector.answer)
    }

    /// The plugin's own words about an error, on one line.
    pub fn error_text(&self) -> String {
        match (self.error_code.as_str(), self.error_message.as_str()) {
            ("", "") => "the plugin gave no reason".to_owned(),
            ("", message) | ("error" | "panic", message) => one_line(message),
            (code, message) => one_line(&format!("{code}: {message}")),
        }
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Runs `call` with a sink that hands on to `sink` what the limits allow, and
/// says whether the body was larger than that.
pub(crate) fn hand_on(
    limits: AnswerLimits,
    sink: &Sink,
    call: impl FnOnce(&Sink) -> Status,
) -> (Status, bool) {
    let mut handed = HandedOn { sink, body_bytes_left: limits.body_bytes_max, overflowed: false };
    // SAFETY: what is behind the context outlives the sink, which is lent to
    // `call` only, and is not touched until it returns.
    let within = unsafe { Sink::new((&raw mut handed).cast(), write_on) };
    let status = call(&within);
    (status, handed.overflowed)
}

struct HandedOn<'a> {
    sink: &'a Sink,
    body_bytes_left: usize,
    overflowed: bool,
}

/// SAFETY: `context` is the `HandedOn` of [`hand_on`], which is alive and
/// otherwise untouched while its sink is in use, on the thread of the call.
unsafe extern "C" fn write_on(context: *mut c_void, part: Part, data: RSlice<'_, u8>) -> Status {
    // SAFETY: see above.
    let handed = unsafe { &mut *context.cast::<HandedOn<'_>>() };
    let data = data.as_slice();
    if part != Part::BODY {
        return handed.sink.write(part, &data[..data.len().min(TEXT_BYTES_MAX)]);
    }
    let Some(left) = handed.body_bytes_left.checked_sub(data.len()) else {
        handed.overflowed = true;
        return Status::REFUSED;
    };
    handed.body_bytes_left = left;
    handed.sink.write(part, data)
}

struct Collector {
    answer: Answer,
    limits: AnswerLimits,
}

/// SAFETY: `context` is the `Collector` of [`Answer::collect`], which is alive
/// and otherwise untouched while its sink is in use, on the thread of the call.
unsafe extern "C" fn write(context: *mut c_void, part: Part, data: RSlice<'_, u8>) -> Status {
    // SAFETY: see above.
    let Collector { answer, limits } = unsafe { &mut *context.cast::<Collector>() };
    let data = data.as_slice();
    let text = || String::from_utf8_lossy(&data[..data.len().min(TEXT_BYTES_MAX)]).into_owned();
    match part {
        Part::BODY => {
            if data.len() > limits.body_bytes_max.saturating_sub(answer.body.len()) {
                answer.overflowed = true;
                return Status::REFUSED;
            }
            answer.body.extend_from_slice(data);
        }
        Part::IMAGE => {
            let image = answer.image.get_or_insert_default();
            if data.len() > limits.body_bytes_max.saturating_sub(image.len()) {
                answer.overflowed = true;
                return Status::REFUSED;
            }
            image.extend_from_slice(data);
        }
        Part::CONTENT_TYPE => answer.content_type = text(),
        Part::ERROR_CODE => answer.error_code = text(),
        Part::ERROR_MESSAGE => answer.error_message = text(),
        Part::ERROR_RETRYABLE => answer.retryable = data.first() == Some(&1),
        _ => {}
    }
    Status::OK
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: AnswerLimits = AnswerLimits { body_bytes_max: 4 };

    #[test]
    fn parts_are_collected_and_unknown_ones_ignored() {
        let (status, answer) = Answer::collect(LIMITS, |sink| {
            assert!(sink.write(Part(77), b"?").is_ok());
            assert!(sink.write(Part::BODY, b"ab").is_ok());
            assert!(sink.write(Part::BODY, b"cd").is_ok());
            sink.error("x.y", "two\nlines", true);
            Status::ERROR
        });
        assert_eq!(status, Status::ERROR);
        assert_eq!(answer.body, b"abcd");
        assert_eq!(answer.error_text(), "x.y: two lines");
        assert!(answer.retryable && !answer.overflowed);
    }

    #[test]
    fn what_is_handed_on_is_bounded_and_otherwise_the_same() {
        let handed_on = |last: &[u8]| {
            let mut overflowed = false;
            let no_limit = AnswerLimits { body_bytes_max: usize::MAX };
            let (status, answer) = Answer::collect(no_limit, |sink| {
                let status;
                (status, overflowed) = hand_on(LIMITS, sink, |sink| {
                    assert!(sink.write(Part::CONTENT_TYPE, &[b'x'; TEXT_BYTES_MAX + 1]).is_ok());
                    assert!(sink.write(Part::BODY, b"abc").is_ok());
                    sink.write(Part::BODY, last)
                });
                status
            });
            assert_eq!(answer.content_type.len(), TEXT_BYTES_MAX);
            (status, overflowed, answer.body)
        };
        assert_eq!(handed_on(b"d"), (Status::OK, false, b"abcd".to_vec()));
        assert_eq!(handed_on(b"de"), (Status::REFUSED, true, b"abc".to_vec()));
    }

    #[test]
    fn a_body_beyond_the_limit_is_refused() {
        let (_, answer) = Answer::collect(LIMITS, |sink| {
            assert!(sink.write(Part::BODY, b"abc").is_ok());
            sink.write(Part::BODY, b"de")
        });
        assert!(answer.overflowed);
        assert_eq!(answer.body, b"abc");
    }
}
