//! Which HTTP status a failure has: one decision for each code.
//!
//! The rule: what the caller can put right is a status of its own (400, 404,
//! 405, 413); what passes by itself is 503 or 504, with Retry-After for 503;
//! what a plugin or its file did is 422, a panic 500; what an operator has to
//! decide or set is 409; the host's own trouble is 500 or 507.

use axum::http::StatusCode;
use replug_host::failure::Code;

/// The status of an answer with this code.
pub(super) fn status(code: Code) -> StatusCode {
    decided(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

const fn decided(code: Code) -> Option<StatusCode> {
    Some(match code {
        Code::RequestInvalid => StatusCode::BAD_REQUEST,
        Code::RequestUnknownRoute
        | Code::CallUnknownPlugin
        | Code::CallUnknownMethod
        | Code::CallUnknownInterface
        | Code::DeployUnknownVersion
        | Code::StateUnknownSnapshot => StatusCode::NOT_FOUND,
        Code::RequestWrongMethod => StatusCode::METHOD_NOT_ALLOWED,
        Code::CallPayloadTooLarge => StatusCode::PAYLOAD_TOO_LARGE,

        Code::GateTimeout
        | Code::GateQuiesceTimeout
        | Code::GateBudget
        | Code::GateBusy
        | Code::TableUnswept
        | Code::RouteSplit
        | Code::RouteNotSplit
        | Code::RouteSharedState
        | Code::RollbackNotWarm
        | Code::CallNotActive
        | Code::CallOverloaded
        | Code::CallCancelled
        | Code::HostStopped
        | Code::HostThread
        | Code::HostUnreachable
        | Code::HostOverloaded
        | Code::RehearsalHost => StatusCode::SERVICE_UNAVAILABLE,
        Code::CallDeadline | Code::HookTimeout => StatusCode::GATEWAY_TIMEOUT,

        Code::CallPanicked | Code::HookPanicked => StatusCode::INTERNAL_SERVER_ERROR,
        Code::CallDepth => StatusCode::LOOP_DETECTED,
        Code::CallPlugin
        | Code::PrepareFailed
        | Code::HookFailed
        | Code::SelfTestFailed
        | Code::StateMigrate
        | Code::StateBadBytes
        | Code::StateSchemaMismatch
        | Code::StateBadImport
        | Code::StageNotRegular
        | Code::StageEmpty
        | Code::StageTooLarge
        | Code::StageChanging
        | Code::InspectNotElf
        | Code::InspectWrongClass
        | Code::InspectWrongMachine
        | Code::InspectNotLibrary
        | Code::InspectTruncated
        | Code::InspectMalformed
        | Code::InspectNoNote
        | Code::InspectBadNote
        | Code::InspectNoteUnsupported
        | Code::InspectNoRoot
        | Code::InspectPanicAbort
        | Code::InspectStaticTls
        | Code::InspectTooLarge
        | Code::InspectNameMismatch
        | Code::InspectAbiMajor
        | Code::LoadOpen
        | Code::AbiHeader
        | Code::AbiLayoutMismatch
        | Code::AbiMissingInterface
        | Code::AbiInterfaceMajor
        | Code::AbiIdentityMismatch
        | Code::AbiLedger
        | Code::TrustBadSignature
        | Code::TrustRevokedKey
        | Code::TrustForged
        | Code::TrustStatement
        | Code::RehearsalCrashed
        | Code::RehearsalExited
        | Code::RehearsalTimeout
        | Code::RehearsalDescriptors
        | Code::RehearsalThreads
        | Code::RehearsalResident
        | Code::RehearsalSample
        | Code::RehearsalMemory
        | Code::RehearsalLeaked
        | Code::TableRowTooLarge
        | Code::TableKeyTooLarge
        | Code::TableNotOpen
        | Code::TableNotActive
        | Code::TableNewerRow
        | Code::TableName
        | Code::TableSchema => StatusCode::UNPROCESSABLE_ENTITY,

        Code::WatchDirectory
        | Code::StageUnreadable
        | Code::StageGone
        | Code::LoadExecutableStore
        | Code::TrustOwner
        | Code::TrustWritable
        | Code::TrustUnsigned
        | Code::TrustUnknownKey
        | Code::TrustWithdrawn
        | Code::TrustOlder
        | Code::RehearsalHelper
        | Code::ConfigInvalid
        | Code::StateModelChanged
        | Code::StateNoPath
        | Code::StateTooLarge
        | Code::StateFormat
        | Code::StateForeign
        | Code::StateNotShown
        | Code::UnloadResident
        | Code::UnloadCapReached
        | Code::DeploySuperseded
        | Code::DeploySameVersion
        | Code::HostDataDirectory
        | Code::HostDataLocked
        | Code::HostSocket
        | Code::HostOptions
        | Code::TableRowsMax
        | Code::TableBytesMax
        | Code::TableLoss
        | Code::TableStoreReplaced => StatusCode::CONFLICT,

        Code::StageStore | Code::StateStore | Code::TableStoreFailed => StatusCode::INSUFFICIENT_STORAGE,
        Code::StateCorrupt | Code::HostUncleanEnd | Code::TableCorrupt | Code::TablePartial => {
            StatusCode::INTERNAL_SERVER_ERROR
        }
        // Never taken, see below; the list of codes is open to other crates.
        _ => return None,
    })
}

/// A new code does not compile until its status is decided.
const _: () = {
    let mut index = 0;
    while index < Code::ALL.len() {
        assert!(decided(Code::ALL[index]).is_some(), "a code has no HTTP status: decide it above");
        index += 1;
    }
};

#[cfg(test)]
mod tests {
    use super::*;
    use replug_host::failure::Blame;

    #[test]
    fn statuses_are_those_of_the_contract() {
        let contract = [
            ("request.invalid", 400),
            ("call.unknown_plugin", 404),
            ("call.unknown_method", 404),
            ("deploy.unknown_version", 404),
            ("state.unknown_snapshot", 404),
            ("request.unknown_route", 404),
            ("request.wrong_method", 405),
            ("deploy.same_version", 409),
            ("state.no_path", 409),
            ("table.rows_max", 409),
            ("table.loss", 409),
            ("call.payload_too_large", 413),
            ("call.plugin", 422),
            ("inspect.not_elf", 422),
            ("table.newer_row", 422),
            ("call.panicked", 500),
            ("table.corrupt", 500),
            ("gate.timeout", 503),
            ("gate.busy", 503),
            ("gate.quiesce_timeout", 503),
            ("call.cancelled", 503),
            ("call.overloaded", 503),
            ("host.stopped", 503),
            ("call.deadline", 504),
            ("state.store", 507),
            ("table.store_failed", 507),
            ("call.depth", 508),
        ];
        for (name, expected) in contract {
            let code = Code::from_name(name).expect(name);
            assert_eq!(status(code).as_u16(), expected, "{name}");
        }
    }

    #[test]
    fn statuses_agree_with_who_has_to_act() {
        for &code in Code::ALL {
            let status = status(code);
            let passes = matches!(status.as_u16(), 503 | 504);
            match code.blame() {
                Blame::Caller => assert!(status.is_client_error() || passes, "{code}: {status}"),
                Blame::Host => assert!(status.is_server_error(), "{code}: {status}"),
                Blame::Artifact => assert!(status.is_client_error(), "{code}: {status}"),
                // Each has several; the decision above is the only one.
                Blame::Plugin | Blame::Operator => assert!(status.as_u16() >= 400),
            }
        }
    }
}
