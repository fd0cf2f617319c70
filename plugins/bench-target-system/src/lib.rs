//! What the benchmarks compare `bench-target` with: the same code, with the
//! system's allocator instead of the allocation ledger.

#[path = "../../bench-target/src/target.rs"]
mod target;

use bench_interface::Adder;
use replug_plugin_api::export;
use target::{ROW, Target};

export!(Target, name = "bench-target-system", version = "1.0.0", allocator = system, interfaces = [dyn Adder, ROW]);
