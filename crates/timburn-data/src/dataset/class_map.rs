//! Class lists as files, and their agreement between training, validation and prediction.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use serde_json::Value;
use timburn_core::error::DataError;
use timburn_core::suggest::nearest;
use timburn_core::{Classes, Error, Result};

use super::{malformed, scan};

/// Saves a class list: JSON where the path ends in `.json`, else one class a line, `name` or `id<TAB>name`.
///
/// The file is written aside and renamed, so that it is never half there.
///
/// # Errors
/// [`Error::Io`]; [`Error::Argument`] for a name with a line break or tab, which only JSON can hold.
pub fn save_classes(classes: &Classes, path: impl AsRef<Path>) -> Result<()> {
    let path = path.as_ref();
    let text = if is_json(path) {
        let invalid = |error: serde_json::Error| malformed(path, "", "a class list that JSON can hold", error.to_string());
        serde_json::to_string_pretty(classes).map_err(invalid)? + "\n"
    } else {
        let mut text = String::new();
        for (index, name) in classes.names.iter().enumerate() {
            let id = classes.ids.get(index);
            if let Some(value) = [Some(name), id].into_iter().flatten().find(|field| field.contains(['\n', '\r', '\t']) || field.is_empty())
            {
                let expected = "a name on one line without tabs (save as .json instead)".into();
                return Err(Error::Argument { name: "class", value: format!("{value:?}"), expected });
            }
            text.extend(id.map(|id| format!("{id}\t")));
            text.push_str(name);
            text.push('\n');
        }
        text
    };
    let mut aside = path.as_os_str().to_owned();
    aside.push(".part");
    std::fs::write(&aside, text).map_err(Error::io("write", path))?;
    std::fs::rename(&aside, path).map_err(Error::io("rename into place", path))
}

/// Loads a class list in any form in use: what [`save_classes`] writes, one name a line, `n01440764 tench, Tinca tinca` (Kaggle's
/// `LOC_synset_mapping.txt`), or JSON: `["cat", "dog"]`, `{"0": "cat"}`, `{"cat": 0}`, `{"0": ["n01440764", "tench"]}` (the usual
/// `imagenet_class_index.json`).
///
/// # Errors
/// [`Error::Io`]; [`DataError::Malformed`] for anything else, repeated classes and gaps between indices included.
pub fn load_classes(path: impl AsRef<Path>) -> Result<Classes> {
    let path = path.as_ref();
    parse_classes(path, &scan::read(path)?)
}

fn is_json(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json"))
}

/// [`load_classes`] of a file's content; JSON is known by its first character. `path` is for errors.
#[doc(hidden)]
pub fn parse_classes(path: &Path, bytes: &[u8]) -> Result<Classes> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let text = std::str::from_utf8(bytes).map_err(|error| malformed(path, "", "UTF-8 text", error.to_string()))?;
    let classes = if text.trim_start().starts_with(['{', '[']) { from_json(path, text)? } else { from_lines(path, text)? };
    let mut seen = HashMap::new();
    for index in 0..classes.len() {
        if let Some(first) = seen.insert(key(&classes, index), index) {
            return Err(malformed(path, "", "each class once", format!("`{}` at {first} and {index}", key(&classes, index))));
        }
    }
    if classes.is_empty() {
        return Err(malformed(path, "", "a list of classes", "none".into()));
    }
    Ok(classes)
}

fn from_lines(path: &Path, text: &str) -> Result<Classes> {
    let lines: Vec<&str> = text.lines().map(|line| line.trim_end_matches('\r')).filter(|line| !line.trim().is_empty()).collect();
    let synsets = lines.iter().all(|line| line.split_once([' ', '\t']).is_some_and(|(id, _)| is_wnid(id)));
    let separator: &[char] = if synsets { &[' ', '\t'] } else { &['\t'] };
    let pairs: Vec<_> = lines.iter().map(|line| line.split_once(separator)).collect();
    if pairs.iter().all(Option::is_some) {
        let (ids, names) = pairs.into_iter().flatten().map(|(id, name)| (id.to_owned(), name.trim().to_owned())).unzip();
        return Ok(Classes { names, ids });
    }
    if let Some(at) = pairs.iter().position(Option::is_some) {
        return Err(malformed(path, &format!(", line {}", at + 1), "`name` or `id<TAB>name` in every line alike", "a mixture".into()));
    }
    Ok(Classes::new(lines.into_iter().map(str::to_owned).collect()))
}

fn from_json(path: &Path, text: &str) -> Result<Classes> {
    let value: Value = serde_json::from_str(text).map_err(|error| malformed(path, "", "JSON", error.to_string()))?;
    let strange = |found: &Value| {
        let found: String = found.to_string().chars().take(80).collect();
        malformed(path, "", "a list of names, {\"0\": \"name\"}, {\"name\": 0} or {\"0\": [\"id\", \"name\"]}", found)
    };
    let text_of = |value: &Value| value.as_str().map(str::to_owned).ok_or_else(|| strange(value));
    let table = match &value {
        Value::Array(names) => return Ok(Classes::new(names.iter().map(text_of).collect::<Result<_>>()?)),
        Value::Object(table) => table,
        other => return Err(strange(other)),
    };
    if table.contains_key("names") {
        let classes: Classes =
            serde_json::from_value(value.clone()).map_err(|error| malformed(path, "", "a class list", error.to_string()))?;
        if !classes.ids.is_empty() && classes.ids.len() != classes.names.len() {
            let found = format!("{} names, {} ids", classes.names.len(), classes.ids.len());
            return Err(malformed(path, "", "as many ids as names", found));
        }
        return Ok(classes);
    }
    let mut rows: BTreeMap<usize, (Option<String>, String)> = BTreeMap::new();
    for (key, entry) in table {
        let (index, row) = match (entry, key.parse::<usize>()) {
            (Value::String(name), Ok(index)) => (index, (None, name.clone())),
            (Value::Array(pair), Ok(index)) => match pair.as_slice() {
                [id, name] => (index, (Some(text_of(id)?), text_of(name)?)),
                _ => return Err(strange(entry)),
            },
            (Value::Number(number), _) => {
                let index = number.as_u64().and_then(|index| usize::try_from(index).ok()).ok_or_else(|| strange(entry))?;
                (index, (None, key.clone()))
            }
            _ => return Err(strange(entry)),
        };
        if rows.insert(index, row).is_some() {
            return Err(malformed(path, "", "each index once", index.to_string()));
        }
    }
    if let Some((gap, (found, _))) = rows.iter().enumerate().find(|(expected, (found, _))| expected != *found) {
        return Err(malformed(path, "", &format!("index {gap}"), found.to_string()));
    }
    let (ids, names): (Vec<_>, Vec<_>) = rows.into_values().unzip();
    let ids: Vec<String> = ids.into_iter().flatten().collect();
    if !ids.is_empty() && ids.len() != names.len() {
        return Err(malformed(path, "", "an id for every class or for none", format!("{} of {}", ids.len(), names.len())));
    }
    Ok(Classes { names, ids })
}

/// Whether this has the form of a WordNet id: `n` and eight digits.
pub(crate) fn is_wnid(text: &str) -> bool {
    text.strip_prefix('n').is_some_and(|digits| digits.len() == 8 && digits.bytes().all(|byte| byte.is_ascii_digit()))
}

/// What identifies a class: its id where there is one, else its name.
pub(crate) fn key(classes: &Classes, index: usize) -> &str {
    classes.ids.get(index).filter(|id| !id.is_empty()).or_else(|| classes.names.get(index)).map_or("", String::as_str)
}

/// Makes sure that two class lists are one: the same classes (by id, else by name) at the same indices.
///
/// # Errors
/// [`DataError::ClassesDiffer`], which lists every difference.
pub fn check_same(expected: &Classes, found: &Classes) -> Result<()> {
    let index = |classes| (0..Classes::len(classes)).map(|index| (key(classes, index), index)).collect::<HashMap<_, _>>();
    let (there, here) = (index(expected), index(found));
    let only_in = |a: &Classes, b: &HashMap<&str, usize>| {
        (0..a.len()).map(|index| key(a, index)).filter(|key| !b.contains_key(key)).map(str::to_owned).collect::<Vec<_>>()
    };
    let (missing, unknown) = (only_in(expected, &here), only_in(found, &there));
    let moved = |index: &usize| here.get(key(expected, *index)).is_some_and(|at| at != index);
    let moved: Vec<String> = (0..expected.len()).filter(moved).map(|index| key(expected, index).to_owned()).collect();
    if missing.is_empty() && unknown.is_empty() && moved.is_empty() && expected.len() == found.len() {
        return Ok(());
    }
    Err(DataError::ClassesDiffer { missing, unknown, moved }.into())
}

/// Finds classes by id or name in constant time.
pub(crate) struct Lookup<'a> {
    classes: &'a Classes,
    ids: HashMap<&'a str, usize>,
    /// `None` for a name that several classes share (ImageNet has two cranes).
    names: HashMap<&'a str, Option<usize>>,
}

impl<'a> Lookup<'a> {
    pub(crate) fn new(classes: &'a Classes) -> Self {
        let ids = classes.ids.iter().enumerate().map(|(index, id)| (id.as_str(), index)).collect();
        let mut names = HashMap::new();
        for (index, name) in classes.names.iter().enumerate() {
            names.entry(name.as_str()).and_modify(|found| *found = None).or_insert(Some(index));
        }
        Self { classes, ids, names }
    }

    pub(crate) fn find(&self, id_or_name: &str) -> Option<usize> {
        self.ids.get(id_or_name).copied().or_else(|| self.names.get(id_or_name).copied().flatten())
    }

    /// [`Lookup::find`], or the error that `name` (a split, a file, a line) names an unknown class.
    pub(crate) fn require(&self, id_or_name: &str, name: impl FnOnce() -> String) -> Result<usize> {
        self.find(id_or_name).ok_or_else(|| {
            let known = self.classes.ids.iter().chain(&self.classes.names).map(String::as_str);
            DataError::UnknownClass { name: name(), class: id_or_name.into(), nearest: nearest(id_or_name, known) }.into()
        })
    }
}
