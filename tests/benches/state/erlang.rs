//! The same rows in an Erlang process, upgraded as Erlang does it: the process
//! is suspended, its state converted, and it goes on. `sessions.escript` has the
//! process and its caller; it runs if Erlang is installed (`erlang-base` in
//! Debian), and is never a reason to fail.

use replug_tests::{artifacts, report::Report};
use std::{io, process::Command};

const SCRIPT: &str = "tests/benches/state/sessions.escript";

pub(crate) fn measure(report: &mut Report, fills: &[u64]) {
    report.table("a gen_server with the same rows, upgraded, us");
    let script = artifacts::workspace().join(SCRIPT);
    let rows = fills.iter().map(u64::to_string);
    let output = match Command::new("escript").arg(script).args(rows).output() {
        Ok(output) if output.status.success() => output,
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            let why = format!("not measured: {}; {}", output.status, said.trim());
            return report.row(&[("Erlang", why.into())]);
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return report.row(&[("Erlang", "not measured: it is not installed".into())]);
        }
        Err(error) => return report.row(&[("Erlang", format!("not measured: {error}").into())]),
    };
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let figures: Vec<u64> = line.split(' ').filter_map(|word| word.parse().ok()).collect();
        if let [rows, pause, longest] = figures[..] {
            report.row(&[
                ("rows", rows.into()),
                ("suspended", pause.into()),
                ("caller's longest call", longest.into()),
            ]);
        }
    }
}
