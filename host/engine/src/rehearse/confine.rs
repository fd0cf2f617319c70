//! What the child gives up before it loads a plugin, for good.
//!
//! Limits of the system; no write outside of one folder, by landlock; no network, no
//! other process and no signal to one, by seccomp. What is refused answers `EACCES`, as
//! a lack of permission does, so that a plugin that looks at its errors says what it
//! tried.

use super::wire::{Limits, Protection};
use landlock::{
    ABI, AccessFs, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError, RulesetStatus, path_beneath_rules,
};
use rustix::process::{
    Resource, Rlimit, Signal, getppid, getrlimit, set_parent_process_death_signal, setrlimit,
};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};
use std::{collections::BTreeMap, fs, io, path::Path, process};

/// The newest form of landlock that is asked for; kernels with an older one do less.
const LANDLOCK: ABI = ABI::V5;

/// Confines this thread, those that it starts, and the process's memory, and ends the
/// process with `host`. What the kernel does not offer is among what is returned.
///
/// # Errors
/// The host has ended; or a limit cannot be set, which every kernel can.
pub(crate) fn confine(limits: &Limits, scratch: &Path, host: u32) -> io::Result<Vec<Protection>> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    // It may have ended before that was said.
    if getppid().is_none_or(|parent| parent.as_raw_nonzero().get().cast_unsigned() != host) {
        return Err(io::Error::other("the host has ended"));
    }
    // Where memory is short, this is what to end first. Not every system lets that be said.
    let _ = fs::write("/proc/self/oom_score_adj", "1000");
    for (resource, most) in [
        // What it can write to, and not what it has set aside: the C library does that for
        // each core and thread.
        (Resource::Data, limits.memory_bytes),
        (Resource::Cpu, limits.processor_s),
        (Resource::Nofile, limits.descriptors),
        (Resource::Fsize, limits.file_bytes),
        // With 0 a program that collects cores is handed one all the same.
        (Resource::Core, 1),
    ] {
        // The host itself may be allowed less.
        let most = getrlimit(resource).maximum.map_or(most, |allowed| allowed.min(most));
        let now = if resource == Resource::Cpu { most.saturating_sub(1).max(1) } else { most };
        setrlimit(resource, Rlimit { current: Some(now), maximum: Some(most) })?;
    }
    let protection = |name: &str, absent| Protection { name: name.to_owned(), absent };
    Ok(vec![
        protection("limits", None),
        protection("landlock", deny_writes(scratch).unwrap_or_else(|error| Some(error.to_string()))),
        protection("seccomp", deny_calls().err()),
    ])
}

/// No file is written, made or removed outside of `scratch`. Why that is not so.
fn deny_writes(scratch: &Path) -> Result<Option<String>, RulesetError> {
    let writes = AccessFs::from_write(LANDLOCK);
    let status = Ruleset::default()
        .handle_access(writes)?
        .create()?
        .add_rules(path_beneath_rules([scratch, Path::new("/dev/null")], writes))?
        .restrict_self()?;
    Ok(match status.ruleset {
        RulesetStatus::FullyEnforced => None,
        RulesetStatus::PartiallyEnforced => Some("the kernel knows an older form of it only".to_owned()),
        RulesetStatus::NotEnforced => Some("the kernel does not offer it".to_owned()),
    })
}

/// Calls of the system that are refused, whatever they are handed.
const DENIED: &[libc::c_long] = &[
    // The network, and what goes round it.
    libc::SYS_socket,
    libc::SYS_io_uring_setup,
    // Other programs and processes.
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_getfd,
    libc::SYS_pidfd_send_signal,
    libc::SYS_tkill,
    // Out of the group that is killed.
    libc::SYS_setpgid,
    libc::SYS_setsid,
    // The machine.
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_setns,
    libc::SYS_unshare,
    libc::SYS_reboot,
    libc::SYS_kexec_load,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_sethostname,
    // What outlives a process.
    libc::SYS_shmget,
    libc::SYS_semget,
    libc::SYS_msgget,
    libc::SYS_mq_open,
    // Owners and attributes of files, which landlock does not know.
    libc::SYS_fchown,
    libc::SYS_fchownat,
    libc::SYS_fsetxattr,
    libc::SYS_setxattr,
    libc::SYS_lsetxattr,
    libc::SYS_fremovexattr,
    libc::SYS_removexattr,
    libc::SYS_lremovexattr,
];

/// Calls that are answered as if they had been made: permissions and times of files, which
/// landlock does not know either. Whoever copies a file sets them, also where it may write.
const WITHOUT_EFFECT: &[libc::c_long] =
    &[libc::SYS_fchmod, libc::SYS_fchmodat, libc::SYS_fchmodat2, libc::SYS_utimensat];

/// Calls that not every processor's kernel has.
#[cfg(target_arch = "x86_64")]
const DENIED_HERE: &[libc::c_long] = &[libc::SYS_fork, libc::SYS_vfork, libc::SYS_chown, libc::SYS_lchown];
#[cfg(not(target_arch = "x86_64"))]
const DENIED_HERE: &[libc::c_long] = &[];
#[cfg(target_arch = "x86_64")]
const WITHOUT_EFFECT_HERE: &[libc::c_long] =
    &[libc::SYS_chmod, libc::SYS_utime, libc::SYS_utimes, libc::SYS_futimesat];
#[cfg(not(target_arch = "x86_64"))]
const WITHOUT_EFFECT_HERE: &[libc::c_long] = &[];

/// Why calls could not be denied.
fn deny_calls() -> Result<(), String> {
    let own = u64::from(process::id());
    // Bits of the first argument: a thread has them, a process has not.
    let thread = u64::from(libc::CLONE_THREAD.cast_unsigned());
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
        DENIED.iter().chain(DENIED_HERE).map(|call| (*call, Vec::new())).collect();
    rules.insert(libc::SYS_clone, where_first(SeccompCmpOp::MaskedEq(thread), 0)?);
    for call in [libc::SYS_kill, libc::SYS_tgkill, libc::SYS_rt_sigqueueinfo, libc::SYS_rt_tgsigqueueinfo] {
        rules.insert(call, where_first(SeccompCmpOp::Ne, own)?);
    }
    // Zero is this process, too.
    rules.insert(libc::SYS_prlimit64, where_all([(SeccompCmpOp::Ne, 0), (SeccompCmpOp::Ne, own)])?);
    // What it asks for stands in memory, where no filter looks: whoever cannot have it
    // takes the call above instead.
    let clone3 = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
    let without_effect =
        WITHOUT_EFFECT.iter().chain(WITHOUT_EFFECT_HERE).map(|call| (*call, Vec::new())).collect();
    for (rules, errno) in [(rules, libc::EACCES), (clone3, libc::ENOSYS), (without_effect, 0)] {
        deny(rules, errno.cast_unsigned())?;
    }
    Ok(())
}

/// A rule about the first argument of a call.
fn where_first(op: SeccompCmpOp, value: u64) -> Result<Vec<SeccompRule>, String> {
    where_all([(op, value)])
}

/// A rule by which all of this has to hold of the first argument.
fn where_all<const N: usize>(all: [(SeccompCmpOp, u64); N]) -> Result<Vec<SeccompRule>, String> {
    let condition = |(op, value)| SeccompCondition::new(0, SeccompCmpArgLen::Dword, op, value);
    let conditions: Result<Vec<_>, _> = all.into_iter().map(condition).collect();
    let rule = conditions.and_then(SeccompRule::new);
    rule.map(|rule| vec![rule]).map_err(|error| error.to_string())
}

fn deny(rules: BTreeMap<i64, Vec<SeccompRule>>, errno: u32) -> Result<(), String> {
    let target = std::env::consts::ARCH.try_into().map_err(|_| "this processor is not known".to_owned())?;
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, SeccompAction::Errno(errno), target);
    let program: Result<BpfProgram, _> = filter.and_then(TryInto::try_into);
    let program = program.map_err(|error| error.to_string())?;
    seccompiler::apply_filter(&program).map_err(|error| error.to_string())
}
