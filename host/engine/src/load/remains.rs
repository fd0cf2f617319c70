//! What is left of a library after `dlclose` was called.

use super::{
    proof::{self, Pin, Residue},
    threads::ThreadBooks,
};
use crate::artifact::stage::PrivateCopy;
use std::{
    any::Any,
    ffi::c_void,
    mem::ManuallyDrop,
    path::{Path, PathBuf},
    sync::Arc,
};

/// What a closed library leaves, to be freed when it is unmapped.
pub struct Remains {
    pub(super) blocks: Vec<*mut c_void>,
    pub(super) bytes: u64,
    // As in `Loaded`: dropped when the library is gone, and only then.
    pub(super) books: ManuallyDrop<Arc<ThreadBooks>>,
    pub(super) contexts: ManuallyDrop<Vec<Box<dyn Any + Send + Sync>>>,
    pub(super) copy: PrivateCopy,
}

// SAFETY: the blocks are owned by this value alone.
unsafe impl Send for Remains {}

impl Remains {
    /// Looks again whether the library is gone.
    ///
    /// # Errors
    /// It is not: the remains as they were, and what keeps it.
    pub fn recheck(self) -> Result<Residue, (Remains, Vec<Pin>)> {
        let pins = proof::still_mapped(self.copy.path());
        if pins.is_empty() { Ok(self.free(Vec::new())) } else { Err((self, pins)) }
    }

    /// The private copy.
    pub fn path(&self) -> &Path {
        self.copy.path()
    }

    pub(super) fn free(self, companions: Vec<PathBuf>) -> Residue {
        let Remains { blocks, bytes, books, contexts, copy } = self;
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
