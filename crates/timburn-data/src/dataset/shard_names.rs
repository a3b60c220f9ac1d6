use std::path::{Path, PathBuf};

use timburn_core::error::DataError;
use timburn_core::{Error, Result};

/// No data set has more shards.
const MOST: usize = 1_000_000;

/// Expands a pattern as the shell does: `{000..146}` counts, with leading zeros where the first number has them, `{a,b}` lists.
///
/// # Errors
/// [`Error::Argument`] for a pattern that is not closed, has no number where one belongs, or means more than a million names.
pub(super) fn expand(pattern: &Path) -> Result<Vec<PathBuf>> {
    let Some(text) = pattern.to_str().filter(|text| text.contains('{')) else { return Ok(vec![pattern.to_owned()]) };
    let wrong = |expected: &str| Error::Argument { name: "shards", value: text.into(), expected: expected.into() };
    let mut names = vec![String::new()];
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once('{') {
        let (inside, after) = behind.split_once('}').ok_or_else(|| wrong("a closing `}`"))?;
        let choices = choices(inside).ok_or_else(|| wrong("`{first..last}` or `{a,b}` in braces"))?;
        if names.len().saturating_mul(choices.len()) > MOST {
            return Err(wrong("at most a million shards"));
        }
        names = names.iter().flat_map(|name| choices.iter().map(move |choice| format!("{name}{before}{choice}"))).collect();
        rest = after;
    }
    let paths: Vec<PathBuf> = names.into_iter().map(|name| PathBuf::from(name + rest)).collect();
    match paths.iter().find(|path| !path.is_file()) {
        None => Ok(paths),
        Some(missing) => {
            let (expected, found) = (format!("all {} shards of {text}", paths.len()), "no such file".into());
            Err(DataError::Malformed { path: missing.clone(), at: String::new(), expected, found }.into())
        }
    }
}

fn choices(inside: &str) -> Option<Vec<String>> {
    let Some((first, last)) = inside.split_once("..") else {
        return inside.contains(',').then(|| inside.split(',').map(str::to_owned).collect());
    };
    let (from, to): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
    let width = if first.starts_with('0') { first.len() } else { 0 };
    (from <= to && to - from < MOST && width < 20).then(|| (from..=to).map(|number| format!("{number:0width$}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn braces_count_and_list() {
        assert_eq!(choices("008..011").unwrap(), ["008", "009", "010", "011"]);
        assert_eq!(choices("8..10").unwrap(), ["8", "9", "10"]);
        assert_eq!(choices("a,b,").unwrap(), ["a", "b", ""]);
        for wrong in ["", "a", "3..1", "1..", "0..99999999999", "-1..3"] {
            assert_eq!(choices(wrong), None, "{wrong}");
        }
        assert!(expand(Path::new("a{1..2")).is_err());
        assert!(expand(Path::new("a{1..999}{1..9999}")).is_err());
        assert!(expand(Path::new("/nowhere/a-{1..2}.tar")).unwrap_err().to_string().contains("a-1.tar"));
    }
}
