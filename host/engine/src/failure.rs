//! What every error says: a stable code, who is to blame, and the next step.
//!
//! The list of codes is closed and append-only: operators script against the
//! names, so a code is never renamed, reused or removed. Errors themselves
//! stand beside the stage that raises them and point here through [`Failure`];
//! this file never formats an error and knows nothing of any stage.

use std::fmt;

/// Who has to act so that the failure goes away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Blame {
    /// The file: damaged, of the wrong kind, or built for something else.
    Artifact,
    /// The plugin's own code.
    Plugin,
    /// The host or the machine that it runs on.
    Host,
    /// A decision or a setting of the operator.
    Operator,
    /// The code that called.
    Caller,
}

impl Blame {
    /// The name as it appears in events, JSON and documentation.
    pub const fn as_str(self) -> &'static str {
        match self {
            Blame::Artifact => "artifact",
            Blame::Plugin => "plugin",
            Blame::Host => "host",
            Blame::Operator => "operator",
            Blame::Caller => "caller",
        }
    }
}

impl fmt::Display for Blame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The operator's view of an error.
///
/// ```
/// use replug_host::failure::{Blame, Code, Failure};
///
/// #[derive(Debug, thiserror::Error)]
/// #[error("{0} is not an ELF file")]
/// struct NotElf(String);
///
/// impl Failure for NotElf {
///     fn code(&self) -> Code {
///         Code::InspectNotElf
///     }
/// }
///
/// let error = NotElf("notes.so".into());
/// assert_eq!(error.code().as_str(), "inspect.not_elf");
/// assert_eq!(error.code().blame(), Blame::Artifact);
/// ```
pub trait Failure: std::error::Error {
    /// The stable code; blame and next step follow from it.
    fn code(&self) -> Code;
}

macro_rules! codes {
    ($($variant:ident = $name:literal, $blame:ident, $next:literal;)*) => {
        /// A stable failure code, `area.reason`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Code {
            $(#[doc = concat!("`", $name, "`: ", $next)] $variant,)*
        }

        impl Code {
            /// Every code, in the order in which they were introduced.
            pub const ALL: &'static [Code] = &[$(Code::$variant),*];

            /// The stable name, `area.reason`.
            pub const fn as_str(self) -> &'static str {
                match self { $(Code::$variant => $name),* }
            }

            /// The code of a name.
            pub fn from_name(name: &str) -> Option<Code> {
                Code::ALL.iter().copied().find(|code| code.as_str() == name)
            }

            /// Who has to act.
            pub const fn blame(self) -> Blame {
                match self { $(Code::$variant => Blame::$blame),* }
            }

            /// What to do about it.
            pub const fn next_step(self) -> &'static str {
                match self { $(Code::$variant => $next),* }
            }
        }
    };
}

codes! {
    WatchDirectory = "watch.directory", Operator, "check that the plugin directory exists and that the host may read it";
    StageUnreadable = "stage.unreadable", Operator, "give the host permission to read the file";
    StageNotRegular = "stage.not_regular", Artifact, "drop a regular file; links, pipes, devices and folders are not followed";
    StageEmpty = "stage.empty", Artifact, "copy the file again; it has no content";
    StageTooLarge = "stage.too_large", Artifact, "strip the library, or raise file_bytes_max";
    StageChanging = "stage.changing", Artifact, "wait for the copy to end; the file is taken when it stops changing";
    StageStore = "stage.store", Host, "free disk space, or give the host a data directory that it may write";
    InspectNotElf = "inspect.not_elf", Artifact, "drop a shared library built with crate-type cdylib";
    InspectWrongClass = "inspect.wrong_class", Artifact, "build for the host's target: a 64-bit little-endian library";
    InspectWrongMachine = "inspect.wrong_machine", Artifact, "build for the host's processor";
    InspectNotLibrary = "inspect.not_library", Artifact, "build with crate-type cdylib; this is not a shared library";
    InspectTruncated = "inspect.truncated", Artifact, "copy the file again; a part of it is missing";
    InspectMalformed = "inspect.malformed", Artifact, "build the file again; its headers contradict each other";
    InspectNoNote = "inspect.no_note", Artifact, "export the plugin with replug_plugin_api::export! in a cdylib crate";
    InspectBadNote = "inspect.bad_note", Artifact, "build the plugin again with a matching replug-plugin-api";
    InspectNoteUnsupported = "inspect.note_unsupported", Artifact, "use a host that is as new as the plugin's SDK";
    InspectNoRoot = "inspect.no_root", Artifact, "export the plugin with replug_plugin_api::export! in a cdylib crate";
    InspectPanicAbort = "inspect.panic_abort", Artifact, "build with panic = \"unwind\", so that a panic can be contained";
    InspectStaticTls = "inspect.static_tls", Artifact, "build with the default TLS model; static TLS cannot be unloaded";
    InspectTooLarge = "inspect.too_large", Artifact, "shorten names, routes or dependencies: the note may have 64 KiB";
    InspectNameMismatch = "inspect.name_mismatch", Artifact, "name the file after the plugin and version that it holds";
    InspectAbiMajor = "inspect.abi_major", Artifact, "build with an SDK of the host's ABI major version";
    LoadOpen = "load.open", Artifact, "install the library that the message names, or build the plugin without the symbol that it lacks";
    LoadExecutableStore = "load.executable_store", Operator, "use a data directory on a file system mounted without noexec";
    AbiHeader = "abi.header", Artifact, "build the plugin with the abi_stable version that the message names";
    AbiLayoutMismatch = "abi.layout_mismatch", Artifact, "build plugin and host against the same version of the interface crate";
    AbiMissingInterface = "abi.missing_interface", Artifact, "export the interface that the message names, or run a host that has it";
    AbiInterfaceMajor = "abi.interface_major", Artifact, "build against the interface's major version that the host has";
    AbiIdentityMismatch = "abi.identity_mismatch", Artifact, "build the plugin again: note and code disagree on what it is";
    ConfigInvalid = "config.invalid", Operator, "correct the plugin's configuration at the named field";
    PrepareFailed = "prepare.failed", Plugin, "correct what the plugin's message names; the version was not started";
    HookPanicked = "hook.panicked", Plugin, "fix the panic in the named hook; the old version serves on";
    HookTimeout = "hook.timeout", Plugin, "make the named hook return in time, or raise hook_timeout";
    HookFailed = "hook.failed", Plugin, "correct what the plugin's message names; the old version serves on";
    SelfTestFailed = "self_test.failed", Plugin, "correct what the self-test's message names; the version was not published";
    StateModelChanged = "state.model_changed", Plugin, "keep the state model, or give the plugin with the new one another name";
    StateMigrate = "state.migrate", Plugin, "fix the migration step that the message names";
    StateNoPath = "state.no_path", Plugin, "add the missing migration step, or set allow_state_loss on the way to an older version";
    StateBadBytes = "state.bad_bytes", Plugin, "export state through the SDK; these bytes cannot be decoded";
    StateSchemaMismatch = "state.schema_mismatch", Plugin, "export the schema version that the manifest declares";
    StateTooLarge = "state.too_large", Operator, "raise state_bytes_max, or keep less state in the plugin";
    StateStore = "state.store", Host, "free disk space, or let the host write its data directory; the previous snapshot is intact";
    StateCorrupt = "state.corrupt", Host, "restore an older snapshot; the one that the message names is damaged";
    GateTimeout = "gate.timeout", Caller, "call again; the plugin was handing its state over";
    GateQuiesceTimeout = "gate.quiesce_timeout", Plugin, "make calls shorter, or raise quiesce_timeout; the swap was abandoned";
    CallUnknownPlugin = "call.unknown_plugin", Caller, "check the name against the list of plugins";
    CallNotActive = "call.not_active", Caller, "wait for a version to be activated, or activate one";
    CallUnknownMethod = "call.unknown_method", Caller, "check the method against the plugin's list of methods";
    CallUnknownInterface = "call.unknown_interface", Caller, "ask for an interface that the plugin exports";
    CallPlugin = "call.plugin", Plugin, "read the plugin's own code and message";
    CallPanicked = "call.panicked", Plugin, "fix the panic; the host caught it and serves on";
    CallDeadline = "call.deadline", Caller, "allow more time, or find out why the plugin is slow";
    CallCancelled = "call.cancelled", Caller, "call again if the answer is still wanted; the version that ran the call has stopped";
    CallDepth = "call.depth", Plugin, "break the cycle of plugins calling each other";
    CallPayloadTooLarge = "call.payload_too_large", Caller, "send or ask for less, or raise body_bytes_max or answer_bytes_max";
    CallOverloaded = "call.overloaded", Caller, "call again later, or raise in_flight_max";
    UnloadResident = "unload.resident", Plugin, "have the plugin end what the message names; the version stays in memory until then";
    UnloadCapReached = "unload.cap_reached", Operator, "read in the status what keeps old versions in memory and end it, or restart the host";
    DeployUnknownVersion = "deploy.unknown_version", Operator, "drop the version's file, or name one that is listed";
    DeploySuperseded = "deploy.superseded", Operator, "nothing: another version of the plugin is wanted; activate this one if it is to serve";
    DeploySameVersion = "deploy.same_version", Artifact, "give changed code a new version; in development, where it is only being tried, set same_version to replace";
    HostStopped = "host.stopped", Host, "start the host again";
    HostDataDirectory = "host.data_directory", Operator, "name a data directory that the host may create and write";
    HostThread = "host.thread", Host, "raise the limit of threads or memory of the process";
    HostDataLocked = "host.data_locked", Operator, "stop the other host, or use another data directory";
    GateBusy = "gate.busy", Operator, "try again when the running hand-over has ended";
    StateFormat = "state.format", Operator, "use a host that is as new as the one that saved the state";
    StageGone = "stage.gone", Artifact, "drop the file again if it is wanted; it was removed before it was read";
    RequestInvalid = "request.invalid", Caller, "correct the request as the message says";
    RequestUnknownRoute = "request.unknown_route", Caller, "ask for one of the routes that the message names";
    RequestWrongMethod = "request.wrong_method", Caller, "use a method that the Allow header names";
    HostUnreachable = "host.unreachable", Operator, "start a host with `replug run`, or name its data directory or socket";
    HostOverloaded = "host.overloaded", Caller, "ask again later, or end followers of events that nobody reads";
    HostSocket = "host.socket", Operator, "name a socket that is free, writable and shorter than 108 bytes";
    HostUncleanEnd = "host.unclean_end", Operator, "read in the events what was not saved or did not return";
    AbiLedger = "abi.ledger", Artifact, "build the plugin again with a matching replug-plugin-api, for this C library";
    HostOptions = "host.options", Operator, "correct the option that the message names";
    GateBudget = "gate.budget", Plugin, "make calls, export and restore quicker, or raise gate_timeout; the swap was abandoned";
    RouteSplit = "route.split", Operator, "promote or roll back the version that is being tried, then ask again";
    RouteNotSplit = "route.not_split", Operator, "try a version other than the one that serves, then ask again";
    RouteSharedState = "route.shared_state", Operator, "activate the version instead, so that it takes the state over";
    RollbackNotWarm = "rollback.not_warm", Operator, "see in the status which versions serve and are kept ready, and activate the one that is wanted";
    StateUnknownSnapshot = "state.unknown_snapshot", Operator, "name a snapshot that `replug state list` shows";
    StateForeign = "state.foreign", Operator, "name the plugin that the snapshot is of, or say that it may come from another";
    StateBadImport = "state.bad_import", Operator, "export the snapshot again; the file is damaged, or is none";
    StateNotShown = "state.not_shown", Operator, "export the snapshot, and read the file with a CBOR tool";
    TableRowsMax = "table.rows_max", Operator, "raise rows_max of the table that the message names, or have the plugin remove rows";
    TableBytesMax = "table.bytes_max", Operator, "raise bytes_max of the table that the message names, or have the plugin keep less in it";
    TableRowTooLarge = "table.row_too_large", Plugin, "spread the value over several rows";
    TableKeyTooLarge = "table.key_too_large", Plugin, "use a shorter key, such as a digest of the long one";
    TableNotOpen = "table.not_open", Plugin, "open tables in prepare, and keep them";
    TableNotActive = "table.not_active", Plugin, "write from activate on, and no more once the version has left";
    TableNewerRow = "table.newer_row", Plugin, "give the newer version a step down, or go back to a version that reads the row";
    TableStoreFailed = "table.store_failed", Host, "free disk space or mend the disk, then restart the host; nothing more is written to the table until then";
    TableCorrupt = "table.corrupt", Host, "restore the data directory from a copy; the rows that the message names are damaged";
    TableName = "table.name", Plugin, "name the table as plugins are named: a letter, then letters, digits, '_' and '-'";
    TableSchema = "table.schema", Plugin, "correct what the message names in the declaration of the table";
    TableLoss = "table.loss", Operator, "restore the data directory from a copy, or accept the loss that the message names with accept_table_loss";
    TablePartial = "table.partial", Host, "see what the plugin lacks: rows that were only in memory when the table was made durable went with the process";
    TableStoreReplaced = "table.store_replaced", Operator, "put the folder that the message names back as it was, or go on without what is missing with accept_table_loss";
    TableUnswept = "table.unswept", Operator, "let the sweep of the version that serves finish, which brings the rows up; if that lacks the step too, deploy a version first that has it";
    TrustOwner = "trust.owner", Operator, "let root or the host's user own the file and its folder";
    TrustWritable = "trust.writable", Operator, "take the right to write from group and others (chmod go-w), after a look at the file";
    TrustUnsigned = "trust.unsigned", Operator, "put its signature beside it, or its digest into the configuration and have the host read that again (SIGHUP)";
    TrustBadSignature = "trust.bad_signature", Artifact, "sign the file with minisign and copy the signature again";
    TrustUnknownKey = "trust.unknown_key", Operator, "add the signer's public key to the configuration, if the signer is to be trusted";
    TrustRevokedKey = "trust.revoked_key", Artifact, "have the file signed with a key that is trusted";
    TrustForged = "trust.forged", Artifact, "copy the file and its signature again; if that does not help, ask the signer";
    TrustStatement = "trust.statement", Artifact, "sign the file with the comment that `replug inspect` prints for it";
    TrustWithdrawn = "trust.withdrawn", Operator, "deploy a version that somebody vouches for, or name its key or digest again";
    TrustOlder = "trust.older", Operator, "activate the version, if it is meant to take the place of the later one";
    RehearsalHelper = "rehearsal.helper", Operator, "install the helper that the message names, or name one that is there; nothing is deployed unrehearsed";
    RehearsalHost = "rehearsal.host", Host, "free memory, disk space or processes; the version is tried again";
    RehearsalCrashed = "rehearsal.crashed", Plugin, "fix the crash in the named step; `replug check` shows it again";
    RehearsalExited = "rehearsal.exited", Plugin, "do not end the process from a plugin; `replug check` shows it again";
    RehearsalTimeout = "rehearsal.timeout", Plugin, "make the named step end in time, or raise the rehearsal's timeout";
    RehearsalDescriptors = "rehearsal.descriptors", Plugin, "close only what the plugin has opened itself";
    RehearsalThreads = "rehearsal.threads", Plugin, "start fewer threads, or raise the rehearsal's threads_max";
    RehearsalResident = "rehearsal.resident", Plugin, "have the plugin end in stop what the message names";
    RehearsalSample = "rehearsal.sample", Plugin, "have the method answer what it gives as an example, or give another one; `replug check` shows it again";
    RehearsalMemory = "rehearsal.memory", Plugin, "use less memory, or raise the rehearsal's memory_bytes_max";
    RehearsalLeaked = "rehearsal.leaked", Plugin, "close in `stop` or in the drop of the plugin what it has opened; `replug check` shows it again";
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn codes_are_unique_and_have_an_area_and_a_reason() {
        let mut seen = HashSet::new();
        for code in Code::ALL {
            let (area, reason) = code.as_str().split_once('.').expect("area.reason");
            assert!(!area.is_empty() && !reason.is_empty() && !reason.contains('.'));
            assert!(seen.insert(code.as_str()), "{code} stands twice");
            assert!(!code.next_step().is_empty());
        }
    }
}
