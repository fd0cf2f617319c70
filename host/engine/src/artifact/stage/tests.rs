//! Staging against real files, one test for each way in which a file is bad.

use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::process::Command;
use std::sync::mpsc;
use std::time::Duration;

use tempfile::TempDir;

use super::*;
use crate::failure::{Code, Failure};

struct Workshop {
    dir: TempDir,
    stager: Stager,
}

impl Workshop {
    fn new() -> Self {
        Workshop::with(StageLimits::default())
    }

    fn with(limits: StageLimits) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let stager = Stager::new(dir.path().join("private"), limits).expect("a stager");
        Workshop { dir, stager }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, content: &[u8]) -> PathBuf {
        fs::write(self.path(name), content).expect("written");
        self.path(name)
    }

    fn left_behind(&self) -> usize {
        fs::read_dir(self.path("private")).expect("readable").count()
    }

    /// Expects a refusal with this code, and nothing left behind.
    fn refused(&self, path: &Path, code: Code) -> StageError {
        let error = self.stager.stage(path).expect_err("refused");
        assert_eq!(error.code(), code, "{error}");
        assert_eq!(self.left_behind(), 0);
        error
    }
}

#[test]
fn the_copy_is_private_named_by_its_digest_and_never_again() {
    let workshop = Workshop::new();
    let content: Vec<u8> = (0..300_000_u32).map(|n| n as u8).collect();
    let path = workshop.write("a.so", &content);
    let one = workshop.stager.stage(&path).expect("staged");
    let two = workshop.stager.stage(&path).expect("staged");

    assert_eq!(one.digest, Digest::of(&content));
    assert_eq!(one.size_bytes, 300_000);
    assert_eq!(one.source, path);
    assert_eq!(fs::read(one.copy.path()).expect("readable"), content);
    assert_ne!(one.copy.path(), two.copy.path());
    let name = one.copy.path().file_name().and_then(OsStr::to_str).expect("text");
    assert!(name.starts_with(&one.digest.to_string()) && name.ends_with(".so"), "{name}");
    let mode = |path: &Path| fs::metadata(path).expect("there").mode() & 0o777;
    assert_eq!(mode(one.copy.path()), 0o400);
    assert_eq!(mode(&workshop.path("private")), 0o700);
}

#[test]
fn the_copy_lives_as_long_as_its_owner() {
    let workshop = Workshop::new();
    let staged = workshop.stager.stage(&workshop.write("a.so", b"content")).expect("staged");
    let Staged { copy, .. } = staged;
    let other = copy.clone();
    drop(copy);
    assert!(other.path().exists());
    drop(other);
    assert_eq!(workshop.left_behind(), 0);
}

#[test]
fn a_loaded_file_may_be_overwritten_truncated_or_removed() {
    let workshop = Workshop::new();
    let path = workshop.write("a.so", b"content");
    let staged = workshop.stager.stage(&path).expect("staged");
    let copied = || fs::read(staged.copy.path()).expect("readable");
    fs::write(&path, b"other").expect("written");
    assert_eq!(copied(), b"content");
    File::create(&path).expect("truncated");
    fs::remove_file(&path).expect("removed");
    assert_eq!(copied(), b"content");
}

#[test]
fn a_file_swapped_after_the_check_is_not_what_is_copied() {
    let workshop = Workshop::new();
    let path = workshop.write("a.so", b"checked");
    let (mut source, metadata) = workshop.stager.open(&path).expect("opened");
    fs::rename(workshop.write("b.so", b"swapped"), &path).expect("renamed");
    let mut part = workshop.stager.begin().expect("begun");
    match workshop.stager.copy(&path, &mut source, &metadata, &mut part) {
        Ok(digest) => assert_eq!(digest, Digest::of(b"checked")),
        Err(error) => assert_eq!(error.code(), Code::StageChanging),
    }
}

#[test]
fn a_file_that_changes_during_the_copy_is_refused_as_changing() {
    type Change = fn(&Path);
    let changes: [(&str, Change); 4] = [
        ("truncated", |path| File::create(path).map(drop).expect("truncated")),
        ("shortened", |path| {
            let file = OpenOptions::new().write(true).open(path).expect("opened");
            file.set_len(150_000).expect("shortened");
        }),
        ("appended to", |path| {
            let mut file = OpenOptions::new().append(true).open(path).expect("opened");
            file.write_all(b"more").expect("written");
        }),
        ("overwritten", |path| fs::write(path, [2; 200_000]).expect("written")),
    ];
    for (what, change) in changes {
        let workshop = Workshop::new();
        let path = workshop.write("a.so", &[1; 200_000]);
        // Older than the tick of the file system's clock.
        let past = std::time::SystemTime::now() - Duration::from_secs(60);
        File::options().write(true).open(&path).expect("opened").set_modified(past).expect("set");
        let (mut source, metadata) = workshop.stager.open(&path).expect("opened");
        change(&path);
        let mut part = workshop.stager.begin().expect("begun");
        let error = workshop.stager.copy(&path, &mut source, &metadata, &mut part);
        assert_eq!(error.expect_err(what).code(), Code::StageChanging, "{what}");
        drop(part);
        assert_eq!(workshop.left_behind(), 0, "{what}");
    }
}

#[test]
fn a_symlink_named_so_is_refused_even_to_a_good_file() {
    let workshop = Workshop::new();
    let target = workshop.write("good.so", b"content");
    symlink(target, workshop.path("link.so")).expect("linked");
    let error = workshop.refused(&workshop.path("link.so"), Code::StageNotRegular);
    assert!(error.to_string().contains("symbolic link"), "{error}");
}

#[test]
fn a_fifo_named_so_is_refused_and_never_blocks() {
    let workshop = Workshop::new();
    let path = workshop.path("pipe.so");
    assert!(Command::new("mkfifo").arg(&path).status().expect("mkfifo").success());
    let (done, refused) = mpsc::channel();
    std::thread::spawn(move || {
        let error = workshop.refused(&path, Code::StageNotRegular);
        done.send(error.to_string()).expect("the test waits");
    });
    let error = refused.recv_timeout(Duration::from_secs(10)).expect("it does not block");
    assert!(error.contains("named pipe"), "{error}");
}

#[test]
fn a_device_a_socket_and_a_directory_named_so_are_refused() {
    let workshop = Workshop::new();
    let error = workshop.refused(Path::new("/dev/null"), Code::StageNotRegular);
    assert!(error.to_string().contains("device"), "{error}");
    let socket = workshop.path("s.so");
    let _listener = UnixListener::bind(&socket).expect("bound");
    let error = workshop.refused(&socket, Code::StageNotRegular);
    assert!(error.to_string().contains("socket"), "{error}");
    fs::create_dir(workshop.path("d.so")).expect("made");
    let error = workshop.refused(&workshop.path("d.so"), Code::StageNotRegular);
    assert!(error.to_string().contains("directory"), "{error}");
}

#[test]
fn an_empty_file_is_refused() {
    let workshop = Workshop::new();
    workshop.refused(&workshop.write("a.so", b""), Code::StageEmpty);
}

#[test]
fn a_sparse_file_of_4_gib_is_refused_without_reading_it() {
    let workshop = Workshop::new();
    let path = workshop.path("huge.so");
    File::create(&path).expect("created").set_len(4 << 30).expect("sparse");
    let error = workshop.refused(&path, Code::StageTooLarge);
    assert!(error.to_string().contains("4294967296"), "{error}");
}

#[test]
fn the_size_limit_is_inclusive() {
    let workshop = Workshop::with(StageLimits { max_bytes: 10 });
    workshop.stager.stage(&workshop.write("ten.so", &[1; 10])).expect("staged");
    workshop.refused(&workshop.write("eleven.so", &[1; 11]), Code::StageTooLarge);
}

#[test]
fn a_file_that_is_gone_is_said_to_be_gone() {
    let workshop = Workshop::new();
    workshop.refused(&workshop.path("none.so"), Code::StageGone);
}

#[test]
fn a_file_without_permission_is_unreadable() {
    let workshop = Workshop::new();
    let path = workshop.write("secret.so", b"content");
    fs::set_permissions(&path, Permissions::from_mode(0o000)).expect("closed");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            const NOBODY: libc::c_long = 65534;
            const UNCHANGED: libc::c_long = -1;
            // SAFETY: the raw call takes three integers and, unlike libc's
            // wrapper, changes this thread alone. It does nothing for a user
            // other than root, whom the permissions hold off already.
            unsafe { libc::syscall(libc::SYS_setresuid, UNCHANGED, NOBODY, UNCHANGED) };
            let error = workshop.stager.stage(&path).expect_err("refused");
            assert_eq!(error.code(), Code::StageUnreadable, "{error}");
            assert!(error.to_string().contains("secret.so"), "{error}");
        });
    });
}

#[test]
fn a_store_that_cannot_be_written_is_the_host_s_fault() {
    let workshop = Workshop::new();
    let path = workshop.write("a.so", b"content");
    fs::remove_dir(workshop.path("private")).expect("removed");
    let error = workshop.stager.stage(&path).expect_err("refused");
    assert_eq!(error.code(), Code::StageStore, "{error}");
    assert!(error.to_string().contains("private"), "{error}");

    let error = Stager::new(workshop.path("a.so"), StageLimits::default()).expect_err("a file");
    assert_eq!(error.code(), Code::StageStore, "{error}");
}

#[test]
fn a_new_stager_removes_what_an_earlier_process_left_and_nothing_else() {
    let workshop = Workshop::new();
    let private = |name: &str| workshop.path("private").join(name);
    let staged = workshop.stager.stage(&workshop.write("a.so", b"content")).expect("staged");
    let orphan = staged.copy.path().to_path_buf();
    std::mem::forget(staged.copy);
    fs::write(private("12.part"), b"half").expect("written");
    for foreign in ["notes.txt", "plugin.so", "x-1.so", "a.part"] {
        fs::write(private(foreign), b"mine").expect("written");
    }
    Stager::new(workshop.path("private"), StageLimits::default()).expect("a stager");
    assert!(!orphan.exists() && !private("12.part").exists());
    assert_eq!(workshop.left_behind(), 4);
}

#[test]
fn two_stagers_over_one_directory_never_give_the_same_name() {
    // dlopen compares names first: the second load would get the first library.
    let workshop = Workshop::new();
    let path = workshop.write("a.so", b"content");
    let again = Stager::new(workshop.path("private"), StageLimits::default()).expect("a stager");
    let one = workshop.stager.stage(&path).expect("staged");
    let two = again.stage(&path).expect("staged");
    assert_ne!(one.copy.path(), two.copy.path());
}
