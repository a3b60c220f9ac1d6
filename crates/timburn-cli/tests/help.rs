//! Help texts are part of the interface: a change must be seen.
#![allow(clippy::expect_used, clippy::panic, reason = "helpers of tests")]

use std::process::Command;

#[test]
fn help_has_examples_and_every_option() {
    let help = |verb: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_timburn")).args([verb, "--help"]).env("COLUMNS", "100").output().expect("runs");
        assert!(output.status.success(), "{verb}");
        String::from_utf8(output.stdout).expect("UTF-8")
    };
    let predict = help("predict");
    for words in ["Examples:", "timburn predict dog.jpg --top 3", "--model", "--weights", "--device", "--top", "--batch", "--json"] {
        assert!(predict.contains(words), "{words} is missing in\n{predict}");
    }
    let verbs = ["models", "demo", "train", "find-lr", "finetune", "eval", "compare"];
    for verb in verbs.into_iter().chain(cfg!(feature = "serve").then_some("serve")) {
        let text = help(verb);
        let (_, examples) = text.split_once("Examples:\n").unwrap_or_else(|| panic!("{verb} has no examples\n{text}"));
        assert!(examples.lines().next().expect("a line").trim_start().starts_with(&format!("timburn {verb}")), "{text}");
        // clap wraps no text of ours.
        assert!(text.lines().all(|line| line.chars().count() <= 140), "{verb}\n{text}");
    }
}
