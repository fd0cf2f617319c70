//! Copies the sources of the real SDK, and has it do what it did when
//! `replug.instance` was 1.0: `restore` takes state of its own schema only,
//! `migrate` makes one step, and there is no `export_down`. It panics when it is asked
//! for what 1.0 did not promise: other plugins of that time may answer anything then.

#[path = "../../copied.rs"]
mod copied;

use copied::{Change, copy};
use std::env;

const MODEL: &str = "glue/model.rs";

const CHANGES: [Change; 4] = [
    Change { file: "glue/instance.rs", text: "        export_down: Self::export_down,\n", instead: "" },
    Change {
        file: MODEL,
        text: "match state::decode_from(schema_version, bytes) {",
        instead: "
        if schema_version != P::State::VERSION {
            return Err(Error::new(\"state.schema_mismatch\", \"1.0 restores its own schema only\"));
        }
        match state::decode_from(schema_version, bytes) {",
    },
    Change {
        file: MODEL,
        text: "if from == to && to == P::State::VERSION {
            return state::decode::<P::State>(bytes).map(|_| Some(Status::OK)).map_err(bad_state);
        }",
        instead: "
        let oldest = Self::steps().iter().map(|step| step.from).min().unwrap_or(P::State::VERSION);
        let by_field_name = from < oldest && to == oldest;
        assert!(by_field_name || from.abs_diff(to) == 1, \"1.0 makes one step, not {from} to {to}\");",
    },
    Change {
        file: MODEL,
        text: "state::leap::<P::State>(from, to, bytes, hand_on)",
        instead: "state::migrate_step::<P::State>(from, to, bytes).map(|bytes| { hand_on(&bytes); })",
    },
];

fn main() {
    copy("../../../../plugin-api/src", "sdk", &CHANGES);
    println!("cargo::rustc-env=REPLUG_RUSTC_VERSION=unknown");
    println!("cargo::rustc-env=REPLUG_TARGET={}", env::var("TARGET").unwrap_or_default());
}
