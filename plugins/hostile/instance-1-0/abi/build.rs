//! Copies the sources of the real ABI without what `replug.instance` 1.1 added.

#[path = "../../copied.rs"]
mod copied;

use copied::{Change, copy};

const FILE: &str = "instance.rs";

const CHANGES: [Change; 2] = [
    Change { file: FILE, text: "InterfaceVersion::new(1, 1, 0)", instead: "InterfaceVersion::new(1, 0, 0)" },
    Change {
        file: FILE,
        text: "    pub export_down: unsafe extern \"C\" fn(instance: Instance, to: u32, sink: &Sink) -> Status,\n}",
        instead: "    #[cfg(any())]\n    pub export_down: (),\n}",
    },
];

fn main() {
    copy("../../../../plugin-api/abi/src", "abi", &CHANGES);
}
