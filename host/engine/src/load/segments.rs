//! The memory of an open library, as the loader laid it out. It maps and unmaps
//! nothing.

use std::{
    ffi::{CStr, c_int, c_void},
    ops::Range,
    os::unix::ffi::OsStrExt,
    path::Path,
};

/// The largest segment that is populated, in bytes. A plugin may have statics of
/// gigabytes that it never touches: they are not to become memory.
const POPULATED_BYTES_MAX: usize = 4 * 1024 * 1024;

/// The segments of one library, by address.
pub(super) struct Segments {
    loaded: Vec<Segment>,
    /// What the loader made read-only when it had relocated it.
    relocated: Option<Range<usize>>,
}

struct Segment {
    range: Range<usize>,
    writable: bool,
}

impl Segments {
    /// Those of the library that was opened under this path; none if none was.
    pub(super) fn of(path: &Path) -> Option<Segments> {
        let mut search = Search { path: path.as_os_str().as_bytes(), found: None };
        // SAFETY: the loader calls `visit` with this search, on this thread, and
        // is done with it on return.
        unsafe { libc::dl_iterate_phdr(Some(visit), std::ptr::from_mut(&mut search).cast()) };
        search.found
    }

    /// From the first byte to the last.
    pub(super) fn addresses(&self) -> Range<usize> {
        let start = self.loaded.iter().map(|segment| segment.range.start).min();
        let end = self.loaded.iter().map(|segment| segment.range.end).max();
        start.unwrap_or_default()..end.unwrap_or_default()
    }

    /// Has the kernel put the pages in their places now, beside the calls, and
    /// not one after the other when a call first meets each. Kernels before 5.14
    /// do not know how, and nothing depends on it.
    pub(super) fn populate(&self) {
        let small = self.loaded.iter().filter(|segment| segment.range.len() <= POPULATED_BYTES_MAX);
        for Segment { range, writable } in small {
            advise(range, libc::MADV_POPULATE_READ);
            // Statics that begin as zeros too: reading those maps one page of
            // zeros everywhere, and each is faulted in again to be written.
            if *writable {
                let start = self.relocated.as_ref().map_or(range.start, |done| done.end.max(range.start));
                advise(&(start..range.end), libc::MADV_POPULATE_WRITE);
            }
        }
    }
}

/// Gives advice about the pages that lie in `range`, wholly or in part.
fn advise(range: &Range<usize>, advice: c_int) {
    // SAFETY: only asks.
    let page = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096);
    let start = range.start - range.start % page;
    let bytes = range.end.next_multiple_of(page).saturating_sub(start);
    // SAFETY: a segment of the library, which is open; pages are only filled
    // with what they would be filled with anyway.
    let _ = unsafe { libc::madvise(start as *mut c_void, bytes, advice) };
}

struct Search<'a> {
    path: &'a [u8],
    found: Option<Segments>,
}

/// Looks at one library of the process; not 0 ends the search.
unsafe extern "C" fn visit(info: *mut libc::dl_phdr_info, _: usize, search: *mut c_void) -> c_int {
    // SAFETY: what `of` passed, and nobody else has it meanwhile.
    let search = unsafe { &mut *search.cast::<Search<'_>>() };
    // SAFETY: the loader's, for the time of this call.
    let info = unsafe { &*info };
    // SAFETY: null or a string of the loader's, as long as the library is open.
    let is_it = !info.dlpi_name.is_null()
        && unsafe { CStr::from_ptr(info.dlpi_name) }.to_bytes() == search.path
        && !info.dlpi_phdr.is_null();
    if !is_it {
        return 0;
    }
    // SAFETY: the library's own program headers, mapped with it.
    let headers = unsafe { std::slice::from_raw_parts(info.dlpi_phdr, usize::from(info.dlpi_phnum)) };
    let range = |header: &libc::Elf64_Phdr| {
        // The loader's own sum, which wraps.
        let start = info.dlpi_addr.wrapping_add(header.p_vaddr) as usize;
        start..start.wrapping_add(header.p_memsz as usize)
    };
    let of_kind = |kind| headers.iter().filter(move |header| header.p_type == kind);
    search.found = Some(Segments {
        loaded: of_kind(libc::PT_LOAD)
            .map(|header| Segment { range: range(header), writable: header.p_flags & libc::PF_W != 0 })
            .collect(),
        relocated: of_kind(libc::PT_GNU_RELRO).map(range).next(),
    });
    1
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU8;

    fn a_library() -> Segments {
        let mut info = std::mem::MaybeUninit::<libc::Dl_info>::uninit();
        // SAFETY: any address may be asked about, and the place is of the type.
        let known = unsafe { libc::dladdr(libc::getpid as *const c_void, info.as_mut_ptr()) };
        assert_ne!(known, 0, "the C library is shared");
        // SAFETY: filled, with a name of the loader's.
        let name = unsafe { CStr::from_ptr(info.assume_init().dli_fname) };
        Segments::of(Path::new(std::ffi::OsStr::from_bytes(name.to_bytes()))).expect("it is open")
    }

    #[test]
    fn the_segments_of_a_library_enclose_its_functions() {
        let addresses = a_library().addresses();
        assert!(addresses.contains(&(libc::getpid as *const () as usize)));
        assert!(!addresses.contains(&(a_library as *const () as usize)));
    }

    #[test]
    fn populating_changes_nothing_that_is_there() {
        let library = a_library();
        library.populate();
        // SAFETY: has no preconditions.
        assert_eq!(unsafe { libc::getpid() }, std::process::id().cast_signed());
    }

    #[test]
    fn large_statics_that_nobody_touches_take_no_memory() {
        static LARGE: [AtomicU8; 2 * POPULATED_BYTES_MAX] = [const { AtomicU8::new(0) }; _];
        let start = std::hint::black_box(&LARGE).as_ptr().addr();
        let range = start..start + size_of_val(&LARGE);
        let program = Segments { loaded: vec![Segment { range, writable: true }], relocated: None };
        program.populate();
        let mut in_memory = 0_u8;
        let page = (start + POPULATED_BYTES_MAX) & !4095;
        // SAFETY: one page of a static, and one place for its one answer.
        let status = unsafe { libc::mincore(page as *mut c_void, 4096, &mut in_memory) };
        assert_eq!((status, in_memory & 1), (0, 0));
    }

    #[test]
    fn a_library_that_is_not_open_has_no_segments() {
        assert!(Segments::of(Path::new("/not/there.so")).is_none());
    }
}
