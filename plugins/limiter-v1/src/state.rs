//! The state of this version: schema 1.
//!
//! Later versions declare this type once more, for themselves: a package that
//! is published holds every shape that it can read, and does not change when
//! another does.

use limiter_core::Bucket;
use replug_plugin_api::state::{State, StateError};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

#[derive(Debug, PartialEq, Serialize, Deserialize, State)]
#[state(version = 1)]
pub(crate) struct V1 {
    pub(crate) buckets: BTreeMap<String, BucketV1>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct BucketV1 {
    pub(crate) tokens: f64,
    pub(crate) taken: u64,
}

impl From<Vec<(String, Bucket)>> for V1 {
    fn from(buckets: Vec<(String, Bucket)>) -> Self {
        let buckets = buckets.into_iter().map(|(key, Bucket { level, taken })| {
            let tokens = level;
            (key, BucketV1 { tokens, taken })
        });
        V1 { buckets: buckets.collect() }
    }
}

impl TryFrom<V1> for Vec<(String, Bucket)> {
    type Error = StateError;

    fn try_from(state: V1) -> Result<Self, StateError> {
        let buckets = state.buckets.into_iter().map(|(key, bucket)| {
            let BucketV1 { tokens, taken } = bucket;
            if !tokens.is_finite() {
                return Err(StateError::new(format!("{key:?} has {tokens} tokens")));
            }
            let level = tokens;
            Ok((key, Bucket { level, taken }))
        });
        buckets.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use replug_plugin_api::{
        state::{decode, encode},
        testing,
    };

    #[test]
    fn buckets_survive_as_bytes() {
        let (level, taken) = (0.1, u64::MAX);
        let buckets = vec![("ada".to_owned(), Bucket { level, taken })];
        let bytes = encode(&V1::from(buckets.clone())).expect("encode");
        let state: V1 = decode(&bytes).expect("decode");
        assert_eq!(Vec::try_from(state).expect("valid"), buckets);
    }

    #[test]
    fn the_bytes_that_are_out_there_stay_what_they_are() {
        let bucket = |tokens, taken| BucketV1 { tokens, taken };
        let buckets = [("ada", bucket(0.1, u64::MAX)), ("acme/ada", bucket(3.0, 2)), ("", bucket(0.0, 0))];
        let buckets = buckets.map(|(key, bucket)| (key.to_owned(), bucket)).into();
        testing::assert_golden("tests/golden/buckets-v1.hex", &V1 { buckets });
    }

    #[test]
    fn a_level_that_is_no_number_is_refused() {
        let bucket = Bucket { level: f64::NAN, taken: 1 };
        let state = V1::from(vec![("ada".to_owned(), bucket)]);
        assert!(Vec::try_from(state).is_err());
    }
}
