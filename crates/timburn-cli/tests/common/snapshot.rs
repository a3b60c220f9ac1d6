//! Texts that are part of the interface, kept as files: a change must be seen.
//!
//! `TIMBURN_UPDATE_SNAPSHOTS=1 cargo test --release --workspace --test help --test errors` writes them anew.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/snapshots")
}

/// Compares texts, by name, with the files `PREFIX-NAME.txt`; all differences at once. Files of that prefix without a text are stale.
pub(crate) fn check(prefix: &str, texts: &BTreeMap<String, String>) {
    let file = |name: &str| format!("{prefix}-{name}.txt");
    let stale: Vec<PathBuf> = std::fs::read_dir(folder())
        .expect("snapshots")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| {
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            name.starts_with(&format!("{prefix}-")) && !texts.keys().any(|known| file(known) == name)
        })
        .collect();
    if std::env::var_os("TIMBURN_UPDATE_SNAPSHOTS").is_some_and(|value| value != "0") {
        stale.iter().for_each(|path| std::fs::remove_file(path).expect("removes"));
        texts.iter().for_each(|(name, text)| std::fs::write(folder().join(file(name)), text).expect("writes"));
        return;
    }
    let mut faults: Vec<String> = stale.iter().map(|path| format!("{}: nothing says this any more", path.display())).collect();
    for (name, text) in texts {
        let path = folder().join(file(name));
        let expected = std::fs::read_to_string(&path).unwrap_or_default();
        if &expected != text {
            let line =
                expected.lines().zip(text.lines()).position(|(a, b)| a != b).unwrap_or(expected.lines().count().min(text.lines().count()));
            let at = |text: &str| text.lines().nth(line).unwrap_or("(the end)").to_owned();
            faults.push(format!("{}, line {}:\n  - {}\n  + {}", path.display(), line + 1, at(&expected), at(text)));
        }
    }
    let again = "if this is meant: TIMBURN_UPDATE_SNAPSHOTS=1 cargo test --release --workspace --test help --test errors";
    assert!(faults.is_empty(), "{}\n{again}", faults.join("\n"));
}
