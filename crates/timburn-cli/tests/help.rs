//! Help texts are part of the interface: what they say, and that verbs call the same thing by the same name.
#![allow(clippy::expect_used, clippy::panic, reason = "helpers of tests")]

#[path = "common/snapshot.rs"]
mod snapshot;

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

fn help(verb: &[String], option: &str) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_timburn"))
        .args(verb)
        .arg(option)
        .env("COLUMNS", "100")
        .env_remove("CLICOLOR_FORCE")
        .output()
        .expect("the binary runs");
    assert!(output.status.success() && output.stderr.is_empty(), "{verb:?} {option}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// Every verb, and the verbs below it, as their help lists them.
fn verbs() -> Vec<Vec<String>> {
    let mut found = vec![Vec::new()];
    let mut next = 0;
    while let Some(verb) = found.get(next).cloned() {
        next += 1;
        let text = help(&verb, "-h");
        let commands = text.split_once("Commands:\n").map(|(_, rest)| rest).unwrap_or_default();
        for line in commands.lines().take_while(|line| line.starts_with(' ')) {
            let name = line.split_whitespace().next().expect("a name");
            // A description that goes on is indented further.
            if name != "help" && line.starts_with("  ") && !line.starts_with("   ") {
                found.push([&verb[..], &[name.to_owned()]].concat());
            }
        }
    }
    assert!(found.len() > 12, "{found:?}");
    found
}

#[test]
fn help_says_what_it_said() {
    let mut texts = BTreeMap::new();
    for verb in verbs() {
        let name = if verb.is_empty() { "timburn".to_owned() } else { verb.join("-") };
        texts.insert(format!("{name}-short"), help(&verb, "-h"));
        texts.insert(name, help(&verb, "--help"));
    }
    snapshot::check("help", &texts);
}

#[test]
fn every_verb_has_examples_of_itself() {
    for verb in verbs() {
        let text = help(&verb, "--help");
        let (_, examples) = text.split_once("Examples:\n").unwrap_or_else(|| panic!("{verb:?} has no examples\n{text}"));
        let first = examples.lines().next().expect("a line").trim_start();
        assert!(first.starts_with(&format!("timburn {}", verb.join(" "))), "{text}");
        // None is wrapped at the width of an ordinary terminal window: what is wrapped cannot be copied.
        for line in examples.lines().take_while(|line| !line.is_empty()) {
            assert!(line.starts_with("  ") && line.contains("timburn "), "{verb:?}: {line}");
        }
        assert!(text.lines().all(|line| line.chars().count() <= 100), "{verb:?}\n{text}");
    }
}

/// How an option is asked for: short form, name of the value.
type Form = (Option<String>, Option<String>);

/// `-o, --output <DIR>` → short, long, value.
fn option(line: &str) -> Option<(Option<String>, String, Option<String>)> {
    // A description that goes on may begin with an option's name; it is indented further.
    if ![2, 6].contains(&(line.len() - line.trim_start().len())) {
        return None;
    }
    let words: Vec<&str> = line.split_whitespace().take(3).collect();
    let (short, rest) = match words.as_slice() {
        [short, rest @ ..] if short.len() == 3 && short.starts_with('-') && short.ends_with(',') => (Some(short[..2].to_owned()), rest),
        words => (None, words),
    };
    let long = rest.first().filter(|word| word.starts_with("--"))?.trim_end_matches(['.', ',']);
    Some((short, long.to_owned(), rest.get(1).filter(|word| word.starts_with('<')).map(|word| (*word).to_owned())))
}

#[test]
fn the_same_thing_has_the_same_name_everywhere() {
    let mut known: BTreeMap<String, BTreeSet<Form>> = BTreeMap::new();
    for verb in verbs() {
        let text = help(&verb, "-h");
        let options: Vec<_> = text.lines().filter(|line| line.trim_start().starts_with('-')).filter_map(option).collect();
        for (short, long, value) in &options {
            known.entry(long.clone()).or_default().insert((short.clone(), value.clone()));
        }
        let has = |name: &str| options.iter().any(|(_, long, _)| long == name);
        let name = verb.join(" ");
        let printed = !["", "data", "completions", "man"].contains(&name.as_str());
        assert_eq!(has("--json"), printed, "{name}");
        for long in ["demo", "train", "finetune", "find-lr", "eval", "compare", "data pack"] {
            assert!(name != long || (has("--dry-run") && has("--quiet")), "{name}");
        }
    }
    for (long, forms) in known {
        // What is written differs, how it is asked for does not.
        let shorts: BTreeSet<_> = forms.iter().map(|(short, _)| short).collect();
        assert_eq!(shorts.len(), 1, "{long}: {forms:?}");
        let several = ["--output", "--start", "--end"].contains(&long.as_str());
        assert!(several || forms.len() == 1, "{long}: {forms:?}");
    }
}
