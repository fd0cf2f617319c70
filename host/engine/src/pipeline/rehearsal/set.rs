//! What is there before anything of a plugin runs: copies, state, limits; and what the child
//! has given up by then.

use super::{Stage, Stopped};
use crate::{
    artifact::stage::{StageLimits, Stager},
    load::Interfaces,
    pipeline::{
        candidate::{Candidate, inspect},
        error::DeployError,
    },
    rehearse::{Protection, Record, Request, WantedInterface, confine, rows_from_bytes},
    service::{Directory, KeptCall, ServiceLimits, Tables},
    state::envelope::Envelope,
    table::{Limits as TableLimits, SampleRow},
    table_store::TableStoreOptions,
};
use std::{fs, io, path::Path, sync::Arc, time::Duration};

/// No call waits at a gate here.
const GATE_TIMEOUT: Duration = Duration::from_secs(5);

/// The folder of its tables, in the one that it may write.
pub(super) const TABLES: &str = "tables";

/// What is there before anything of the plugin runs.
pub(super) struct Set {
    pub(super) candidate: Candidate,
    pub(super) before: Option<Candidate>,
    pub(super) directory: Arc<Directory>,
    pub(super) state: Option<Envelope>,
    pub(super) rows: Vec<(String, Vec<SampleRow>)>,
    pub(super) calls: Vec<KeptCall>,
}

impl Stage {
    /// Copies what is needed, and gives up what the child may not do then.
    pub(super) fn set(&mut self, request: &Request, interfaces: Interfaces) -> Result<Set, Stopped> {
        let stager = Stager::new(request.scratch.join("private"), StageLimits { max_bytes: u64::MAX });
        let stager = stager.map_err(DeployError::from)?;
        let copied = |path: &Path| -> Result<Candidate, Stopped> {
            let candidate = inspect(stager.stage(path).map_err(DeployError::from)?)?;
            candidate.apply_patch()?;
            Ok(candidate)
        };
        let candidate = copied(&request.library)?;
        if candidate.id.digest != request.digest {
            let (wanted, found) = (request.digest.to_string(), candidate.id.digest.to_string());
            return Err(DeployError::Replaced { wanted, found }.into());
        }
        let before = request.before.as_deref().map(copied).transpose().map_err(Stopped::by_before)?;
        let bytes = request.state.as_ref().map(fs::read).transpose();
        let bytes = bytes.map_err(|error| Stopped::host("its state cannot be read", &error))?;
        let opened = bytes.map(|bytes| Envelope::open(&bytes, self.bounds.state_bytes)).transpose();
        let state = opened.map_err(|error| Stopped::by(&error))?;
        let mut rows = Vec::new();
        for (table, file) in &request.rows {
            let bytes = fs::read(file).map_err(|error| Stopped::host("rows cannot be read", &error))?;
            rows.push((table.clone(), rows_from_bytes(&bytes)));
        }
        let calls = request.calls.as_ref().map(fs::read).transpose();
        let calls = calls.map_err(|error| Stopped::host("calls cannot be read", &error))?;
        let calls = calls.map(|bytes| serde_json::from_slice(&bytes).map_err(io::Error::from)).transpose();
        let calls = calls.map_err(|error| Stopped::host("calls cannot be read", &error))?;
        let options = TableStoreOptions { accept_loss: true, witnesses: None };
        let limits = TableLimits { rows_max: self.bounds.table_rows, bytes_max: self.bounds.table_bytes };
        let tables = Tables::new(limits, request.scratch.join(TABLES), options);
        let unknown = not_compared(&candidate, &request.interfaces, &interfaces);
        let directory = Arc::new(Directory::new(self.call_limits(), interfaces, tables));
        directory.tables.load(&candidate.id.name).map_err(DeployError::from)?;
        let protections = confine(&request.limits, &request.scratch, request.host);
        let mut protections =
            protections.map_err(|error| Stopped::host("the child cannot confine itself", &error))?;
        protections.extend(unknown);
        self.say(&Record::Confined { protections });
        self.own = self.holds()?.files;
        Ok(Set { candidate, before, directory, state, rows, calls: calls.unwrap_or_default() })
    }

    fn call_limits(&self) -> ServiceLimits {
        let bytes = |bytes| usize::try_from(bytes).unwrap_or(usize::MAX);
        ServiceLimits {
            gate_timeout: GATE_TIMEOUT,
            body_bytes_max: bytes(self.bounds.body_bytes),
            answer_bytes_max: bytes(self.bounds.answer_bytes),
            in_flight_max: None,
        }
    }
}

/// The interfaces that the host will find in the library, and that this helper does not
/// know as the host does.
fn not_compared(candidate: &Candidate, wanted: &[WantedInterface], known: &Interfaces) -> Vec<Protection> {
    let offers = |wanted: &&WantedInterface| {
        candidate.manifest.interfaces.iter().any(|offered| offered.id == wanted.id)
    };
    let is_known = |wanted: &WantedInterface| {
        known.wanted().any(|(id, version)| id == wanted.id && version.to_string() == wanted.version)
    };
    let unknown = wanted.iter().filter(offers).filter(|wanted| !is_known(wanted));
    let told = unknown.map(|WantedInterface { id, version }| Protection {
        name: format!("the layout of {id} {version}"),
        absent: Some("the helper does not know the interface; the host compares it".to_owned()),
    });
    told.collect()
}
