//! Steps with values between them that cannot be written out.

use super::*;
use serde::{Deserialize, Serializer, ser::Error as _};

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct V2 {
    count: u32,
}

/// What it takes to write this one out cannot be had.
#[derive(Debug, PartialEq, Deserialize)]
struct V3 {
    count: u64,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct V4 {
    total: u64,
}

impl Serialize for V3 {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(S::Error::custom("it was written out"))
    }
}

impl State for V2 {
    const VERSION: u32 = 2;
    const PREVIOUS: Option<Link> = None;
}

impl State for V3 {
    const VERSION: u32 = 3;
    const PREVIOUS: Option<Link> = Some(Link::hook::<V3, V2>());
}

impl State for V4 {
    const VERSION: u32 = 4;
    const PREVIOUS: Option<Link> = Some(Link::hook::<V4, V3>());
}

impl Step<V2> for V3 {
    fn up(old: V2) -> Result<Self, StateError> {
        Ok(V3 { count: old.count.into() })
    }
    fn down(self) -> Result<V2, StateError> {
        Ok(V2 { count: u32::try_from(self.count).map_err(StateError::new)? })
    }
}

impl Step<V3> for V4 {
    fn up(old: V3) -> Result<Self, StateError> {
        if old.count == 13 { Err(StateError::new("unlucky")) } else { Ok(V4 { total: old.count }) }
    }
    fn down(self) -> Result<V3, StateError> {
        Ok(V3 { count: self.total })
    }
}

#[test]
fn state_of_an_earlier_schema_is_raised_without_being_written_out_in_between() {
    let second = encode(&V2 { count: 7 }).expect("encodes");
    assert!(migrate_step::<V4>(2, 3, &second).is_err(), "a step gives bytes");
    assert_eq!(decode_from::<V4>(2, &second).expect("is raised"), V4 { total: 7 });
    // By field name, from before the oldest type.
    assert_eq!(decode_from::<V4>(1, &second).expect("is raised"), V4 { total: 7 });
    let fourth = encode(&V4 { total: 7 }).expect("encodes");
    assert_eq!(decode_from::<V4>(4, &fourth).expect("is of its schema"), V4 { total: 7 });
    assert!(matches!(decode_from::<V4>(5, &fourth), Err(StateError::NoStep { from: 5, to: 4, .. })));
}

fn lowered(total: u64, to: u32) -> Result<Vec<u8>, StateError> {
    let mut bytes = Vec::new();
    encode_as(V4 { total }, to, &mut |part: &[u8]| {
        bytes.extend_from_slice(part);
        true
    })
    .map(|()| bytes)
}

#[test]
fn state_is_lowered_to_an_earlier_schema_without_being_written_out_in_between() {
    assert_eq!(lowered(7, 2).expect("is lowered"), encode(&V2 { count: 7 }).expect("encodes"));
    assert_eq!(lowered(7, 4).expect("is of its schema"), encode(&V4 { total: 7 }).expect("encodes"));
    for to in [1, 5] {
        assert!(matches!(lowered(7, to), Err(StateError::NoStep { .. })), "{to}");
    }
    let error = lowered(u64::MAX, 2).expect_err("does not fit");
    assert!(matches!(error, StateError::Step { from: 3, to: 2, .. }), "{error}");
}

fn leapt(from: u32, to: u32, bytes: &[u8]) -> Result<Vec<u8>, StateError> {
    let mut leapt = Vec::new();
    leap::<V4>(from, to, bytes, &mut |part: &[u8]| {
        leapt.extend_from_slice(part);
        true
    })
    .map(|()| leapt)
}

#[test]
fn what_a_leap_tries_is_the_way_of_raising_and_of_lowering() {
    let second = encode(&V2 { count: 7 }).expect("encodes");
    let fourth = encode(&V4 { total: 7 }).expect("encodes");
    assert!(migrate::<V4>(2, 4, &second).is_err(), "step by step, it would have to be written out");
    assert_eq!(leapt(2, 4, &second).expect("goes up"), fourth);
    assert_eq!(leapt(1, 4, &second).expect("goes up, by field name first"), fourth);
    assert_eq!(leapt(4, 2, &fourth).expect("goes down"), second);
    // Also where the newest type is on neither end.
    assert_eq!(leapt(1, 2, &second).expect("goes up by field name"), second);
    let error = leapt(2, 3, &second).expect_err("its outcome cannot be written out");
    assert!(matches!(error, StateError::Step { from: 2, to: 3, .. }), "{error}");
}

#[test]
fn a_leap_that_fails_names_its_step_and_one_that_leads_nowhere_reads_nothing() {
    let unlucky = encode(&V2 { count: 13 }).expect("encodes");
    let error = leapt(2, 4, &unlucky).expect_err("refused");
    assert_eq!(error.report(), "the state step from schema 3 to 4 failed: unlucky");
    let error = leapt(4, 2, b"\xff").expect_err("damaged");
    assert!(matches!(error, StateError::Step { from: 4, to: 2, .. }), "{error}");
    for (from, to) in [(4, 1), (3, 1), (5, 4), (4, 5), (4, 4), (2, 2)] {
        let error = leapt(from, to, b"\xff").expect_err("there is no such step");
        assert!(
            matches!(&error, StateError::NoStep { version: 4, from: f, to: t, .. } if (*f, *t) == (from, to)),
            "{error}"
        );
    }
}

#[test]
fn a_step_that_fails_while_state_is_raised_is_named() {
    let unlucky = encode(&V2 { count: 13 }).expect("encodes");
    let error = decode_from::<V4>(2, &unlucky).expect_err("refused");
    assert_eq!(error.report(), "the state step from schema 3 to 4 failed: unlucky");
    let error = decode_from::<V4>(2, b"\xff").expect_err("damaged");
    assert!(matches!(error, StateError::Step { from: 2, to: 3, .. }), "{error}");
}
