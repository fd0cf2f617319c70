//! Calls that are made in a rehearsal: the examples that the version gives, and those that
//! came last to the one that serves, on both.
//!
//! Only of methods of which their versions say that they may be called once more.

use super::{Stage, Stopped, cut_off, ran};
use crate::{
    clock::monotonic_ns,
    failure::Failure,
    load::AnswerLimits,
    rehearse::{Differing, Record, Replayed, Said, Step},
    service::{self, CallError, KeptCall, Reply, Serving},
};
use serde::Deserialize;
use std::{collections::BTreeSet, time::Duration};

/// Answers that differ are shown so many, and so much of each.
const SHOWN_MAX: usize = 20;
const SHOWN_CHARS_MAX: usize = 200;

/// A method as a version lists it; what is not known here is not looked at.
#[derive(Deserialize)]
pub(super) struct Listed {
    name: String,
    #[serde(default)]
    repeatable: bool,
    #[serde(default)]
    samples: Vec<Body>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Body {
    Text(String),
    Bytes(Vec<u8>),
}

impl Body {
    fn bytes(&self) -> &[u8] {
        match self {
            Body::Text(text) => text.as_bytes(),
            Body::Bytes(bytes) => bytes,
        }
    }
}

impl Stage {
    /// Makes the calls that came last on the version before and on the new one. That
    /// answers differ refuses nothing: it may be what the new one is for.
    pub(super) fn replay(
        &mut self,
        (new, methods): (&Serving, &[Listed]),
        old: &Serving,
        (calls, limits): (&[KeptCall], AnswerLimits),
    ) -> Result<(), Stopped> {
        let names = |methods: &[Listed]| -> BTreeSet<String> {
            methods.iter().filter(|method| method.repeatable).map(|method| method.name.clone()).collect()
        };
        let of_new = names(methods);
        let time = Duration::from_millis(self.limits.replay_ms);
        let answers = |version: &Serving, calls: &[&KeptCall]| -> Vec<_> {
            let until_ns = monotonic_ns().saturating_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
            let in_time = calls.iter().take_while(|_| monotonic_ns() < until_ns);
            in_time.map(|call| answer(version, limits, (&call.method, &call.body), until_ns)).collect()
        };
        let (made, before) = self.step_of_before(Step::ReplayBefore, |_| {
            let of_old = names(&listed(old)?);
            let may = |call: &&KeptCall| of_old.contains(&call.method) && of_new.contains(&call.method);
            let made: Vec<&KeptCall> = calls.iter().filter(may).collect();
            let before = answers(old, &made);
            Ok((made, before))
        })?;
        let now = self.step(Step::Replay, |_| Ok(answers(new, &made[..before.len()])))?;
        let differing: Vec<Differing> = made
            .iter()
            .zip(before.iter().zip(&now))
            .filter(|(_, (before, now))| !is_same(before, now))
            .map(|(call, (before, now))| Differing {
                method: shown(&call.method),
                body: shown(&String::from_utf8_lossy(&call.body)),
                before: shown(&text_of(before)),
                now: shown(&text_of(now)),
            })
            .collect();
        let replayed = Replayed {
            calls: now.len() as u64,
            left_out: (calls.len() - now.len()) as u64,
            differ: differing.len() as u64,
            differing: differing.into_iter().take(SHOWN_MAX).collect(),
        };
        self.say(&Record::Replayed { replayed });
        Ok(())
    }

    /// Makes the calls that the version gives as examples: each has to be answered.
    pub(super) fn make_sample_calls(
        &mut self,
        new: &Serving,
        methods: &[Listed],
        limits: AnswerLimits,
    ) -> Result<(), Stopped> {
        if methods.iter().all(|method| method.samples.is_empty()) {
            return Ok(());
        }
        self.step(Step::Samples, |_| {
            for method in methods {
                for sample in &method.samples {
                    answer(new, limits, (&method.name, sample.bytes()), 0).map_err(|error| {
                        let (method, message) = (method.name.clone(), shown(&error.to_string()));
                        let body = shown(&String::from_utf8_lossy(sample.bytes()));
                        Said::Sample { method, body, message }
                    })?;
                }
            }
            Ok(())
        })
    }
}

/// The methods of a version; none where it gives no such list.
pub(super) fn listed(version: &Serving) -> Result<Vec<Listed>, Stopped> {
    Ok(serde_json::from_slice(&ran(version.methods())?).unwrap_or_default())
}

fn answer(
    version: &Serving,
    limits: AnswerLimits,
    (method, body): (&str, &[u8]),
    deadline_ns: u64,
) -> Result<Reply, CallError> {
    service::call_unpublished(version, limits, (method, body), deadline_ns)
}

/// Errors are the same if they have one code: their words may change with any version.
fn is_same(before: &Result<Reply, CallError>, now: &Result<Reply, CallError>) -> bool {
    match (before, now) {
        (Ok(before), Ok(now)) => before == now,
        (Err(before), Err(now)) => before.code() == now.code(),
        _ => false,
    }
}

fn text_of(answer: &Result<Reply, CallError>) -> String {
    match answer {
        Ok(reply) => String::from_utf8_lossy(reply.body()).into_owned(),
        Err(error) => error.to_string(),
    }
}

/// As much of it as is shown.
fn shown(text: &str) -> String {
    cut_off(text, SHOWN_CHARS_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_is_cut_off_between_characters() {
        assert_eq!(shown("short"), "short");
        let long = "ä".repeat(SHOWN_CHARS_MAX + 1);
        assert_eq!(shown(&long), format!("{}…", "ä".repeat(SHOWN_CHARS_MAX)));
    }

    #[test]
    fn samples_are_read_as_text_and_as_bytes_and_more_is_left_alone() {
        let list = r#"[{"name":"a","kind":"sync","samples":["text",[1,255]],"new":{}},{"name":"b"}]"#;
        let methods: Vec<Listed> = serde_json::from_str(list).expect("reads");
        let samples: Vec<&[u8]> = methods[0].samples.iter().map(Body::bytes).collect();
        assert_eq!(samples, [&b"text"[..], &[1, 255]]);
        assert!(!methods[0].repeatable && methods[1].samples.is_empty());
    }
}
