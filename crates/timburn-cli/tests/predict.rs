//! The built binary, as a person or a script runs it.
#![allow(clippy::expect_used, reason = "helpers of tests")]

use std::path::Path;
use std::process::{Command, Output};

const SAMPLE: &[u8] = include_bytes!("../../timburn-data/assets/chelsea.jpg");

/// Runs the binary without network and with an empty cache.
fn timburn(arguments: &[&str], folder: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_timburn"))
        .args(arguments)
        .current_dir(folder)
        .env("HF_HUB_CACHE", folder.join("cache"))
        .env("TORCH_HOME", folder.join("torch"))
        .env("HF_HUB_OFFLINE", "1")
        .output()
        .expect("the binary runs")
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("UTF-8")
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("UTF-8")
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

#[test]
fn without_arguments_the_embedded_photograph_is_a_cat() {
    let output = timburn(&["predict"], folder().path());
    assert!(output.status.success(), "{}", stderr(&output));
    let text = stdout(&output);
    assert_eq!(text.lines().count(), 6, "{text}");
    assert!(text.lines().nth(1).expect("a first guess").contains("Egyptian cat") || text.contains("tabby"), "{text}");
    assert!(output.stderr.is_empty(), "nothing but results off a terminal: {}", stderr(&output));
}

#[test]
fn a_reduced_precision_finds_the_cat_too() {
    let output = timburn(&["predict", "--precision", "bf16"], folder().path());
    assert!(output.status.success(), "{}", stderr(&output));
    let text = stdout(&output);
    assert!(
        text.lines().nth(1).is_some_and(|first| ["tiger cat", "Egyptian cat", "tabby"].iter().any(|cat| first.contains(cat))),
        "{text}"
    );
    // A processor that cannot says so, and answers all the same.
    assert!(output.stderr.is_empty() || stderr(&output).contains("computing in f32"), "{}", stderr(&output));

    let output = timburn(&["predict", "--precision", "int3"], folder().path());
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("f32 or bf16 or int8"), "{}", stderr(&output));
}

#[test]
fn eight_bits_need_ranges_and_find_the_cat_with_them() {
    let folder = folder();
    let output = timburn(&["predict", "--precision", "int8"], folder.path());
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("timburn export MODEL --int8 --calibrate FOLDER"), "{}", stderr(&output));

    std::fs::create_dir(folder.path().join("cats")).expect("a folder");
    std::fs::write(folder.path().join("cats/chelsea.jpg"), SAMPLE).expect("written");
    let arguments = ["export", "efficientnet_lite0", "--dtype", "f16", "--int8", "--calibrate", "cats", "-o", "int8.timburn"];
    let output = timburn(&arguments, folder.path());
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stdout(&output).contains("ranges of 51 activations on 1 picture"), "{}", stdout(&output));
    let output = timburn(&["predict", "--weights", "int8.timburn", "--precision", "int8"], folder.path());
    assert!(output.status.success(), "{}", stderr(&output));
    let text = stdout(&output);
    assert!(
        text.lines().nth(1).is_some_and(|first| ["tiger cat", "Egyptian cat", "tabby"].iter().any(|cat| first.contains(cat))),
        "{text}"
    );

    // A file that is no picture is left out and named.
    std::fs::write(folder.path().join("cats/broken.jpg"), &SAMPLE[..SAMPLE.len() / 3]).expect("written");
    let output = timburn(&[&arguments[..], &["--json"]].concat(), folder.path());
    assert!(output.status.success() && stderr(&output).contains("broken.jpg"), "{}", stderr(&output));
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(told["calibration"], serde_json::json!({ "pictures": 1, "left_out": 1, "ranges": 51 }));

    // What was changed by hand is refused, by the file's name, whatever is computed in.
    let mut bytes = std::fs::read(folder.path().join("int8.timburn")).expect("there");
    let place = bytes.windows(13).position(|window| window == b"\\\"images\\\":[-").expect("the images' range");
    bytes[place + 12] = b'9';
    std::fs::write(folder.path().join("changed.timburn"), bytes).expect("written");
    for precision in ["int8", "f32"] {
        let output = timburn(&["predict", "--weights", "changed.timburn", "--precision", precision], folder.path());
        assert_eq!(output.status.code(), Some(4), "{}", stderr(&output));
        assert!(stderr(&output).contains("changed.timburn") && stderr(&output).contains("images"), "{}", stderr(&output));
    }

    // What cannot be is said before anything is written.
    std::fs::create_dir(folder.path().join("empty")).expect("a folder");
    let cases: [(&[&str], &str); 8] = [
        (&["--int8", "--calibrate", "empty", "-o", "x.timburn"], "--calibrate = empty: expected a folder with pictures"),
        (&["--int8", "--calibrate", "cats", "--images", "0", "-o", "x.timburn"], "0 is not in"),
        (&["--int8", "--calibrate", "cats", "-o", "x.onnx"], "an --output that ends in .timburn"),
        (&["--int8", "--calibrate", "cats", "-o", "none/x.timburn"], "a folder that is there: none"),
        (&["--int8", "-o", "x.timburn"], "--calibrate"),
        (&["--calibrate", "cats", "-o", "x.timburn"], "--int8"),
        (&["--int8", "--calibrate", "cats", "-o", "x.safetensors"], "an --output that ends in .timburn"),
        (&["--int8", "--calibrate", "dogs", "-o", "x.timburn"], "--calibrate = dogs: expected a folder of pictures"),
    ];
    for (options, words) in cases {
        let output = timburn(&[&["export", "efficientnet_lite0"], options].concat(), folder.path());
        assert_eq!(output.status.code(), Some(2), "{options:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(words), "{options:?}: {}", stderr(&output));
    }
    assert!(!folder.path().join("x.timburn").exists() && !folder.path().join("x.safetensors").exists());
}

#[test]
fn a_folder_is_classified_in_order_and_a_bad_file_spoils_nothing() {
    let folder = folder();
    let pictures = folder.path().join("pictures");
    std::fs::create_dir_all(pictures.join("more")).expect("a folder");
    std::fs::write(pictures.join("b.jpg"), SAMPLE).expect("writes");
    std::fs::write(pictures.join("more/c.JPEG"), SAMPLE).expect("writes");
    std::fs::write(pictures.join("a.jpg"), &SAMPLE[..SAMPLE.len() / 2]).expect("writes");
    std::fs::write(pictures.join("notes.txt"), "no picture").expect("writes");
    let output = timburn(&["predict", "pictures", "--json", "--top", "2", "--batch", "2"], folder.path());
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
    assert!(stderr(&output).contains("a.jpg: truncated JPEG"), "{}", stderr(&output));
    let answers: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let files: Vec<&str> = answers.as_array().expect("a list").iter().map(|answer| answer["file"].as_str().expect("a file")).collect();
    assert_eq!(files, ["pictures/a.jpg", "pictures/b.jpg", "pictures/more/c.JPEG"]);
    assert!(answers[0]["error"].is_string());
    let guesses = answers[1]["predictions"].as_array().expect("guesses");
    assert_eq!(guesses.len(), 2);
    assert!(guesses[0]["score"].as_f64() > guesses[1]["score"].as_f64());
    assert_eq!(answers[1]["predictions"], answers[2]["predictions"]);
}

#[test]
fn errors_say_what_to_do_and_have_their_exit_codes() {
    let folder = folder();
    std::fs::write(folder.path().join("cat.jpg"), SAMPLE).expect("writes");
    std::fs::write(folder.path().join("garbage.pth"), [7; 100]).expect("writes");
    std::fs::create_dir(folder.path().join("empty")).expect("a folder");
    for (arguments, code, words) in [
        (&["predict", "cat.jpg", "--device", "cuda:0"][..], 2, "--features cuda"),
        (&["predict", "cat.jpg", "--device", "flx"], 2, "did you mean `flex`"),
        (&["predict", "missing.jpg"], 3, "missing.jpg"),
        (&["predict", "empty"], 2, "a folder with pictures"),
        (&["predict", "cat.jpg", "--model", "resnet5"], 4, "did you mean `resnet50"),
        (&["predict", "cat.jpg", "--model", "resnet50"], 4, "put it at"),
        (&["predict", "cat.jpg", "--model", "resnet18", "--weights", "garbage.pth"], 4, "garbage.pth"),
        (&["predict", "cat.jpg", "--weights", "missing.timburn"], 4, "missing.timburn"),
        (&["predict", "--nonsense"], 2, "--nonsense"),
    ] {
        let output = timburn(arguments, folder.path());
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(words), "{arguments:?}: {}", stderr(&output));
        assert!(output.stdout.is_empty(), "{arguments:?}: {}", stdout(&output));
    }
}

#[test]
fn models_lists_architectures_and_weights() {
    let output = timburn(&["models", "resnet50", "--json"], folder().path());
    assert!(output.status.success(), "{}", stderr(&output));
    let models: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let row = models.as_array().expect("a list").iter().find(|row| row["name"] == "resnet50").expect("resnet50");
    assert_eq!(row["parameters"], 25_557_032);
    assert!(row["weights"].as_array().expect("weights").iter().any(|weights| weights["name"] == "resnet50.tv2_in1k"));
    assert_eq!(timburn(&["models", "nothing-like-it"], folder().path()).status.code(), Some(2));
}

#[test]
fn a_closed_pipe_is_not_an_error() {
    let folder = folder();
    let mut child = Command::new(env!("CARGO_BIN_EXE_timburn"))
        .args(["models"])
        .current_dir(folder.path())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("the binary runs");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("ends");
    assert!(output.status.success() && output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Header of a PNG that claims 65535 × 65535 pixels: 12 GiB as RGB.
fn png_bomb() -> Vec<u8> {
    let mut bytes = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\xff\xff\0\0\xff\xff\x08\x02\0\0\0".to_vec();
    bytes.extend([0x6c, 0x4b, 0x5d, 0x17]);
    bytes
}

#[test]
#[cfg(unix)]
fn bombs_are_refused_in_little_memory() {
    let folder = folder();
    std::fs::write(folder.path().join("bomb.png"), png_bomb()).expect("writes");
    // A safetensors header that claims a terabyte.
    std::fs::write(folder.path().join("bomb.safetensors"), [&(1u64 << 40).to_le_bytes()[..], b"{}"].concat()).expect("writes");
    for (arguments, code, words) in
        [("predict bomb.png", 3, "bomb.png"), ("predict --model resnet18 --weights bomb.safetensors", 4, "bomb.safetensors")]
    {
        // 1.5 GiB of address space: the program, its network and nothing like 12 GiB.
        let command = format!("ulimit -v 1500000; exec '{}' {arguments}", env!("CARGO_BIN_EXE_timburn"));
        let output = Command::new("sh").args(["-c", &command]).current_dir(folder.path()).output().expect("sh runs");
        assert_eq!(output.status.code(), Some(code), "{arguments}: {}", stderr(&output));
        assert!(stderr(&output).contains(words), "{arguments}: {}", stderr(&output));
    }
}
