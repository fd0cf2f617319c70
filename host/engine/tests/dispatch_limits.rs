//! What happens when a process is full of versions. Alone in its binary: it
//! takes all the indices there are.

use replug_host::dispatch::{MAX_VERSIONS, Outside, Payload, Version};
use replug_host::failure::{Code, Failure};

struct Numbered(usize);

impl Payload for Numbered {
    fn detach_thread(&self, _: &Outside) -> u64 {
        0
    }
}

fn finish(version: Version<Numbered>) -> usize {
    let drained = version.retire().try_drained().expect("never used");
    drained.finish().expect("no thread used it").payload.0
}

#[test]
fn a_full_process_gives_the_payload_back_and_finished_versions_make_room() {
    let make = |number| Version::new(Numbered(number));
    let mut versions: Vec<_> = (1..MAX_VERSIONS)
        .map(|number| make(number).expect("one index each, but for the reserved one"))
        .collect();
    let full = make(0).expect_err("no index is left");
    assert_eq!(full.code(), Code::UnloadCapReached);
    assert_eq!(full.payload.0, 0);

    assert_eq!(finish(versions.pop().expect("many")), MAX_VERSIONS - 1);
    versions.push(make(0).expect("an index is free again"));
    assert!(make(0).is_err(), "and taken again");
    for version in versions {
        finish(version);
    }
}
