//! What the benchmarks call: the sample plugin `bench-target`, 1.0.0, with the
//! allocation ledger. `bench-target-system` is the same code with the system's
//! allocator.

mod target;

use bench_interface::Adder;
use replug_plugin_api::export;
use target::{ROW, Target};

export!(Target, name = "bench-target", version = "1.0.0", interfaces = [dyn Adder, ROW]);
