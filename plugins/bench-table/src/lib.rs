//! The sample plugin `bench-table`, 1.0.0: the same rows in a table of the host
//! and in a map of its own, so that a benchmark can compare the two from where a
//! plugin's code stands.
//!
//! # Methods
//!
//! | method | body | answer |
//! |---|---|---|
//! | `fill` | a number | puts as many rows into both |
//! | `count` | ignored | the rows of the table |
//! | `run` | `{"place": "table", "operation": "get", "count": 1000, "seed": 7}` | nanoseconds per operation, as text |
//!
//! `place` is `table` or `map`, `operation` is `get` or `put`. Keys are chosen at
//! random among those that were filled in, and made before the clock starts.
//!
//! # Configuration
//!
//! | key | default | says |
//! |---|---|---|
//! | `durability` | `"memory"` | when writes to the table are acknowledged: `memory`, `process`, `disk` |

#![deny(unsafe_code)]

use dashmap::DashMap;
use replug_plugin_api::prelude::*;
use replug_plugin_api::{
    state::State,
    table::{Durability, TableOptions},
};
use serde::{Deserialize, Serialize};
use std::{hint::black_box, time::Instant};

/// A session, as the sample plugin `sessions` has it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, State)]
#[state(version = 1)]
struct Row {
    user: String,
    opened_ms: u64,
    last_used_ms: u64,
    hits: u64,
}

struct Rows {
    table: Table<String, Row>,
    map: DashMap<String, Row>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Config {
    durability: Kept,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kept {
    #[default]
    Memory,
    Process,
    Disk,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Run {
    place: Place,
    operation: Operation,
    count: u64,
    seed: u64,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Place {
    Table,
    Map,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Operation {
    Get,
    Put,
}

impl Plugin for Rows {
    type Config = Config;

    fn prepare(config: Config, context: &Context) -> Result<Self> {
        let durability = match config.durability {
            Kept::Memory => Durability::Memory,
            Kept::Process => Durability::Process,
            Kept::Disk => Durability::Disk,
        };
        let table = context.table_with("rows", TableOptions::new().durability(durability))?;
        Ok(Rows { table, map: DashMap::new() })
    }

    fn methods(methods: &mut Methods<Self>) {
        methods
            .method("fill", "Puts rows into both", |rows, call| rows.fill(call.text()?))
            .method("count", "Rows of the table", |rows, _| Ok(rows.table.len().to_string()))
            .method("run", "Times operations", |rows, call| Ok(rows.run(&call.json()?)?.to_string()));
    }
}

impl Rows {
    fn fill(&self, count: &str) -> Result<String> {
        let count: u64 = count.parse().map_err(|_| Error::new("bench.bad_count", "a number is needed"))?;
        for number in 0..count {
            let (key, row) = (key(number), row(number));
            self.table.put(&key, &row)?;
            self.map.insert(key, row);
        }
        Ok(count.to_string())
    }

    /// Nanoseconds per operation. What is put is a row that is there already
    /// with other numbers, as in a store that is in use.
    fn run(&self, run: &Run) -> Result<f64> {
        let rows = self.table.len();
        if rows == 0 {
            return Err(Error::new("bench.empty", "there are no rows; fill first"));
        }
        let mut random = run.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let next = || {
            // xorshift64
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let number = random % rows;
            (key(number), row(number.wrapping_add(run.seed)))
        };
        let chosen: Vec<(String, Row)> = std::iter::repeat_with(next).take(run.count as usize).collect();
        let begun = Instant::now();
        match (run.place, run.operation) {
            (Place::Table, Operation::Get) => {
                for (key, _) in &chosen {
                    black_box(self.table.get(key)?);
                }
            }
            (Place::Map, Operation::Get) => {
                for (key, _) in &chosen {
                    black_box(self.map.get(key).map(|row| row.value().clone()));
                }
            }
            (Place::Table, Operation::Put) => {
                for (key, row) in &chosen {
                    self.table.put(key, row)?;
                }
            }
            // A map takes what it keeps, and a table what it copies: to be lent
            // both is the same to their caller.
            (Place::Map, Operation::Put) => {
                for (key, row) in &chosen {
                    black_box(self.map.insert(key.clone(), row.clone()));
                }
            }
        }
        Ok(begun.elapsed().as_nanos() as f64 / run.count as f64)
    }
}

fn key(number: u64) -> String {
    format!("t{number}")
}

fn row(number: u64) -> Row {
    Row { user: format!("u{}", number / 4), opened_ms: number, last_used_ms: number, hits: number }
}

export!(Rows, name = "bench-table", version = "1.0.0", state = tables);
