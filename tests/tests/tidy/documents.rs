//! The rule that documents name only files and commands that exist.

use crate::tree::{Fault, File, Tree, demand_none, places};

/// Words in backticks that have a slash and yet are no paths: how they begin.
const NO_PATHS: &[(&str, &str)] =
    &[("application/", "a media type"), ("text/", "a media type"), ("target/", "there only after a build")];

fn dead_names(tree: &Tree) -> Vec<Fault> {
    let mut faults = Vec::new();
    // A changelog speaks of what was, too.
    let documents = tree
        .files()
        .filter(|f| f.path.ends_with(".md") && f.path != "CHANGELOG.md" && !f.is_in("tests/corpus"));
    for file in documents {
        let mut fenced = false;
        for (number, line) in file.lines() {
            if line.trim_start().starts_with("```") {
                fenced = !fenced;
                continue;
            }
            let names = if fenced { commands(line) } else { [links(line), spans(line)].concat() };
            for name in names {
                if let Some((what, mend)) = fault(tree, file, &name) {
                    faults.push(Fault::new(file, number, what, mend));
                }
            }
        }
    }
    faults
}

fn fault(tree: &Tree, document: &File, name: &str) -> Option<(String, &'static str)> {
    let path = name.trim_start_matches("./").trim_end_matches('/');
    let folder = document.path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let beside = join(folder, path);
    if ![path, &beside].iter().any(|path| tree.has(path)) {
        return Some((format!("`{name}` does not exist"), "correct the path or the document"));
    }
    if path.starts_with("scripts/") && !tree.can_run(path) {
        return Some((format!("`{name}` cannot be run"), "set its executable bits"));
    }
    None
}

/// The targets of Markdown links that are relative paths.
fn links(line: &str) -> Vec<String> {
    let targets = line.split("](").skip(1).filter_map(|rest| rest.split([')', ' ']).next());
    let paths = targets.map(|target| target.split('#').next().unwrap_or_default());
    let relative = paths.filter(|path| !path.is_empty() && !path.contains(':') && !path.starts_with('/'));
    relative.map(str::to_owned).collect()
}

/// The paths in backticks: a path alone, or a script with its arguments.
fn spans(line: &str) -> Vec<String> {
    let spans: Vec<&str> = line.split('`').skip(1).step_by(2).collect();
    let mut names = Vec::new();
    for span in spans {
        if span.contains(' ') {
            names.extend(commands(span));
        } else if is_path(span) {
            names.push(span.to_owned());
        }
    }
    names
}

/// The scripts of the project that a command line names.
fn commands(line: &str) -> Vec<String> {
    let words = line.split_whitespace().map(|word| word.trim_start_matches("./"));
    words.filter(|word| word.starts_with("scripts/") && is_path(word)).map(str::to_owned).collect()
}

fn is_path(word: &str) -> bool {
    word.contains('/')
        && !word.starts_with('/')
        && word.chars().all(|c| c.is_ascii_alphanumeric() || "./_-".contains(c))
        && !NO_PATHS.iter().any(|(begin, _)| word.starts_with(begin))
}

/// `path` seen from `folder`, with its `..` taken up.
fn join(folder: &str, path: &str) -> String {
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in path.split('/') {
        match part {
            ".." => _ = parts.pop(),
            "." | "" => {}
            name => parts.push(name),
        }
    }
    parts.join("/")
}

#[test]
fn documents_name_what_exists() {
    let tree = Tree::of_the_project();
    demand_none(&dead_names(&tree));
    assert!(tree.has("CONTRIBUTING.md"), "no document was checked");
}

#[test]
fn dead_names_are_found() {
    let readme = "\
See [how](docs/how.md#top), [web](https://example.org/a) and [here](#here).
Run `scripts/check`, `scripts/fly --far` or `scripts/bench dispatch`.
`host/engine/` and `host/engin` answer `POST /v1/plugins` with `application/json`.
```sh
scripts/demo
scripts/check --fast
```
";
    let tree = Tree::sample(&[
        ("README.md", readme),
        ("scripts/check", ""),
        ("scripts/bench", ""),
        ("host/engine/notes.md", "[up](../../README.md) [gone](../README.md) `lib.rs` `src/lib.rs`"),
    ]);
    assert_eq!(
        places(&dead_names(&tree)),
        [
            "README.md:1",
            "README.md:2",
            "README.md:3",
            "README.md:5",
            "host/engine/notes.md:1",
            "host/engine/notes.md:1",
        ]
    );
}
