//! The reasons to refuse a file, one small function each, in the order in
//! which they are checked: two tables that read as a list.
//!
//! A check looks and answers. It never changes anything, and none depends on
//! another having run, except that the tables of the image come first.

use object::LittleEndian as LE;
use object::elf;
use object::read::elf::ProgramHeader;
use replug_abi::{InterfaceVersion, ROOT_SYMBOL, interface, note};
use semver::Version;

use super::elf::{Image, within};
use super::{Interface, PanicStrategy, Plugin, Refusal, file_name};

type ImageCheck = fn(&Image<'_>) -> Result<(), Refusal>;
type PluginCheck = fn(&Plugin<'_>) -> Result<(), Refusal>;

/// What is checked as soon as the headers are read.
pub(super) const OF_THE_IMAGE: &[ImageCheck] =
    &[is_for_this_machine, is_a_library, is_whole, has_segments_in_order];

/// What is checked when all parts of the plugin are read.
pub(super) const OF_THE_PLUGIN: &[PluginCheck] = &[
    is_no_static_executable,
    has_the_root_symbol,
    says_that_it_unwinds,
    imports_the_unwinder,
    has_no_static_tls,
    speaks_the_hosts_abi,
    speaks_the_hosts_abi_stable,
    needs_what_the_host_has,
    keeps_what_its_file_name_says,
];

#[cfg(target_arch = "x86_64")]
const HOST_MACHINE: elf::Machine = elf::EM_X86_64;
#[cfg(target_arch = "aarch64")]
const HOST_MACHINE: elf::Machine = elf::EM_AARCH64;

fn is_for_this_machine(image: &Image<'_>) -> Result<(), Refusal> {
    let found = image.header.e_machine.get(LE);
    if found == HOST_MACHINE {
        return Ok(());
    }
    Err(Refusal::WrongMachine { expected: machine_name(HOST_MACHINE), found: machine_name(found) })
}

fn is_a_library(image: &Image<'_>) -> Result<(), Refusal> {
    let found = match image.header.e_type.get(LE) {
        elf::ET_DYN if image.programs_of(elf::PT_INTERP).next().is_some() => {
            "a position-independent executable"
        }
        elf::ET_DYN => return Ok(()),
        elf::ET_EXEC => "an executable",
        elf::ET_REL => "an object file that is not linked yet",
        elf::ET_CORE => "a core dump",
        _ => "an ELF file of an unknown type",
    };
    Err(Refusal::NotLibrary { found })
}

/// Mapping a segment beyond the file's end ends in SIGBUS. The section headers
/// do not matter to ld.so, but stand last: without them the copy is cut short.
fn is_whole(image: &Image<'_>) -> Result<(), Refusal> {
    for program in image.programs_of(elf::PT_LOAD) {
        let (offset, len) = program.file_range(LE);
        within(image.bytes, "a loaded segment", offset, len)?;
    }
    let header = image.header;
    let sections = u64::from(header.e_shnum.get(LE)) * u64::from(header.e_shentsize.get(LE));
    within(image.bytes, "the section headers", header.e_shoff.get(LE), sections)
}

/// Overlapping segments would let ld.so map other bytes than are checked here.
/// It maps whole pages, so a page that two segments share must be the same page
/// of the file in both.
fn has_segments_in_order(image: &Image<'_>) -> Result<(), Refusal> {
    let refused = || Refusal::Malformed { what: "the loaded segments overlap or are out of order" };
    let (mut end, mut shift_before) = (0, None);
    for program in image.programs_of(elf::PT_LOAD) {
        let start = program.p_vaddr(LE);
        let len = program.p_memsz(LE).max(program.p_filesz(LE));
        let shift = program.p_offset(LE).wrapping_sub(start);
        let shares_a_page = start & !(PAGE_BYTES - 1) < end;
        if start < end || (shares_a_page && shift_before.is_some_and(|before| before != shift)) {
            return Err(refused());
        }
        end = start.checked_add(len).ok_or_else(refused)?;
        shift_before = Some(shift);
    }
    Ok(())
}

/// The smallest page of the machines that this engine runs on.
const PAGE_BYTES: u64 = 4096;

fn is_no_static_executable(plugin: &Plugin<'_>) -> Result<(), Refusal> {
    let flags = plugin.dynamic.value(elf::DT_FLAGS_1).unwrap_or(0);
    if flags & elf::DF_1_PIE.0 == 0 {
        return Ok(());
    }
    Err(Refusal::NotLibrary { found: "a position-independent executable" })
}

fn has_the_root_symbol(plugin: &Plugin<'_>) -> Result<(), Refusal> {
    if plugin.symbols.exports(ROOT_SYMBOL) {
        return Ok(());
    }
    Err(Refusal::NoRoot { symbol: ROOT_SYMBOL })
}

fn says_that_it_unwinds(plugin: &Plugin<'_>) -> Result<(), Refusal> {
    if plugin.manifest.panic == PanicStrategy::Unwind {
        return Ok(());
    }
    Err(Refusal::PanicAbort { found: "panic = \"abort\" in the note" })
}

/// Code that raises panics imports this function. It would also be missing with
/// libgcc linked statically, which cannot be told apart and is refused with it.
fn imports_the_unwinder(plugin: &Plugin<'_>) -> Result<(), Refusal> {
    let unwinder = plugin.symbols.imported_of(&["_Unwind_RaiseException"]);
    if !unwinder.is_empty() {
        return Ok(());
    }
    Err(Refusal::PanicAbort { found: "no import of _Unwind_RaiseException" })
}

fn has_no_static_tls(plugin: &Plugin<'_>) -> Result<(), Refusal> {
    let flags = plugin.dynamic.value(elf::DT_FLAGS).unwrap_or(0);
    if flags & elf::DF_STATIC_TLS.0 == 0 {
        return Ok(());
    }
    Err(Refusal::StaticTls)
}

/// Within a major, vtables only grow at their ends, so that the minor is not
/// compared: what a plugin needs of the host stands in `requires`.
fn speaks_the_hosts_abi(plugin: &Plugin<'_>) -> Result<(), Refusal> {
    let (host, found) = (own(note::ABI_VERSION), &plugin.manifest.abi);
    if found.major == host.major {
        return Ok(());
    }
    Err(Refusal::AbiMajor { expected: host.major, found: found.clone() })
}

fn speaks_the_hosts_abi_stable(plugin: &Plugin<'_>) -> Result<(), Refusal> {
    let (host, found) = (own(note::ABI_STABLE_VERSION), &plugin.manifest.abi_stable);
    // Before 1.0 a minor version is a breaking one.
    let same_minor = host.major != 0 || host.minor == found.minor;
    if host.major == found.major && same_minor {
        return Ok(());
    }
    Err(Refusal::AbiStable { expected: host, found: found.clone() })
}

/// Before its constructors run: a plugin of a later minor would call functions
/// that this host does not have.
fn needs_what_the_host_has(plugin: &Plugin<'_>) -> Result<(), Refusal> {
    for Interface { id, version: found } in &plugin.manifest.requires {
        let Some(expected) = host_interface(id) else {
            return Err(Refusal::MissingHostInterface { id: id.clone() });
        };
        let (major, minor) = (u64::from(expected.major), u64::from(expected.minor));
        if found.major != major || found.minor > minor {
            return Err(Refusal::HostInterface { id: id.clone(), expected, found: found.clone() });
        }
    }
    Ok(())
}

/// The version in which this host has an interface that plugins can need.
pub(crate) fn host_interface(id: &str) -> Option<InterfaceVersion> {
    match id {
        interface::HOST => Some(interface::HOST_VERSION),
        interface::TABLES => Some(interface::TABLES_VERSION),
        _ => None,
    }
}

fn own(version: &str) -> Version {
    Version::parse(version).expect("a constant of the ABI package is a version")
}

fn keeps_what_its_file_name_says(plugin: &Plugin<'_>) -> Result<(), Refusal> {
    let Some(claim) = file_name::claim(plugin.origin) else {
        return Ok(());
    };
    let manifest = &plugin.manifest;
    if claim.holds_for(manifest.name.as_str(), &manifest.version) {
        return Ok(());
    }
    Err(Refusal::NameMismatch {
        expected: format!("{} {}", claim.name, claim.version),
        found: format!("{} {}", manifest.name, manifest.version),
    })
}

fn machine_name(machine: elf::Machine) -> String {
    let name = match machine {
        elf::EM_X86_64 => "x86-64",
        elf::EM_AARCH64 => "aarch64",
        elf::EM_386 => "x86 (32-bit)",
        elf::EM_ARM => "arm (32-bit)",
        elf::EM_RISCV => "risc-v",
        elf::EM_PPC64 => "powerpc64",
        elf::EM_S390 => "s390",
        elf::EM_LOONGARCH => "loongarch",
        other => return format!("machine {}", other.0),
    };
    name.to_owned()
}
