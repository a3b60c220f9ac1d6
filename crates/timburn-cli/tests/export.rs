//! `timburn export` to ONNX; bundles and safetensors are exported by the stories of other tests.
#![allow(clippy::expect_used, reason = "helpers of tests")]

mod common;

use common::{folder, stderr, stdout, timburn};

#[test]
fn a_model_becomes_an_onnx_file() {
    let folder = folder();
    let run = timburn(&["export", "resnet20", "-o", "plain.onnx"], folder.path());
    assert!(run.status.success(), "{}", stderr(&run));
    let text = stdout(&run);
    assert!(text.starts_with("plain.onnx  1.1 MB, images f32 [batch, 3, 32, 32] -> logits f32 [batch, 10], opset 17"), "{text}");
    let bytes = std::fs::read(folder.path().join("plain.onnx")).expect("a file");
    // IR version 8, producer.
    assert!(bytes.starts_with(b"\x08\x08\x12\x07timburn"));
    for words in ["timburn.classes", "airplane", "timburn.preprocessing", "timburn.card"] {
        assert!(bytes.windows(words.len()).any(|window| window == words.as_bytes()), "{words}");
    }

    let options = ["--include-preprocessing", "--softmax", "--dtype", "f16", "--size", "48"];
    let run = timburn(&[&["export", "resnet20", "-o", "all.onnx"], &options[..]].concat(), folder.path());
    assert!(run.status.success(), "{}", stderr(&run));
    let text = stdout(&run);
    assert!(text.starts_with("all.onnx  0.6 MB, images u8 [batch, 48, 48, 3] -> probabilities f32 [batch, 10], opset 17"), "{text}");
}

#[test]
fn what_cannot_be_exported_is_a_usage_error_without_a_file() {
    let folder = folder();
    let cases: [(&[&str], &str); 5] = [
        (&["-o", "x.pt"], "--output = x.pt: expected a name that ends in .timburn, .safetensors or .onnx"),
        (&["-o", "x.onnx", "--dtype", "bf16"], "precision = bf16: expected f32 or f16 for ONNX"),
        (&["-o", "x.onnx", "--size", "0"], "size = 0x0: expected 1 to 4096"),
        (&["-o", "x.safetensors", "--softmax"], "--softmax = with x.safetensors: expected an --output that ends in .onnx"),
        (&["-o", "x.timburn", "--size", "64"], "--size = with x.timburn"),
    ];
    for (options, words) in cases {
        let run = timburn(&[&["export", "resnet20"], options].concat(), folder.path());
        assert_eq!(run.status.code(), Some(2), "{options:?}: {}", stderr(&run));
        assert!(stderr(&run).contains(words), "{options:?}: {}", stderr(&run));
    }
    assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 0);
}
