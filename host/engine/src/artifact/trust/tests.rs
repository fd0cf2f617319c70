//! Judgements of real files with real signatures.

use super::*;
use crate::{
    artifact::{
        inspect::{Interface, PanicStrategy, Profile, StateModel},
        stage::{StageLimits, Stager},
    },
    failure::{Code, Failure},
};
use minisign::KeyPair;
use semver::Version;
use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::PathBuf,
};

const BYTES: &[u8] = b"a library";
const COMMENT: &str = "name=a version=1.0.0 target=here interface=x@1.0.0";

fn manifest() -> Manifest {
    Manifest {
        name: "a".parse().expect("a name"),
        version: Version::new(1, 0, 0),
        sdk: Version::new(1, 0, 0),
        abi: Version::new(1, 0, 0),
        abi_stable: Version::new(0, 11, 3),
        interfaces: vec![Interface { id: "x".into(), version: Version::new(1, 0, 0) }],
        requires: Vec::new(),
        state: StateModel { snapshot: false, tables: false },
        schema_version: 0,
        dependencies: Vec::new(),
        routes: Vec::new(),
        capabilities: Vec::new(),
        rustc: "rustc".into(),
        target: "here".into(),
        profile: Profile::Release,
        panic: PanicStrategy::Unwind,
        ledger: true,
    }
}

/// A folder that nobody else may write, with one file, and a key.
struct Dropped {
    folder: tempfile::TempDir,
    stager: Stager,
    keys: KeyPair,
}

impl Dropped {
    fn new() -> Dropped {
        let folder = tempfile::tempdir().expect("a directory");
        let stager = Stager::new(folder.path().join("private"), StageLimits::default()).expect("a stager");
        let keys = KeyPair::generate_unencrypted_keypair().expect("keys");
        let drop = Dropped { folder, stager, keys };
        // Whatever the umask.
        drop.allow(drop.folder.path(), 0o755);
        fs::write(drop.file(), BYTES).expect("writes");
        drop.allow(&drop.file(), 0o644);
        drop
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("a.so")
    }

    fn allow(&self, path: &Path, mode: u32) {
        fs::set_permissions(path, Permissions::from_mode(mode)).expect("is ours");
    }

    fn signed(&self, bytes: &[u8], comment: &str) -> String {
        let signed = minisign::sign(Some(&self.keys.pk), &self.keys.sk, bytes, Some(comment), None);
        signed.expect("signs").into_string()
    }

    fn sign(&self, text: &str) {
        fs::write(signature_of(&self.file()), text).expect("writes");
    }

    fn public(&self) -> PublicKey {
        self.keys.pk.to_base64().parse().expect("a key")
    }

    fn judged(&self, trust: &Trust) -> Result<Voucher, TrustError> {
        let staged = self.stager.stage(&self.file()).expect("can be read");
        let bytes = staged.copy.map().expect("can be read");
        trust.judge(&staged, &bytes, &manifest())
    }

    fn trusting(&self) -> Trust {
        Trust::production().key("release", self.public())
    }

    #[track_caller]
    fn refused(&self, trust: &Trust, code: Code, named: &str) {
        let error = self.judged(trust).expect_err("is refused");
        assert_eq!(error.code(), code, "{error}");
        assert!(error.to_string().contains(named), "{error}");
    }
}

#[test]
fn a_signature_for_this_file_with_a_trusted_key_vouches_for_it() {
    let drop = Dropped::new();
    drop.sign(&drop.signed(BYTES, COMMENT));
    let trust = drop.trusting().key("other", Dropped::new().public());
    let voucher = Voucher::Key { name: "release".into(), key: drop.public() };
    assert_eq!(drop.judged(&trust).expect("is trusted"), voucher);
}

#[test]
fn a_digest_of_the_operator_vouches_without_a_signature() {
    let drop = Dropped::new();
    let trust = Trust::production().digest(Digest::of(BYTES));
    assert_eq!(drop.judged(&trust).expect("is trusted"), Voucher::Digest);
    drop.refused(&Trust::production().digest(Digest::of(b"other")), Code::TrustUnsigned, "a.so.minisig");
}

#[test]
fn in_development_nobody_is_asked() {
    let drop = Dropped::new();
    drop.allow(&drop.file(), 0o666);
    drop.sign("nonsense");
    assert_eq!(drop.judged(&Trust::development()).expect("is loaded"), Voucher::Nobody);
}

#[test]
fn a_world_writable_file_or_folder_is_refused_also_if_it_is_signed() {
    let drop = Dropped::new();
    drop.sign(&drop.signed(BYTES, COMMENT));
    drop.allow(&drop.file(), 0o646);
    drop.refused(&drop.trusting(), Code::TrustWritable, "a.so has mode 0646");
    drop.allow(&drop.file(), 0o644);
    drop.allow(drop.folder.path(), 0o1777);
    drop.refused(&drop.trusting(), Code::TrustWritable, "has mode 1777");
}

#[test]
fn a_bit_flip_in_file_or_signature_is_refused() {
    let drop = Dropped::new();
    let signed = drop.signed(BYTES, COMMENT);
    drop.sign(&signed);
    fs::write(drop.file(), b"a libraru").expect("writes");
    drop.refused(&drop.trusting(), Code::TrustForged, "release");
    fs::write(drop.file(), BYTES).expect("writes");
    drop.sign(&signed.replace("version=1.0.0", "version=1.0.1"));
    drop.refused(&drop.trusting(), Code::TrustForged, "release");
}

#[test]
fn a_signature_for_another_plugin_or_version_is_refused_with_both() {
    let drop = Dropped::new();
    for (signed, named) in [
        (COMMENT.replace("name=a", "name=b"), "name=b"),
        (COMMENT.replace("1.0.0 target", "2.0.0 target"), "version=2.0.0"),
        (COMMENT.replace("here", "there"), "target=there"),
        (COMMENT.replace("x@1.0.0", "x@1.1.0"), "interface=x@1.1.0"),
        (COMMENT.replace(" interface=x@1.0.0", ""), "the file holds name=a version=1.0.0 target=here"),
        ("timestamp:1".into(), "without \"name\""),
    ] {
        drop.sign(&drop.signed(BYTES, &signed));
        drop.refused(&drop.trusting(), Code::TrustStatement, named);
    }
}

#[test]
fn a_revoked_key_is_named_and_another_is_unknown() {
    let drop = Dropped::new();
    drop.sign(&drop.signed(BYTES, COMMENT));
    let revoked = drop.trusting().revoked_key("lost", drop.public());
    drop.refused(&revoked, Code::TrustRevokedKey, "lost");
    let other = Trust::production().key("other", Dropped::new().public());
    drop.refused(&other, Code::TrustUnknownKey, "none of the 1 keys");
}

#[test]
fn what_is_no_signature_is_refused_and_never_waited_for() {
    let drop = Dropped::new();
    let signed = drop.signed(BYTES, COMMENT);
    let cut = &signed[..signed.len() / 2];
    for text in ["", "nonsense", cut, &"x".repeat(30_000)] {
        drop.sign(text);
        drop.refused(&drop.trusting(), Code::TrustBadSignature, "a.so.minisig");
    }
    let path = signature_of(&drop.file());
    fs::remove_file(&path).expect("was there");
    assert!(std::process::Command::new("mkfifo").arg(&path).status().expect("mkfifo runs").success());
    drop.refused(&drop.trusting(), Code::TrustBadSignature, "no regular file");
    fs::remove_file(&path).expect("was there");
    std::os::unix::fs::symlink("/dev/zero", &path).expect("links");
    drop.refused(&drop.trusting(), Code::TrustBadSignature, "a symbolic link");
}

#[test]
fn what_a_later_signature_can_mend_is_waited_for_and_nothing_else() {
    let drop = Dropped::new();
    let trust = drop.trusting().signature_timeout(Duration::MAX);
    let patience = || trust.patience(&drop.judged(&trust).expect_err("is refused"));
    assert_eq!(patience(), FOREVER, "it may come yet");
    for text in ["", &drop.signed(b"before", COMMENT), &drop.signed(BYTES, "timestamp:1")] {
        drop.sign(text);
        assert_eq!(patience(), FOREVER, "it may be that of the file before");
    }
    drop.allow(&drop.file(), 0o666);
    assert_eq!(patience(), Duration::ZERO);
    drop.allow(&drop.file(), 0o644);
    drop.sign(&drop.signed(BYTES, COMMENT));
    let trust = trust.revoked_key("lost", drop.public());
    assert_eq!(trust.patience(&drop.judged(&trust).expect_err("is refused")), Duration::ZERO);
}

#[test]
fn only_what_could_vouch_for_a_file_makes_a_host_worth_starting() {
    let (drop, other) = (Dropped::new(), Dropped::new());
    assert!(Trust::production().is_hopeless());
    assert!(Trust::production().revoked_key("lost", other.public()).is_hopeless());
    assert!(drop.trusting().revoked_key("lost", drop.public()).is_hopeless());
    assert!(!drop.trusting().revoked_key("lost", other.public()).is_hopeless());
    assert!(!Trust::production().digest(Digest::of(BYTES)).is_hopeless());
    assert!(!Trust::development().is_hopeless());
}

#[test]
fn what_is_no_key_is_refused() {
    for text in ["", "RWQnonsense", "untrusted comment: minisign public key", &"A".repeat(56)] {
        assert_eq!(text.parse::<PublicKey>(), Err(InvalidKey), "{text}");
    }
}

proptest::proptest! {
    #[test]
    fn any_text_in_the_place_of_a_signature_is_refused(text in "\\PC{0,200}(\n\\PC{0,200}){0,5}") {
        let drop = Dropped::new();
        drop.sign(&text);
        proptest::prop_assert!(drop.judged(&drop.trusting()).is_err());
    }
}

#[test]
fn what_was_let_in_is_flagged_when_its_key_is_revoked_or_nobody_vouches_any_more() {
    let (drop, other) = (Dropped::new(), Dropped::new());
    drop.sign(&drop.signed(BYTES, COMMENT));
    let voucher = drop.judged(&drop.trusting()).expect("is trusted");
    let (name, version) = (manifest().name, manifest().version);
    let id = VersionId { name, version, digest: Digest::of(BYTES) };
    let flagged = |trust: Trust, voucher: &Voucher| {
        let error = trust.stands_by(&id, voucher).err()?;
        assert!(error.to_string().contains("a@1.0.0"), "{error}");
        Some(error.code())
    };
    let others = || other.trusting();
    assert_eq!(flagged(drop.trusting(), &voucher), None);
    assert_eq!(
        flagged(drop.trusting().revoked_key("lost", drop.public()), &voucher),
        Some(Code::TrustRevokedKey)
    );
    assert_eq!(flagged(others().revoked_key("lost", drop.public()), &voucher), Some(Code::TrustRevokedKey));
    assert_eq!(flagged(others(), &voucher), Some(Code::TrustWithdrawn));
    assert_eq!(flagged(others().digest(id.digest), &voucher), None, "the operator named it since");
    assert_eq!(flagged(others(), &Voucher::Digest), Some(Code::TrustWithdrawn));
    assert_eq!(flagged(Trust::development(), &Voucher::Nobody), None);
}
