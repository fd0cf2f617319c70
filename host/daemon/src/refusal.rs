//! Errors as an operator reads them: what happened, why, who has to act, what
//! to do, and the exit code that scripts go by.

use crate::problem::{Details, Problem};
use replug_host::failure::Code;
use std::{
    fmt,
    io::{self, Write},
    process::ExitCode,
};

/// Not done; the error says why.
const REFUSED: u8 = 1;
/// No host answers. 2, between the two, is a command line that cannot be read.
const UNREACHABLE: u8 = 3;

/// Writes an error to standard error.
pub(crate) fn refuse(problem: &Problem) -> ExitCode {
    // Without standard error the exit code is what is left.
    let _ = write!(io::stderr(), "{}", Refusal(problem));
    ExitCode::from(exit_code(&problem.code))
}

fn exit_code(code: &str) -> u8 {
    if code == Code::HostUnreachable.as_str() { UNREACHABLE } else { REFUSED }
}

struct Refusal<'a>(&'a Details);

impl fmt::Display for Refusal<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Details { detail, why, code, blame, next, .. } = self.0;
        writeln!(f, "error[{code}]: {detail}")?;
        if !why.is_empty() {
            writeln!(f, "  why:   {}", why.join(": "))?;
        }
        writeln!(f, "  blame: {blame}")?;
        writeln!(f, "  next:  {next}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_what_why_who_and_what_next() {
        let problem = Problem::new(Code::HostSocket, "cannot listen at a.sock")
            .because(vec!["cannot bind".to_owned(), "permission denied".to_owned()])
            .next("name another socket");
        let expected = "error[host.socket]: cannot listen at a.sock\n  \
                        why:   cannot bind: permission denied\n  \
                        blame: operator\n  \
                        next:  name another socket\n";
        assert_eq!(Refusal(&problem).to_string(), expected);
    }

    #[test]
    fn only_a_host_that_does_not_answer_is_unreachable() {
        for code in Code::ALL {
            let expected = if code.as_str() == "host.unreachable" { 3 } else { 1 };
            assert_eq!(exit_code(code.as_str()), expected, "{code}");
        }
    }
}
