//! A helper of rehearsals that knows a typed interface if it is told so.

use pairs::v1_2;
use replug_host::RehearsalHelper;
use std::process::ExitCode;

fn main() -> ExitCode {
    let helper = RehearsalHelper::default();
    match std::env::args().nth(1).as_deref() {
        Some("knowing") => helper.interface::<dyn v1_2::Store>().run(),
        _ => helper.run(),
    }
}
