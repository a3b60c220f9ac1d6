//! Help texts are part of the interface: a change must be seen.
#![allow(clippy::expect_used, reason = "helpers of tests")]

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
    assert!(help("models").contains("Examples:"));
}
