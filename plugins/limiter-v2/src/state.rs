//! The state of this version, schema 2, and of the one before.
//!
//! Schema 2 calls the tokens of a bucket its `level`, because `tokens` beside
//! `taken` was read as a count of the same thing. By field name alone the old
//! field would be dropped, so the steps say it by hand.

use limiter_core::{Bucket, Entries};
use replug_plugin_api::state::{State, StateError, Step};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

#[derive(Debug, PartialEq, Serialize, Deserialize, State)]
#[state(version = 1)]
pub(crate) struct V1 {
    buckets: BTreeMap<String, BucketV1>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct BucketV1 {
    tokens: f64,
    taken: u64,
}

#[derive(Debug, PartialEq, Serialize, Deserialize, State)]
#[state(version = 2, previous = V1)]
pub(crate) struct V2 {
    buckets: Entries<BucketV2>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct BucketV2 {
    level: f64,
    taken: u64,
}

impl Step<V1> for V2 {
    fn up(old: V1) -> Result<Self, StateError> {
        let buckets = old.buckets.into_iter().map(|(key, bucket)| {
            let BucketV1 { tokens, taken } = bucket;
            let level = tokens;
            (key, BucketV2 { level, taken })
        });
        Ok(V2 { buckets: buckets.collect() })
    }

    fn down(self) -> Result<V1, StateError> {
        let buckets = self.buckets.into_iter().map(|(key, bucket)| {
            let BucketV2 { level, taken } = bucket;
            let tokens = level;
            (key, BucketV1 { tokens, taken })
        });
        Ok(V1 { buckets: buckets.collect() })
    }
}

impl From<Vec<(String, Bucket)>> for V2 {
    fn from(buckets: Vec<(String, Bucket)>) -> Self {
        let buckets =
            buckets.into_iter().map(|(key, Bucket { level, taken })| (key, BucketV2 { level, taken }));
        V2 { buckets: buckets.collect() }
    }
}

impl TryFrom<V2> for Vec<(String, Bucket)> {
    type Error = StateError;

    fn try_from(state: V2) -> Result<Self, StateError> {
        let buckets = state.buckets.into_iter().map(|(key, bucket)| {
            let BucketV2 { level, taken } = bucket;
            if !level.is_finite() {
                return Err(StateError::new(format!("{key:?} has the level {level}")));
            }
            Ok((key, Bucket { level, taken }))
        });
        buckets.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use replug_plugin_api::testing;

    fn old() -> V1 {
        let bucket = BucketV1 { tokens: 0.1, taken: u64::MAX };
        V1 { buckets: BTreeMap::from([("ada".to_owned(), bucket)]) }
    }

    #[test]
    fn the_renamed_field_survives_up_and_down() {
        let new: V2 = testing::upgrade(&old()).expect("goes up");
        let bucket = new.buckets.get("ada").expect("is there");
        assert_eq!((bucket.level, bucket.taken), (0.1, u64::MAX));
        assert_eq!(testing::downgrade::<V2, V1>(&new).expect("goes down"), old());
    }

    fn buckets<B: std::fmt::Debug>(bucket: fn(f64, u64) -> B) -> impl Strategy<Value = BTreeMap<String, B>> {
        let level = prop::num::f64::NORMAL | prop::num::f64::ZERO;
        let bucket = (level, any::<u64>()).prop_map(move |(level, taken)| bucket(level, taken));
        prop::collection::btree_map(any::<String>(), bucket, 0..8)
    }

    proptest! {
        #[test]
        fn any_state_of_either_version_comes_back_as_it_was(
            old in buckets(|tokens, taken| BucketV1 { tokens, taken }),
            new in buckets(|level, taken| BucketV2 { level, taken }),
        ) {
            testing::assert_round_trip::<V1, V2>(&V1 { buckets: old });
            testing::assert_round_trip::<V2, V1>(&V2 { buckets: new.into_iter().collect() });
        }
    }

    #[test]
    fn the_bytes_that_are_out_there_stay_what_they_are_and_arrive() {
        let new: V2 = testing::upgrade(&old()).expect("goes up");
        testing::assert_golden("tests/golden/buckets-v2.hex", &new);
        let first = testing::golden("../limiter-v1/tests/golden/buckets-v1.hex");
        let first: V2 = testing::upgrade_bytes(1, &first).expect("goes up");
        let of_acme = first.buckets.get("acme/ada").expect("is there");
        assert_eq!((first.buckets.len(), of_acme.taken), (3, 2));
    }

    #[test]
    fn a_level_that_is_no_number_is_refused() {
        let bucket = Bucket { level: f64::NAN, taken: 1 };
        let state = V2::from(vec![("ada".to_owned(), bucket)]);
        assert!(Vec::try_from(state).is_err());
    }
}
