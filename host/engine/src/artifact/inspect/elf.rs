//! The parts of an ELF file that decide what dlopen would do with it.
//!
//! Everything is found as ld.so finds it: through program headers and virtual
//! addresses, never through section headers, which may be stripped or lie. All
//! reads are bounded by the file; all lengths that the file states are checked
//! before they are used.

use object::LittleEndian as LE;
use object::elf::{self, Dyn64, DynamicTag, FileHeader64, ProgramHeader64, Sym64};
use object::read::ReadRef;
use object::read::elf::{FileHeader, GnuHashTable, HashTable, ProgramHeader};
use replug_abi::note;

use super::Refusal;

type Header = FileHeader64<LE>;
type Program = ProgramHeader64<LE>;

/// A name in the file is read up to this many bytes. All names that are looked
/// for are shorter; without a bound, a crafted file could make each of a
/// million names as long as the file.
const MAX_NAME_BYTES: usize = 256;

/// The file with its ELF header and program headers.
pub(super) struct Image<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) header: &'a Header,
    pub(super) programs: &'a [Program],
}

impl<'a> Image<'a> {
    /// Reads the headers of a 64-bit little-endian ELF file.
    pub(super) fn read(bytes: &'a [u8]) -> Result<Image<'a>, Refusal> {
        let found = &bytes[..bytes.len().min(elf::ELFMAG.len())];
        if found != elf::ELFMAG {
            return Err(Refusal::NotElf { found: found.escape_ascii().to_string() });
        }
        within(bytes, "the ELF header", 0, size_of::<Header>() as u64)?;
        let (class, order) = (bytes[4], bytes[5]);
        if (class, order) != (elf::ELFCLASS64.0, elf::ELFDATA2LSB.0) {
            return Err(Refusal::WrongClass { found: class_name(class, order) });
        }
        let header = Header::parse(bytes).map_err(malformed)?;
        let table = u64::from(header.e_phnum.get(LE)) * u64::from(header.e_phentsize.get(LE));
        within(bytes, "the program headers", header.e_phoff.get(LE), table)?;
        Ok(Image { bytes, header, programs: header.program_headers(LE, bytes).map_err(malformed)? })
    }

    /// The program headers of one type.
    pub(super) fn programs_of(&self, kind: elf::ProgramType) -> impl Iterator<Item = &'a Program> + use<'a> {
        self.programs.iter().filter(move |p| p.p_type(LE) == kind)
    }

    /// What the file has from a virtual address to the end of the segment in
    /// which it lies, and where in the file that starts.
    fn at_address(&self, address: u64) -> Option<(u64, &'a [u8])> {
        self.programs_of(elf::PT_LOAD).find_map(|program| {
            let within = address.checked_sub(program.p_vaddr(LE))?;
            let bytes = program.data(LE, self.bytes).ok()?;
            let rest = bytes.get(usize::try_from(within).ok()?..)?;
            (!rest.is_empty()).then_some((program.p_offset(LE) + within, rest))
        })
    }
}

/// Refuses a file that ends before `offset + len`.
pub(super) fn within(bytes: &[u8], part: &'static str, offset: u64, len: u64) -> Result<(), Refusal> {
    let expected = offset.checked_add(len).ok_or(Refusal::Malformed {
        what: "an offset and a length in the headers add up to more than 64 bits",
    })?;
    let found = bytes.len() as u64;
    if expected > found {
        return Err(Refusal::Truncated { part, expected, found });
    }
    Ok(())
}

/// The description of the one replug note in the file.
pub(super) fn the_note<'a>(image: &Image<'a>) -> Result<&'a [u8], Refusal> {
    let mut found = None;
    for program in image.programs_of(elf::PT_NOTE) {
        let notes = program.notes(LE, image.bytes).map_err(malformed)?;
        for note in notes.into_iter().flatten() {
            let note = note.map_err(malformed)?;
            if note.name_bytes() == note::OWNER && found.replace(note).is_some() {
                return Err(Refusal::ManyNotes);
            }
        }
    }
    let note = found.ok_or(Refusal::NoNote)?;
    let format = note.n_type(LE).0;
    if format != note::FORMAT {
        return Err(Refusal::NoteFormat { found: format });
    }
    Ok(note.desc())
}

/// The dynamic section: what the library tells ld.so.
pub(super) struct Dynamic<'a> {
    entries: &'a [Dyn64<LE>],
    offset: u64,
    strings: &'a [u8],
}

impl<'a> Dynamic<'a> {
    /// Finds the section through `PT_DYNAMIC`, and its strings.
    pub(super) fn read(image: &Image<'a>) -> Result<Dynamic<'a>, Refusal> {
        let program = image
            .programs_of(elf::PT_DYNAMIC)
            .last()
            .ok_or(Refusal::NotLibrary { found: "a file without a dynamic section" })?;
        let (offset, bytes) = image
            .at_address(program.p_vaddr(LE))
            .ok_or(Refusal::Malformed { what: "the dynamic section lies outside of the loaded segments" })?;
        let mut dynamic = Dynamic { entries: entries(bytes)?, offset, strings: &[] };
        dynamic.strings = dynamic
            .value(elf::DT_STRTAB)
            .and_then(|address| image.at_address(address))
            .zip(dynamic.value(elf::DT_STRSZ))
            .and_then(|((_, bytes), len)| bytes.get(..usize::try_from(len).ok()?))
            .ok_or(Refusal::Malformed { what: "the dynamic strings lie outside of the loaded segments" })?;
        Ok(dynamic)
    }

    /// The value of a tag; of several, ld.so takes the last.
    pub(super) fn value(&self, tag: DynamicTag) -> Option<u64> {
        self.place_of(tag).map(|(_, value)| value)
    }

    /// Where in the file the value of a tag stands, and the value.
    pub(super) fn place_of(&self, tag: DynamicTag) -> Option<(u64, u64)> {
        let index = self.entries.iter().rposition(|entry| entry.d_tag.get(LE) == tag)?;
        let start = self.offset + (index * size_of::<Dyn64<LE>>()) as u64;
        Some((start + 8, self.entries[index].d_val.get(LE)))
    }

    /// The libraries that have to be loaded with this one.
    pub(super) fn needed(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let (entries, strings) = (self.entries, self.strings);
        entries
            .iter()
            .filter(|entry| entry.d_tag.get(LE) == elf::DT_NEEDED)
            .map(move |entry| name_at(strings, entry.d_val.get(LE)))
    }
}

/// The entries before the terminating `DT_NULL`.
fn entries(bytes: &[u8]) -> Result<&[Dyn64<LE>], Refusal> {
    let all = bytes
        .read_slice_at::<Dyn64<LE>>(0, bytes.len() / size_of::<Dyn64<LE>>())
        .map_err(|()| Refusal::Malformed { what: "the dynamic section cannot be read" })?;
    let end = all
        .iter()
        .position(|entry| entry.d_tag.get(LE) == elf::DT_NULL)
        .ok_or(Refusal::Malformed { what: "the dynamic section has no end" })?;
    Ok(&all[..end])
}

/// The dynamic symbols: what the library offers and what it asks for.
pub(super) struct Symbols<'a> {
    table: &'a [Sym64<LE>],
    strings: &'a [u8],
}

/// One dynamic symbol.
pub(super) struct Symbol<'a> {
    pub(super) name: &'a [u8],
    pub(super) imported: bool,
    pub(super) bind: elf::SymbolBind,
}

impl<'a> Symbols<'a> {
    /// Finds the table through `DT_SYMTAB`, and its length through the hash
    /// table, for no tag states it.
    pub(super) fn read(image: &Image<'a>, dynamic: &Dynamic<'a>) -> Result<Symbols<'a>, Refusal> {
        let count = symbol_count(image, dynamic)?;
        let table = dynamic
            .value(elf::DT_SYMTAB)
            .and_then(|address| image.at_address(address))
            .and_then(|(_, bytes)| bytes.read_slice_at(0, count as usize).ok())
            .ok_or(Refusal::Malformed { what: "the dynamic symbols lie outside of the loaded segments" })?;
        Ok(Symbols { table, strings: dynamic.strings })
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Symbol<'a>> + use<'a> {
        let strings = self.strings;
        self.table.iter().map(move |symbol| Symbol {
            name: name_at(strings, symbol.st_name.get(LE).into()),
            imported: symbol.st_shndx.get(LE) == elf::SHN_UNDEF,
            bind: symbol.st_bind(),
        })
    }

    /// The imported ones among `names`, in the order of `names`.
    pub(super) fn imported_of<'n>(&self, names: &[&'n str]) -> Vec<&'n str> {
        let mut found = vec![false; names.len()];
        for symbol in self.iter().filter(|symbol| symbol.imported) {
            if let Some(at) = names.iter().position(|n| n.as_bytes() == symbol.name) {
                found[at] = true;
            }
        }
        let found = names.iter().zip(found).filter(|(_, found)| *found);
        found.map(|(name, _)| *name).collect()
    }

    /// Whether dlsym would find `name`.
    pub(super) fn exports(&self, name: &str) -> bool {
        self.iter()
            .any(|symbol| !symbol.imported && symbol.bind != elf::STB_LOCAL && symbol.name == name.as_bytes())
    }
}

fn symbol_count(image: &Image<'_>, dynamic: &Dynamic<'_>) -> Result<u32, Refusal> {
    let table = |tag| Some(image.at_address(dynamic.value(tag)?)?.1);
    if let Some(bytes) = table(elf::DT_GNU_HASH) {
        let hash = GnuHashTable::<Header>::parse(LE, bytes).map_err(malformed)?;
        // Without exports the table is empty: all symbols stand before its base.
        let count = hash.symbol_table_length(LE);
        return Ok(count.unwrap_or(hash.symbol_base()));
    }
    let bytes = table(elf::DT_HASH).ok_or(Refusal::Malformed { what: "there is no symbol hash table" })?;
    let hash = HashTable::<Header>::parse(LE, bytes).map_err(malformed)?;
    Ok(hash.symbol_table_length())
}

/// The NUL-terminated name at an offset; empty where there is none.
fn name_at(strings: &[u8], offset: u64) -> &[u8] {
    let rest = usize::try_from(offset).ok().and_then(|offset| strings.get(offset..)).unwrap_or_default();
    let rest = &rest[..rest.len().min(MAX_NAME_BYTES)];
    let end = rest.iter().position(|byte| *byte == 0);
    &rest[..end.unwrap_or(rest.len())]
}

fn class_name(class: u8, order: u8) -> String {
    let class = match elf::FileClass(class) {
        elf::ELFCLASS32 => "32-bit".to_owned(),
        elf::ELFCLASS64 => "64-bit".to_owned(),
        other => format!("class {}", other.0),
    };
    match elf::DataEncoding(order) {
        elf::ELFDATA2LSB => format!("{class} little-endian"),
        elf::ELFDATA2MSB => format!("{class} big-endian"),
        other => format!("{class}, byte order {}", other.0),
    }
}

/// The library's errors are static texts; they keep their capitals inside one line.
fn malformed(error: object::read::Error) -> Refusal {
    Refusal::Unreadable { source: error }
}
