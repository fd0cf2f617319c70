//! Golden files: the bytes of old versions, so that a type which changed by
//! accident is noticed while its version is still the same.
//!
//! A file is text, for review: lines of hexadecimal digits, and lines of
//! comment, which begin with `#`. It never changes after it was made: what wrote
//! such bytes is out there.

use super::upgrade::must;
use crate::state::{self, State};
use std::{
    any::type_name,
    env,
    fmt::{Debug, Write as _},
    fs, io,
    path::Path,
};

/// With this in the environment, as `write`, missing files are made.
const WRITE: &str = "REPLUG_GOLDEN";
/// Bytes in a line of a file.
const LINE_BYTES: usize = 32;

/// The bytes of a state, as a host keeps them.
///
/// ```
/// use replug_plugin_api::{state::State, testing};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize, State)]
/// #[state(version = 1)]
/// struct V1 { hits: u64 }
///
/// assert_eq!(testing::bytes_of(&V1 { hits: 7 }), b"\xa1\x64hits\x07");
/// ```
///
/// # Panics
/// When the state has no bytes.
#[track_caller]
pub fn bytes_of<S: State>(state: &S) -> Vec<u8> {
    must(state::encode(state), format_args!("schema {}", S::VERSION))
}

/// Demands that a state has the bytes of a golden file, and that these are read
/// as that state.
///
/// A path is relative to the package, where cargo runs its tests. With
/// `REPLUG_GOLDEN=write` in the environment a file that is missing is made; one
/// that is there is never changed. A state with maps needs an order of its own:
/// `BTreeMap`, or no more than one key.
///
/// ```
/// # use replug_plugin_api::{state::State, testing};
/// # use serde::{Deserialize, Serialize};
/// #[derive(Debug, PartialEq, Serialize, Deserialize, State)]
/// #[state(version = 1)]
/// struct V1 { hits: u64 }
///
/// testing::assert_golden("tests/golden/hits-v1.hex", &V1 { hits: 7 });
/// ```
///
/// # Panics
/// When the file is missing, or differs: then the type has changed under its
/// version.
#[track_caller]
pub fn assert_golden<S: State + PartialEq + Debug>(file: impl AsRef<Path>, state: &S) {
    let may_write = env::var_os(WRITE).is_some_and(|value| value == "write");
    if let Err(difference) = compare(file.as_ref(), state, may_write) {
        panic!("{difference}");
    }
}

/// The bytes of a golden file, for [`upgrade_bytes`](super::upgrade_bytes).
///
/// ```
/// use replug_plugin_api::{state::State, testing};
/// use serde::{Deserialize, Serialize};
///
/// # #[derive(Debug, PartialEq, Serialize, Deserialize, State)]
/// # #[state(version = 1)]
/// # struct V1 { hits: u64 }
/// #[derive(Debug, PartialEq, Serialize, Deserialize, State)]
/// #[state(version = 2, previous = V1, auto)]
/// struct V2 { hits: u64, #[serde(default)] misses: u64 }
///
/// let old = testing::golden("tests/golden/hits-v1.hex");
/// assert_eq!(testing::upgrade_bytes::<V2>(1, &old)?, V2 { hits: 7, misses: 0 });
/// # Ok::<(), replug_plugin_api::state::StateError>(())
/// ```
///
/// # Panics
/// When there is no such file, or it is none of these.
#[track_caller]
pub fn golden(file: impl AsRef<Path>) -> Vec<u8> {
    match read(file.as_ref()) {
        Ok(Some(bytes)) => bytes,
        Ok(None) => panic!("{}", missing(file.as_ref())),
        Err(problem) => panic!("{problem}"),
    }
}

/// How a state differs from its file.
fn compare<S: State + PartialEq + Debug>(file: &Path, state: &S, may_write: bool) -> Result<(), String> {
    let name = format!("{} (schema {})", type_name::<S>(), S::VERSION);
    let bytes = state::encode(state).map_err(|error| error.report())?;
    let Some(kept) = read(file)? else {
        if !may_write {
            return Err(missing(file));
        }
        return write(file, &format!("# {name}\n{}", hex(&bytes)))
            .map_err(|error| format!("{} cannot be written: {error}", file.display()));
    };
    let cure = format!("declare the changed type as schema {}, after the one of the file", S::VERSION + 1);
    let differs = |how: String| format!("{name} is not what {} holds: {how}\n{cure}", file.display());
    let old: S = state::decode(&kept).map_err(|error| differs(error.report()))?;
    if old != *state {
        return Err(differs(format!("that is\n  {old:?}\nand not\n  {state:?}")));
    }
    if bytes != kept {
        return Err(differs(format!("its bytes are now\n{}and were\n{}", hex(&bytes), hex(&kept))));
    }
    Ok(())
}

fn missing(file: &Path) -> String {
    format!("there is no {}; run the test once with {WRITE}=write to make it", file.display())
}

/// The bytes of a file; none if it is not there.
fn read(file: &Path) -> Result<Option<Vec<u8>>, String> {
    let text = match fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(format!("{} cannot be read: {error}", file.display())),
    };
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let digits: String = lines.flat_map(str::split_whitespace).collect();
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let bytes = digits.as_bytes().chunks(2).map(|pair| match *pair {
        [high, low] => Some(digit(high)? << 4 | digit(low)?),
        _ => None,
    });
    let bytes: Option<Vec<u8>> = bytes.collect();
    bytes.map(Some).ok_or_else(|| format!("{} is no list of hexadecimal bytes", file.display()))
}

fn write(file: &Path, text: &str) -> io::Result<()> {
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(file, text)
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::new();
    for line in bytes.chunks(LINE_BYTES) {
        for byte in line {
            // A string takes what is written to it.
            let _ = write!(text, "{byte:02x}");
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::{Deserialize, Serialize};
    use std::{path::PathBuf, process};

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Hits {
        hits: u64,
        names: Vec<String>,
    }

    impl State for Hits {
        const VERSION: u32 = 1;
        const PREVIOUS: Option<state::Link> = None;
    }

    /// What became of it by accident.
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Renamed {
        total: u64,
        names: Vec<String>,
    }

    impl State for Renamed {
        const VERSION: u32 = 1;
        const PREVIOUS: Option<state::Link> = None;
    }

    /// The same, where decoding notices nothing.
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Grown {
        hits: u64,
        names: Vec<String>,
        #[serde(default)]
        misses: u64,
    }

    impl State for Grown {
        const VERSION: u32 = 1;
        const PREVIOUS: Option<state::Link> = None;
    }

    fn hits() -> Hits {
        Hits { hits: u64::MAX, names: vec!["a name of more than a line".to_owned(); 3] }
    }

    /// A file of one test, in a folder that is not there yet.
    struct Scratch(PathBuf);

    impl Scratch {
        fn of(test: &str) -> Self {
            Scratch(env::temp_dir().join(format!("replug-golden-{}-{test}", process::id())))
        }

        fn file(&self) -> PathBuf {
            self.0.join("hits.hex")
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            // It may never have been made.
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_file_is_made_when_that_is_asked_for_and_never_changed() {
        let scratch = Scratch::of("made");
        let file = scratch.file();
        let asked = compare(&file, &hits(), false).expect_err("there is none");
        assert!(asked.contains("REPLUG_GOLDEN=write"), "{asked}");
        compare(&file, &hits(), true).expect("is made");
        compare(&file, &hits(), false).expect("is the same");
        assert_eq!(golden(&file), bytes_of(&hits()));
        let other = Hits { hits: 1, ..hits() };
        compare(&file, &other, true).expect_err("is another");
        assert_eq!(golden(&file), bytes_of(&hits()));
    }

    #[test]
    fn a_type_that_changed_under_its_version_is_told() {
        let scratch = Scratch::of("changed");
        let file = scratch.file();
        compare(&file, &hits(), true).expect("is made");
        let Hits { hits, names } = hits();
        let renamed = Renamed { total: hits, names: names.clone() };
        let renamed = compare(&file, &renamed, false).expect_err("a field has another name");
        assert!(renamed.contains("missing field `total`"), "{renamed}");
        assert!(renamed.contains("as schema 2"), "{renamed}");
        let grown = Grown { hits, names, misses: 0 };
        let grown = compare(&file, &grown, false).expect_err("there is one field more");
        assert!(grown.contains("its bytes are now"), "{grown}");
    }

    #[test]
    fn a_file_that_is_none_is_refused() {
        let scratch = Scratch::of("none");
        let file = scratch.file();
        for text in ["a1 6", "zz", "a1 +1"] {
            write(&file, text).expect("is written");
            let refused = read(&file).expect_err("is refused");
            assert!(refused.contains("hexadecimal"), "{refused}");
        }
        write(&file, "# hits\nA1 64\n68\n").expect("is written");
        assert_eq!(read(&file), Ok(Some(vec![0xa1, 0x64, 0x68])));
    }
}
