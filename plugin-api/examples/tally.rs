//! Counts visitors by name, in a table of the host.
use replug_plugin_api::{prelude::*, state::State};
use serde::{Deserialize, Serialize};

#[derive(Debug, PartialEq, Serialize, Deserialize, State)]
#[state(version = 1)]
struct Visits {
    count: u64,
}

struct Tally {
    visits: Table<String, Visits>,
}

impl Plugin for Tally {
    type Config = ();
    fn prepare(_: (), context: &Context) -> Result<Self> {
        Ok(Tally { visits: context.table("visits")? })
    }
    fn methods(methods: &mut Methods<Self>) {
        methods.method("visit", "Counts a visitor by name", |tally, call| {
            let visits = tally
                .visits
                .update(call.text()?, |old| Some(Visits { count: old.map_or(0, |old| old.count) + 1 }))?;
            Ok(visits.map_or(0, |visits| visits.count).to_string())
        });
    }
}
export!(Tally, name = "tally", state = tables);
