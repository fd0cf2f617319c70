//! A count, in three schemas, and all that can be wrong with its bytes.
//!
//! Migrations need no instance, so a migration that shall misbehave is told so
//! by the state itself.

use crate::{Fault, fault::is_first};
use replug_plugin_api::state::{OneWay, State, StateError, Step};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::path::PathBuf;

/// What is wrong with the state that an instance exports.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StateFaults {
    /// The bytes hold a text where every version expects a number.
    pub spoiled: bool,
    /// The state counts so many less than there were.
    pub lost: u64,
    /// The step up to this schema makes bytes of it that are spoiled likewise. The
    /// value that goes on from there is sound.
    pub spoiled_in: Option<u32>,
    /// So many bytes of nothing are exported too.
    pub ballast_bytes: usize,
    /// Happens in the step up from this state.
    pub up: Option<Fault>,
    /// Happens in the step down from this state.
    pub down: Option<Fault>,
    /// What the step down makes of this state is larger, but not the first time.
    pub swells: Option<Swells>,
}

/// Nothing, in bytes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Swells {
    /// Gets a byte each time.
    pub file: PathBuf,
    /// How many there are the other times.
    pub bytes: usize,
}

/// A state type of this plugin, whatever its schema.
pub trait Counted: State {
    /// A count with what is wrong with it.
    fn pack(count: u64, faults: &StateFaults) -> Self;
    /// The count.
    fn count(&self) -> u64;
}

/// Schema 1.
#[derive(Serialize, Deserialize, State)]
#[state(version = 1)]
pub struct V1 {
    count: Number,
    #[serde(default)]
    luggage: Luggage,
}

/// Schema 2: `count` is called `total`.
#[derive(Serialize, Deserialize, State)]
#[state(version = 2, previous = V1)]
pub struct V2 {
    total: Number,
    #[serde(default)]
    luggage: Luggage,
}

impl Step<V1> for V2 {
    fn up(old: V1) -> Result<Self, StateError> {
        happen(&old.luggage.up)?;
        Ok(V2 { total: old.count.after_step(Self::VERSION, &old.luggage), luggage: old.luggage })
    }

    fn down(self) -> Result<V1, StateError> {
        happen(&self.luggage.down)?;
        let mut luggage = self.luggage;
        if let Some(Swells { file, bytes }) = &luggage.swells
            && !is_first(file).map_err(StateError::new)?
        {
            luggage.ballast = "x".repeat(*bytes);
        }
        Ok(V1 { count: self.total, luggage })
    }
}

/// Schema 3: as before, and there is no way back.
#[derive(Serialize, Deserialize, State)]
#[state(version = 3, previous = V2, one_way)]
pub struct V3 {
    sum: Number,
    #[serde(default)]
    luggage: Luggage,
}

impl OneWay<V2> for V3 {
    fn up(old: V2) -> Result<Self, StateError> {
        happen(&old.luggage.up)?;
        Ok(V3 { sum: old.total.after_step(Self::VERSION, &old.luggage), luggage: old.luggage })
    }
}

impl Counted for V1 {
    fn pack(count: u64, faults: &StateFaults) -> Self {
        let (count, luggage) = pack(count, faults);
        V1 { count, luggage }
    }

    fn count(&self) -> u64 {
        self.count.value
    }
}

impl Counted for V2 {
    fn pack(count: u64, faults: &StateFaults) -> Self {
        let (total, luggage) = pack(count, faults);
        V2 { total, luggage }
    }

    fn count(&self) -> u64 {
        self.total.value
    }
}

impl Counted for V3 {
    fn pack(count: u64, faults: &StateFaults) -> Self {
        let (sum, luggage) = pack(count, faults);
        V3 { sum, luggage }
    }

    fn count(&self) -> u64 {
        self.sum.value
    }
}

/// What travels with the state.
#[derive(Default, Serialize, Deserialize)]
struct Luggage {
    up: Option<Fault>,
    down: Option<Fault>,
    spoiled_in: Option<u32>,
    #[serde(default)]
    swells: Option<Swells>,
    ballast: String,
}

/// A number, or what stands in its place in spoiled bytes.
struct Number {
    value: u64,
    spoiled: bool,
}

impl Number {
    fn after_step(self, schema: u32, luggage: &Luggage) -> Self {
        Number { spoiled: luggage.spoiled_in == Some(schema), ..self }
    }
}

impl Serialize for Number {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.spoiled { serializer.serialize_str("spoiled") } else { serializer.serialize_u64(self.value) }
    }
}

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spoiled = false;
        u64::deserialize(deserializer).map(|value| Number { value, spoiled })
    }
}

fn pack(count: u64, faults: &StateFaults) -> (Number, Luggage) {
    let number = Number { value: count.saturating_sub(faults.lost), spoiled: faults.spoiled };
    let luggage = Luggage {
        up: faults.up.clone(),
        down: faults.down.clone(),
        spoiled_in: faults.spoiled_in,
        swells: faults.swells.clone(),
        ballast: "x".repeat(faults.ballast_bytes),
    };
    (number, luggage)
}

fn happen(fault: &Option<Fault>) -> Result<(), StateError> {
    match fault {
        Some(fault) => fault.happen().map_err(|error| StateError::new(error.to_string())),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use replug_plugin_api::state::{decode, encode, migrate_step};

    fn bytes(faults: &StateFaults) -> Vec<u8> {
        encode(&V1::pack(7, faults)).expect("encode")
    }

    #[test]
    fn a_sound_state_goes_up_and_down() {
        let up = migrate_step::<V2>(1, 2, &bytes(&StateFaults::default())).expect("up");
        assert_eq!(decode::<V2>(&up).expect("decode").count(), 7);
        let down = migrate_step::<V2>(2, 1, &up).expect("down");
        assert_eq!(decode::<V1>(&down).expect("decode").count(), 7);
    }

    #[test]
    fn schema_3_has_no_way_back() {
        let up = migrate_step::<V3>(1, 2, &bytes(&StateFaults::default())).expect("up");
        let up = migrate_step::<V3>(2, 3, &up).expect("up");
        assert_eq!(decode::<V3>(&up).expect("decode").count(), 7);
        assert!(migrate_step::<V3>(3, 2, &up).is_err());
    }

    #[test]
    fn a_spoiled_state_is_read_by_no_version() {
        let spoiled = bytes(&StateFaults { spoiled: true, ..StateFaults::default() });
        assert!(decode::<V1>(&spoiled).is_err());
        assert!(migrate_step::<V2>(1, 2, &spoiled).is_err());
    }

    #[test]
    fn the_state_tells_the_step_what_goes_wrong() {
        let fails =
            bytes(&StateFaults { up: Some(Fault::Fail("no way up".into())), ..StateFaults::default() });
        let error = migrate_step::<V2>(1, 2, &fails).expect_err("fails");
        assert!(error.report().contains("no way up"), "{}", error.report());
    }

    #[test]
    fn ballast_and_loss_are_as_told() {
        let faults = StateFaults { lost: 2, ballast_bytes: 10_000, ..StateFaults::default() };
        assert!(bytes(&faults).len() > 10_000);
        assert_eq!(V1::pack(7, &faults).count(), 5);
    }
}
