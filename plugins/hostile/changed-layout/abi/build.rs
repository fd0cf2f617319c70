//! Copies the sources of the real ABI with one field changed.

#[path = "../../copied.rs"]
mod copied;

use copied::{Change, copy};

fn main() {
    let flags = Change { file: "request.rs", text: "pub flags: u64,", instead: "pub flags: u32," };
    copy("../../../../plugin-api/abi/src", "abi", &[flags]);
}
