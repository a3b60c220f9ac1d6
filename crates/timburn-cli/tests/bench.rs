//! `timburn bench`, as a person or a script runs it; the smallest network, and no claim about speed.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "helpers of tests")]

mod common;

use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;
use std::time::{Duration, Instant};

use common::{command, folder, stderr, stdout, timburn};
use serde_json::Value;

fn json(text: &str) -> Value {
    serde_json::from_str(text).expect("JSON")
}

#[test]
fn a_cell_is_measured_told_and_drawn() {
    let folder = folder();
    let arguments = ["bench", "resnet20", "--batch", "1,8", "--seconds", "0.2", "--threads", "1", "--layers", "--json", "-o", "results"];
    let output = timburn(&arguments, folder.path());
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(output.stderr.is_empty(), "{}", stderr(&output));
    let found = json(&stdout(&output));
    assert_eq!((&found["threads"], &found["interrupted"]), (&1.into(), &false.into()));
    let cells = found["cells"].as_array().expect("cells");
    assert_eq!(cells.len(), 2);
    for (cell, batch) in cells.iter().zip([1u64, 8]) {
        assert_eq!((&cell["model"], &cell["work"], &cell["way"]), (&"resnet20".into(), &"inference".into(), &"graph".into()));
        assert_eq!((&cell["device"], &cell["opened"]), (&"auto".into(), &"flex".into()));
        assert_eq!((cell["batch"].as_u64(), cell["size"].as_u64()), (Some(batch), Some(32)));
        let number = |key: &str| cell[key].as_f64().expect("a number");
        assert!(number("n") >= 3.0 && number("min_ms") > 0.0);
        assert!(number("min_ms") <= number("median_ms") && number("median_ms") <= number("max_ms"), "{cell}");
        assert!((number("images_per_second") * number("median_ms") / 1e3 - batch as f64).abs() < 1e-6, "{cell}");
        assert!(number("warm_up_ms") >= number("first_ms") && number("setup_ms") > 0.0, "{cell}");
        if cfg!(target_os = "linux") {
            assert!(number("peak_memory") > 1e6);
        }
        // 41 million multiplications an image, and what the layers take is about what the run takes.
        let layers = cell["layers"].as_array().expect("layers");
        let operations: u64 = layers.iter().filter_map(|layer| layer["operations"].as_u64()).sum();
        assert!((75..90).contains(&(operations / 1_000_000 / batch)), "{operations}");
        let time: f64 = layers.iter().filter_map(|layer| layer["milliseconds"].as_f64()).sum();
        assert!(time > 0.0 && time < 3.0 * number("median_ms"), "{time} {cell}");
    }
    let saved = std::fs::read_to_string(folder.path().join("results/bench.json")).expect("bench.json");
    assert_eq!(json(&saved), found);
    let svg = std::fs::read_to_string(folder.path().join("results/bench.svg")).expect("bench.svg");
    assert!(svg.contains("resnet20 1x32x32") && svg.contains("resnet20 8x32x32"), "{svg}");
    assert!(std::fs::read(folder.path().join("results/bench.png")).expect("bench.png").starts_with(b"\x89PNG"));
}

#[test]
fn training_steps_and_modules_are_measured_too() {
    let folder = folder();
    let output = timburn(&["bench", "resnet20", "--train", "--batch", "4", "--seconds", "0"], folder.path());
    assert!(output.status.success(), "{}", stderr(&output));
    let text = stdout(&output);
    let row = text.lines().nth(2).expect("a row");
    assert!(row.contains("training") && row.contains("4x3x32x32") && row.contains("modules") && row.contains("MB"), "{text}");
    // All of a step's time, of which the three passes of the convolutions are a part: 41 million multiplications each, but for the stem's input.
    let arguments = ["bench", "resnet20", "--train", "--batch", "4", "--seconds", "0", "--layers"];
    let text = stdout(&timburn(&arguments, folder.path()));
    assert!(text.contains("of peak") && text.contains("convolution 3x3, weight gradient"), "{text}");
    let found = json(&stdout(&timburn(&[&arguments[..], &["--json"]].concat(), folder.path())));
    let cell = &found["cells"][0];
    let parts = cell["layers"].as_array().expect("parts");
    let part = |name: &str| parts.iter().find(|part| part["name"] == name).unwrap_or_else(|| panic!("no {name}: {cell}"));
    let operations: u64 = parts.iter().filter_map(|part| part["operations"].as_u64()).sum();
    assert!((230..260).contains(&(operations / 4_000_000)), "{operations}");
    for name in ["convolution 3x3 stem, forward", "convolution 3x3, input gradient", "batch norm, backward", "head and loss", "update"] {
        assert!(part(name)["milliseconds"].as_f64().expect("a time") > 0.0, "{name}");
    }
    assert!(part("batch norm, forward")["bytes"].as_u64().expect("bytes") > 0);
    assert!(cell["peak_gflops"].as_f64().expect("a rate") > 0.01, "{cell}");
    let time: f64 = parts.iter().filter_map(|part| part["milliseconds"].as_f64()).sum();
    assert!(time > 0.0 && time < 5.0 * cell["median_ms"].as_f64().expect("a time"), "{time} {cell}");
    let output = timburn(&["bench", "resnet20", "--batch", "2", "--seconds", "0", "--modules", "--json"], folder.path());
    assert_eq!(json(&stdout(&output))["cells"][0]["way"], "modules", "{}", stderr(&output));
}

#[test]
fn a_device_that_does_not_open_is_a_row() {
    let folder = folder();
    let arguments = ["bench", "resnet20", "--batch", "1", "--device", "flex:7", "--device", "flex", "--seconds", "0"];
    let output = timburn(&arguments, folder.path());
    assert!(output.status.success(), "one was measured: {}", stderr(&output));
    let text = stdout(&output);
    assert!(text.lines().any(|line| line.contains("flex:7") && line.contains("does not exist")), "{text}");
    assert!(text.lines().any(|line| line.contains("flex ") && line.contains(" MB")), "{text}");
    let output = timburn(&["bench", "resnet20", "--batch", "1", "--device", "flex:7", "--json"], folder.path());
    assert_eq!(output.status.code(), Some(1), "none was measured");
    assert!(json(&stdout(&output))["cells"][0]["error"].as_str().expect("an error").contains("does not exist"));
}

#[test]
fn the_backends_are_compared() {
    let folder = folder();
    let output = timburn(&["bench", "resnet20", "--compare-backends", "--batch", "1", "--seconds", "0"], folder.path());
    assert!(output.status.success(), "{}", stderr(&output));
    let text = stdout(&output);
    assert!(text.lines().last().expect("a line").starts_with("On this machine use --device "), "{text}");
}

#[test]
fn a_dry_run_lists_the_cells() {
    let folder = folder();
    let output = timburn(&["bench", "--dry-run"], folder.path());
    let text = stdout(&output);
    let cells: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    let cell = |model, images| vec![model, "inference", images, "f32", "auto"];
    let lite = "efficientnet_lite0";
    assert_eq!(
        cells,
        [cell(lite, "1x3x224x224"), cell(lite, "8x3x224x224"), cell("resnet50", "1x3x224x224"), cell("resnet50", "8x3x224x224")]
    );
    let output = timburn(&["bench", "resnet20", "tf_efficientnet_lite0", "--train", "--dry-run", "--json"], folder.path());
    let found = json(&stdout(&output));
    let batches: Vec<_> = found["cells"].as_array().expect("cells").iter().map(|cell| cell["batch"].as_u64()).collect();
    assert_eq!(batches, [Some(128), Some(8)]);
    assert_eq!(found["cells"][1]["model"], lite);
}

#[test]
fn what_cannot_be_is_refused_before_anything_is_measured() {
    let folder = folder();
    for (arguments, words) in [
        (&["bench", "--device", "flx"][..], "did you mean `flex`"),
        (&["bench", "resnet5"], "did you mean `resnet50"),
        (&["bench", "--device", "flex", "--compare-backends"], "cannot be used with"),
        (&["bench", "--layers", "--modules"], "cannot be used with"),
        (&["bench", "--batch", "0"], "0 is not in"),
        (&["bench", "--seconds=-1"], "expected seconds"),
        (&["bench", "--precision", "fp8"], "f32, bf16, f16, int8"),
        (&["bench", "resnet20", "--train", "--precision", "int8", "--dry-run"], "f32, bf16 or f16"),
        (&["bench", "resnet20", "--modules", "--precision", "int8"], "f32, bf16 or f16"),
    ] {
        let output = timburn(arguments, folder.path());
        assert_eq!(output.status.code(), Some(2), "{arguments:?} {}", stdout(&output));
        assert!(stderr(&output).contains(words), "{arguments:?}: {}", stderr(&output));
        assert!(output.stdout.is_empty(), "{arguments:?}");
    }
    // What only the measuring process can know.
    let output = timburn(&["bench", "resnet20", "--stem", "small", "--batch", "1"], folder.path());
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(stdout(&output).contains("four stages"), "{}", stdout(&output));
}

#[test]
fn peers_take_turns_with_it() {
    let folder = folder();
    let mut command = command(&["bench", "resnet20", "--turns", "--batch", "1"], folder.path());
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("runs");
    let mut stdin = child.stdin.take().expect("stdin");
    let mut lines = BufReader::new(child.stdout.take().expect("stdout")).lines();
    let mut next = || json(&lines.next().expect("a line").expect("UTF-8"));
    assert_eq!(next()["ready"], true);
    for _ in 0..2 {
        writeln!(stdin, "measure 0").expect("writes");
        assert_eq!(next()["milliseconds"].as_array().expect("times").len(), 3);
    }
    drop(stdin);
    assert!(child.wait().expect("ends").success());
}

#[cfg(unix)]
#[test]
fn ctrl_c_keeps_what_was_measured() {
    let folder = folder();
    let arguments = ["bench", "resnet20", "--batch", "1,2", "--seconds", "1"];
    let begin = Instant::now();
    let mut child = command(&arguments, folder.path()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("runs");
    let mut lines = BufReader::new(child.stdout.take().expect("stdout")).lines();
    let rows: Vec<String> = lines.by_ref().take(3).map(|line| line.expect("UTF-8")).collect();
    assert!(rows[2].contains("1x3x32x32"), "{rows:?}");
    // Only this process hears it: its child must go too.
    std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("kill");
    let rest: Vec<String> = lines.map(|line| line.expect("UTF-8")).collect();
    assert_eq!(child.wait().expect("ends").code(), Some(130));
    assert_eq!(rest, ["stopped; the rest was not measured"]);
    assert!(begin.elapsed() < Duration::from_secs(60));
}
