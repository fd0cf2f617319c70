//! Committing the tables of a version that is about to serve, while callers wait
//! at the gate.
//!
//! It may wait for a disk, and callers must not: so it has a thread of its own, and
//! a time. The thread writes the commit down and then asks whether it is still
//! wanted; if it came too late the gate is open again on the version before, and
//! the commit is taken back where it was written. Until it is, nobody else changes
//! these tables.

use super::{
    error::DeployError,
    tables::{Descent, Down, reads_all_rows},
    taken::Loss,
};
use crate::service::OpenTables;
use crossbeam::channel::{self, RecvTimeoutError};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::Instant,
};

/// Commits the tables, if nothing of them is out of reach but what may be lost,
/// which is returned.
///
/// # Errors
/// They are not committed: also where that could not be done before `until`.
pub(super) fn commit_behind_gate(
    tables: &Arc<OpenTables>,
    descent: &Descent,
    allow_loss: bool,
    until: Instant,
) -> Result<Vec<Loss>, DeployError> {
    let begun = Instant::now();
    let (tables, downs) = (Arc::clone(tables), descent.tables().to_vec());
    // Set by the thread when it commits, or here when that is too late: whoever is
    // first decides. Relaxed: the channel orders the rest.
    let decided = Arc::new(AtomicBool::new(false));
    let (inside, (done, outcome)) = (Arc::clone(&decided), channel::bounded(1));
    let work = move || {
        // Nobody waits for it any more if it was too late.
        let _ = done.send(commit(&tables, &downs, allow_loss, || !inside.swap(true, Relaxed)));
    };
    thread::Builder::new().name("replug-commit".to_owned()).spawn(work).map_err(DeployError::Thread)?;
    let committed = match outcome.recv_deadline(until) {
        // It is being made, which waits for nothing.
        Err(RecvTimeoutError::Timeout) if decided.swap(true, Relaxed) => outcome.recv().ok(),
        Err(RecvTimeoutError::Timeout) => return Err(DeployError::SlowStore { waited: begun.elapsed() }),
        Err(RecvTimeoutError::Disconnected) => None,
        Ok(committed) => Some(committed),
    };
    committed.unwrap_or(Err(DeployError::Panicked))
}

fn commit(
    tables: &OpenTables,
    downs: &[Down],
    allow_loss: bool,
    may: impl FnOnce() -> bool,
) -> Result<Vec<Loss>, DeployError> {
    reads_all_rows(tables)?;
    let losses =
        downs.iter().filter_map(|down| down.loss(allow_loss).transpose()).collect::<Result<_, _>>()?;
    if tables.commit_if(may)? { Ok(losses) } else { Err(DeployError::Overtaken) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        pipeline::tables::testing::{Hanging, LONG, hanging, version},
        service::Tables,
        table::Limits,
        table_store::TableStoreOptions,
    };
    use std::time::Duration;

    /// Once, the gate stayed closed for as long as the disk hung, and the command
    /// loop stood.
    #[test]
    fn a_commit_that_hangs_is_given_up_in_time_and_taken_back_when_it_goes_on() {
        let tables = Tables::new(Limits::NONE, "nowhere".into(), TableStoreOptions::default());
        let (serving, next) = (version(&tables, 1), version(&tables, 2));
        serving.activate().expect("writes");
        serving.commit().expect("is the first");
        let table = Arc::clone(serving.all()[0].view().table());
        let (store, Hanging { asked, let_go_on }) = hanging();
        let_go_on.send(()).expect("it listens");
        table.attach(store).expect("takes the record");
        asked.recv_timeout(LONG).expect("takes the record");

        let begun = Instant::now();
        let until = begun + Duration::from_millis(50);
        let refused = commit_behind_gate(&next, &Descent::none(), false, until).expect_err("it hangs");
        assert!(matches!(refused, DeployError::SlowStore { .. }) && begun.elapsed() < LONG, "{refused}");
        asked.recv_timeout(LONG).expect("was written");
        let_go_on.send(()).expect("it listens");
        asked.recv_timeout(LONG).expect("is taken back");
        drop(let_go_on);
        // Who changes it next comes after that.
        table.cancel_downgrade().expect("nothing is to be written");
        assert_eq!(table.record().base, 1);
        commit_behind_gate(&next, &Descent::none(), false, Instant::now() + LONG).expect("is quick now");
        assert_eq!(table.record().base, 2);
    }
}
