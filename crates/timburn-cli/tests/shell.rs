//! What a shell and a reader of manuals get: completions and pages, tried with the programs they are for.
#![cfg(unix)]
#![allow(clippy::expect_used, reason = "helpers of tests")]

mod common;

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use common::{folder, stderr, stdout, timburn};

/// Runs a program that may not be installed.
fn tool(name: &str, arguments: &[&str], folder: &Path) -> Option<Output> {
    let found = Command::new(name).args(arguments).current_dir(folder).env("LC_ALL", "C.UTF-8").stdin(Stdio::null()).output();
    if found.is_err() {
        // Past the harness, which swallows what a passing test prints.
        let _ = std::io::stderr().write_all(format!("skipped: {name} is not installed\n").as_bytes());
    }
    found.ok()
}

#[test]
fn completions_are_scripts_that_their_shells_take() {
    let folder = folder();
    for (shell, checks) in [("bash", true), ("zsh", true), ("fish", true), ("powershell", false), ("elvish", false)] {
        let output = timburn(&["completions", shell], folder.path());
        assert!(output.status.success() && output.stderr.is_empty(), "{shell}");
        let script = stdout(&output);
        for verb in ["finetune", "find-lr", "inspect", "doctor", "dry-run"] {
            assert!(script.contains(verb), "{shell}: {verb}");
        }
        let file = format!("timburn.{shell}");
        std::fs::write(folder.path().join(&file), script).expect("writes");
        if checks && let Some(checked) = tool(shell, &["-n", &file], folder.path()) {
            assert!(checked.status.success() && checked.stderr.is_empty(), "{shell}: {}", stderr(&checked));
        }
    }
    let ask = |words: &str, count: usize| {
        let last = words.split(' ').next_back().expect("a word");
        let line = format!(
            "source timburn.bash; COMP_WORDS=({words}); COMP_CWORD={count}; _timburn timburn '{last}' ''; echo \"${{COMPREPLY[@]}}\""
        );
        tool("bash", &["-c", &line], folder.path()).map(|output| stdout(&output).trim().to_owned())
    };
    for (words, count, expected) in
        [("timburn fine", 1, "finetune"), ("timburn data insp", 2, "inspect"), ("timburn train --dry", 2, "--dry-run")]
    {
        if let Some(found) = ask(words, count) {
            assert_eq!(found, expected, "{words}");
        }
    }
}

#[test]
fn every_verb_has_a_page_that_renders() {
    let folder = folder();
    let output = timburn(&["man", "-o", "man"], folder.path());
    assert!(output.status.success() && output.stderr.is_empty(), "{}", stderr(&output));
    let pages: Vec<String> = stdout(&output).lines().map(str::to_owned).collect();
    for name in ["timburn.1", "timburn-train.1", "timburn-data.1", "timburn-data-inspect.1", "timburn-doctor.1"] {
        assert!(pages.contains(&format!("man/{name}")), "{name}: {pages:?}");
    }
    for page in &pages {
        let text = std::fs::read_to_string(folder.path().join(page)).expect("a page");
        for section in [".TH ", ".SH NAME", ".SH SYNOPSIS", ".SH DESCRIPTION", ".SH OPTIONS", ".SH EXAMPLES\n.nf\n  timburn "] {
            assert!(text.contains(section), "{page}: {section}\n{text}");
        }
        let Some(rendered) = tool("groff", &["-man", "-Tutf8", "-ww", "-rLL=140n", page], folder.path()) else { continue };
        assert!(rendered.status.success() && rendered.stderr.is_empty(), "{page}: {}", stderr(&rendered));
    }
    if let Some(rendered) = tool("groff", &["-man", "-Tascii", "-P-c", "-rLL=140n", "man/timburn-train.1"], folder.path()) {
        let text = stdout(&rendered);
        let plain: String = text.split('\u{8}').collect();
        assert!(plain.contains("timburn train --resume runs/flowers                goes on, bit for bit"), "columns stay columns\n{plain}");
    }
    assert_eq!(stdout(&timburn(&["man"], folder.path())), std::fs::read_to_string(folder.path().join("man/timburn.1")).expect("a page"));
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let folder = folder();
    for arguments in ["--help", "completions bash", "man", "models", "train --list", "doctor", "data inspect --help"] {
        let line = format!("set -o pipefail; '{}' {arguments} | true", env!("CARGO_BIN_EXE_timburn"));
        let Some(output) = tool("bash", &["-c", &line], folder.path()) else { return };
        assert!(output.status.success() && output.stderr.is_empty(), "{arguments}: {} {}", output.status, stderr(&output));
    }
}
