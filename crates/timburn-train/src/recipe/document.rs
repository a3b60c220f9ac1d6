//! TOML with places: every complaint about a value names the line and column, or the argument, that said it.

use std::path::Path;

use serde::de::DeserializeOwned;
use timburn_core::error::ConfigError;
use timburn_core::suggest::nearest;
use timburn_core::{Error, Result};
use toml::de::{DeTable, DeValue};
use toml::{Table, Value};

/// A TOML text and what the command line changes in it.
#[derive(Debug, Clone)]
pub struct Document {
    name: String,
    text: String,
    settings: Vec<Setting>,
}

/// `a.b.c=value` from the command line.
#[derive(Debug, Clone)]
struct Setting {
    argument: String,
    path: Vec<String>,
    value: Value,
}

impl Document {
    /// A document from its text; `name` is what errors call it.
    pub fn new(name: impl Into<String>, text: impl Into<String>) -> Self {
        Self { name: name.into(), text: text.into(), settings: Vec::new() }
    }

    /// Reads a file.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let text = std::fs::read_to_string(path).map_err(Error::io("read", path))?;
        Ok(Self::new(path.display().to_string(), text))
    }

    /// Adds `a.b=c`, which takes precedence over the text. `c` is a TOML value; what is none is taken as a string, so that
    /// `data.path=flowers` needs no quotes. Numbers index lists: `schedule.chain.0.epochs=5`.
    ///
    /// # Errors
    /// [`ConfigError`] when there is no `=` or an empty name.
    pub fn set(mut self, argument: &str) -> Result<Self> {
        let setting = Setting::parse(argument).ok_or_else(|| ConfigError {
            place: format!("--set {argument}"),
            message: "expected KEY=VALUE with a dotted key, as in train.epochs=5".into(),
            nearest: Vec::new(),
        })?;
        self.settings.push(setting);
        Ok(self)
    }

    /// The values, checked for syntax, unknown keys and types.
    ///
    /// # Errors
    /// [`ConfigError`] at the first fault.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T> {
        let syntax = |error: toml::de::Error| self.complaint(&error, self.place_of_span(&error));
        if self.settings.is_empty() {
            return toml::from_str(&self.text).map_err(|error| syntax(error).into());
        }
        let mut table: Table = toml::from_str(&self.text).map_err(syntax)?;
        for setting in &self.settings {
            setting.apply(&mut table)?;
        }
        // Values have lost their places: a fault that the text has by itself is reported from there, any other is an argument's.
        Value::Table(table).try_into().map_err(|error: toml::de::Error| {
            match toml::from_str::<T>(&self.text).err().filter(|own| own.message() == error.message()) {
                Some(own) => syntax(own).into(),
                None => self.complaint(&error, self.culprit::<T>(error.message())).into(),
            }
        })
    }

    /// An [`Error::Argument`] about a dotted key becomes a [`ConfigError`] with the place of that key.
    pub fn locate(&self, error: Error) -> Error {
        match error {
            Error::Argument { name, value, expected } => {
                let message = format!("{name} = {value}: expected {expected}");
                ConfigError { place: self.place_of_key(name), message, nearest: Vec::new() }.into()
            }
            other => other,
        }
    }

    fn complaint(&self, error: &toml::de::Error, place: String) -> ConfigError {
        // serde's words: "unknown field `epoch`, expected one of `epochs`, `seed`".
        let message = error.message().to_owned();
        let mut names = message.split('`').skip(1).step_by(2);
        let unknown = message.starts_with("unknown ").then(|| names.next()).flatten();
        let nearest = unknown.map_or_else(Vec::new, |unknown| nearest(unknown, names));
        ConfigError { place, message, nearest }
    }

    fn place_of_span(&self, error: &toml::de::Error) -> String {
        error.span().map_or_else(|| self.name.clone(), |span| self.position(span.start))
    }

    /// `name:line:column`, counted from 1, columns in characters.
    fn position(&self, byte: usize) -> String {
        let before = self.text.get(..byte).unwrap_or(&self.text);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().map_or(0, |last| last.chars().count()) + 1;
        format!("{}:{line}:{column}", self.name)
    }

    /// The argument at fault: the first one with which the values fail to fit in this way.
    fn culprit<T: DeserializeOwned>(&self, message: &str) -> String {
        let Ok(mut table) = toml::from_str::<Table>(&self.text) else { return self.name.clone() };
        for setting in &self.settings {
            let fails = |table: &Table| Value::Table(table.clone()).try_into::<T>().err().is_some_and(|error| error.message() == message);
            if setting.apply(&mut table).is_err() || fails(&table) {
                return format!("--set {}", setting.argument);
            }
        }
        self.name.clone()
    }

    /// The argument or the place in the text that gives the dotted `key` its value; failing that, of the nearest table around it.
    fn place_of_key(&self, key: &str) -> String {
        let path: Vec<&str> = key.split('.').collect();
        let matches = |setting: &&Setting| setting.path.iter().map(String::as_str).eq(path.iter().copied());
        if let Some(setting) = self.settings.iter().rev().find(matches) {
            return format!("--set {}", setting.argument);
        }
        let Ok(root) = DeTable::parse(&self.text) else { return self.name.clone() };
        let mut place = None;
        let mut table = Some(root.get_ref());
        let mut list: Option<&[toml::Spanned<DeValue<'_>>]> = None;
        for part in path {
            if let Some(items) = list.take() {
                // Complaints about lists name the field, not the item: the first item that has it is shown.
                table = items.iter().filter_map(|item| item.get_ref().as_table()).find(|table| table.contains_key(part));
            }
            let Some((name, value)) = table.and_then(|table| table.get_key_value(part)) else { break };
            place = Some(name.span().start);
            table = value.get_ref().as_table();
            list = value.get_ref().as_array().map(|array| &**array);
        }
        place.map_or_else(|| self.name.clone(), |byte| self.position(byte))
    }
}

impl Setting {
    fn parse(argument: &str) -> Option<Self> {
        let (key, text) = argument.split_once('=')?;
        let path: Vec<String> = key.trim().split('.').map(str::to_owned).collect();
        if path.iter().any(String::is_empty) {
            return None;
        }
        let quoted = || Value::String(text.to_owned());
        let value = toml::from_str::<Table>(&format!("v = {text}")).ok().and_then(|mut table| table.remove("v")).unwrap_or_else(quoted);
        Some(Self { argument: argument.to_owned(), path, value })
    }

    fn apply(&self, root: &mut Table) -> Result<(), ConfigError> {
        let fault = |message: String| ConfigError { place: format!("--set {}", self.argument), message, nearest: Vec::new() };
        let Some((last, parents)) = self.path.split_last() else { return Ok(()) };
        let mut holder = &mut *root;
        let mut parents = parents.iter().peekable();
        while let Some(part) = parents.next() {
            let value = holder.entry(part.clone()).or_insert_with(|| Value::Table(Table::new()));
            let value = match value {
                Value::Array(items) => {
                    let index = parents.next().unwrap_or(last);
                    let count = items.len();
                    let item = index.parse().ok().and_then(|index: usize| items.get_mut(index));
                    item.ok_or_else(|| fault(format!("`{part}` is a list of {count}: expected an index below that, found `{index}`")))?
                }
                other => other,
            };
            let kind = value.type_str();
            holder = value.as_table_mut().ok_or_else(|| fault(format!("`{part}` is a {kind}, it has no keys below it")))?;
        }
        holder.insert(last.clone(), self.value.clone());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Outer {
        name: String,
        train: Inner,
        #[serde(default)]
        chain: Vec<Inner>,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Inner {
        epochs: u32,
        #[serde(default)]
        rate: f64,
    }

    const TEXT: &str = "name = \"é\"\n\n[train]\nepochs = 3\nrate = 0.5\n\n[[chain]]\nepochs = 1\n";

    fn message(document: &Document) -> String {
        document.parse::<Outer>().expect_err("a fault").to_string()
    }

    #[test]
    fn settings_take_precedence_and_strings_need_no_quotes() {
        let document = Document::new("r.toml", TEXT);
        let document = document.set("train.epochs=7").unwrap().set("name=a b/c.d").unwrap().set("chain.0.rate=1e-3").unwrap();
        let outer: Outer = document.parse().unwrap();
        assert_eq!((outer.train.epochs, outer.name.as_str(), outer.chain[0].rate), (7, "a b/c.d", 1e-3));
    }

    #[test]
    fn faults_of_the_text_have_line_and_column() {
        let unknown = Document::new("r.toml", TEXT.replace("rate", "rat"));
        assert_eq!(message(&unknown), "r.toml:5:1: unknown field `rat`, expected `epochs` or `rate`; did you mean `rate`?");
        let kind = Document::new("r.toml", TEXT.replace("= 3", "= \"x\""));
        assert!(message(&kind).starts_with("r.toml:4:10: invalid type: string \"x\""), "{}", message(&kind));
        let syntax = Document::new("r.toml", TEXT.replace("= 3", "= = 3"));
        assert!(message(&syntax).starts_with("r.toml:4:10: "), "{}", message(&syntax));
        let with_setting = unknown.set("name=x").unwrap();
        assert!(message(&with_setting).starts_with("r.toml:5:1: unknown field `rat`"), "{}", message(&with_setting));
    }

    #[test]
    fn faults_of_settings_name_the_argument() {
        let set = |argument| Document::new("r.toml", TEXT).set("name=ok").unwrap().set(argument).unwrap();
        assert_eq!(
            message(&set("train.epoch=3")),
            "--set train.epoch=3: unknown field `epoch`, expected `epochs` or `rate`; did you mean `epochs`?"
        );
        assert!(
            message(&set("train.epochs=three")).starts_with("--set train.epochs=three: invalid type"),
            "{}",
            message(&set("train.epochs=three"))
        );
        assert!(message(&set("name.x=3")).contains("`name` is a string"), "{}", message(&set("name.x=3")));
        assert!(message(&set("chain.4.epochs=3")).contains("list of 1"), "{}", message(&set("chain.4.epochs=3")));
        let two = set("train.epochs=-1").set("name=late").unwrap();
        assert!(message(&two).starts_with("--set train.epochs=-1: "), "{}", message(&two));
        for bad in ["train.epochs", "=3", "a..b=3"] {
            assert!(Document::new("r.toml", TEXT).set(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn range_faults_find_their_key() {
        let argument = |name| Error::Argument { name, value: "0".into(), expected: "1 or more".into() };
        let document = Document::new("r.toml", TEXT);
        let text = |document: &Document, name| document.locate(argument(name)).to_string();
        assert_eq!(text(&document, "train.epochs"), "r.toml:4:1: train.epochs = 0: expected 1 or more");
        assert_eq!(text(&document, "chain.epochs"), "r.toml:8:1: chain.epochs = 0: expected 1 or more");
        assert!(text(&document, "train.missing").starts_with("r.toml:3:2: "), "{}", text(&document, "train.missing"));
        assert_eq!(text(&document, "other"), "r.toml: other = 0: expected 1 or more");
        let set = document.set("train.epochs=0").unwrap();
        assert!(text(&set, "train.epochs").starts_with("--set train.epochs=0: "));
    }
}
