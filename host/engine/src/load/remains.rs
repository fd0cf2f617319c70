//! What is left of a library after `dlclose` was called.

use super::{
    library::{self, Kept},
    proof::{Pin, Residue},
    threads::ThreadBooks,
};
use crate::artifact::stage::PrivateCopy;
use std::{
    any::Any,
    ffi::c_void,
    fmt,
    mem::ManuallyDrop,
    path::{Path, PathBuf},
    sync::Arc,
};

/// What a closed library leaves, to be freed when it is unmapped.
pub struct Remains {
    pub(super) blocks: Vec<*mut c_void>,
    pub(super) bytes: u64,
    /// The shared dependencies that came with it.
    pub(super) companions: Vec<PathBuf>,
    // As in `Loaded`: dropped when the library is gone, and only then.
    pub(super) books: ManuallyDrop<Arc<ThreadBooks>>,
    pub(super) contexts: ManuallyDrop<Vec<Box<dyn Any + Send + Sync>>>,
    pub(super) copy: PrivateCopy,
}

// SAFETY: the blocks are owned by this value alone.
unsafe impl Send for Remains {}

impl fmt::Debug for Remains {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remains").field("path", &self.path()).finish_non_exhaustive()
    }
}

impl Remains {
    /// Looks again whether the library is gone.
    ///
    /// # Errors
    /// It is not: the remains as they were, and what keeps it.
    pub fn recheck(mut self: Box<Self>) -> Result<Residue, (Box<Remains>, Vec<Pin>)> {
        let companions = std::mem::take(&mut self.companions);
        match library::look_again(self.copy.path(), companions) {
            Ok(stayed) => Ok(self.free(stayed)),
            Err(Kept { pins, companions }) => {
                self.companions = companions;
                Err((self, pins))
            }
        }
    }

    /// What is left of a library of which nothing but its constructors ran.
    pub(super) fn of_copy(copy: PrivateCopy, companions: Vec<PathBuf>) -> Remains {
        let (books, contexts) = (ManuallyDrop::default(), ManuallyDrop::default());
        Remains { blocks: Vec::new(), bytes: 0, companions, books, contexts, copy }
    }

    /// The private copy.
    pub fn path(&self) -> &Path {
        self.copy.path()
    }

    pub(super) fn free(self, companions: Vec<PathBuf>) -> Residue {
        let Remains { blocks, bytes, books, contexts, copy, .. } = self;
        let residue = Residue { blocks_freed: blocks.len(), bytes_freed: bytes, companions };
        for block in blocks {
            // SAFETY: the plugin's allocator got the block from malloc and can
            // neither free nor use it any more: its code is unmapped.
            unsafe { libc::free(block) };
        }
        drop((ManuallyDrop::into_inner(books), ManuallyDrop::into_inner(contexts)));
        // The file goes last: its name proves what is mapped.
        drop(copy);
        residue
    }
}
