//! The whole way, as a person goes it with the built binary: look at the data, find a rate, train, be interrupted, go on, score, predict,
//! export, serve.
#![cfg(all(unix, feature = "serve"))]
#![allow(clippy::expect_used, clippy::panic, dead_code, reason = "helpers of tests")]

#[path = "serve/client.rs"]
mod client;
mod common;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use client::Server;
use common::{cifar, command, folder, stderr, timburn};
use serde_json::Value;

/// Runs a verb with `--json` and nothing on stderr; its one value.
fn value(line: &str, folder: &Path) -> Value {
    let arguments: Vec<&str> = line.split(' ').chain(["--json"]).collect();
    let output = timburn(&arguments, folder);
    assert!(output.status.success() && output.stderr.is_empty(), "{line}: {}", stderr(&output));
    serde_json::from_slice(&output.stdout).expect("one value and nothing else")
}

#[test]
fn from_a_folder_of_pictures_to_a_served_model() {
    let folder = folder();
    let path = folder.path();
    let Some(data) = cifar(path, 30, 10) else { return };
    fs::rename(&data, path.join("pictures")).expect("renames");

    let found = value("data inspect pictures", path);
    assert_eq!((&found["train"]["samples"], &found["test"]["samples"]), (&300.into(), &100.into()));
    assert_eq!(found["train"]["classes"].as_array().expect("classes").len(), 10);

    let set = "--set train.batch_size=30";
    let plan = value(&format!("find-lr cifar10-resnet20 --data pictures {set} --steps 60 --dry-run"), path);
    assert_eq!((&plan["dry_run"], &plan["training"]), (&true.into(), &300.into()));
    let rate = value(&format!("find-lr cifar10-resnet20 --data pictures {set} --steps 60"), path)["valley"].as_f64().expect("a suggestion");
    assert!(rate > 1e-6 && rate < 10.0 && path.join("lr-finder.png").is_file());

    // A suggestion for this little data may be wild; a person would look at the curve.
    let rate = rate.clamp(0.01, 0.2);
    let train =
        format!("train cifar10-resnet20 --data pictures {set} --set train.lr={rate} --set train.epochs=4 --set checkpoints.every_steps=3");
    let plan = value(&format!("{train} -o run --dry-run"), path);
    assert!(plan["dry_run"] == true && plan["training"] == 300 && !path.join("run").exists());
    let arguments: Vec<&str> = train.split(' ').chain(["-o", "run", "--json"]).collect();
    let child = command(&arguments, path).stdout(std::process::Stdio::piped()).spawn().expect("the binary runs");
    let started = Instant::now();
    while fs::read_to_string(path.join("run/metrics.jsonl")).unwrap_or_default().lines().count() < 4 {
        assert!(started.elapsed() < Duration::from_secs(60), "no step was made");
        std::thread::sleep(Duration::from_millis(5));
    }
    Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("kill");
    let output = child.wait_with_output().expect("it ends");
    let outcome: Value = serde_json::from_slice(&output.stdout).expect("one value");
    assert_eq!(
        (output.status.code(), &outcome["ending"], &outcome["resume"]),
        (Some(130), &"interrupted".into(), &"timburn train --resume run".into())
    );
    let stopped = outcome["step"].as_u64().expect("a step");
    assert!((4..40).contains(&stopped), "{stopped}");

    let outcome = value("train --resume run", path);
    assert_eq!((&outcome["ending"], &outcome["step"], &outcome["run"]), (&"finished".into(), &40.into(), &"run".into()));
    assert_eq!((&outcome["model"], &outcome["report"]), (&"run/model.timburn".into(), &"run/report.html".into()));
    assert!(path.join("run/model.timburn").is_file() && path.join("run/report.html").is_file());
    let trained = outcome["score"]["top1"].as_f64().expect("a score");

    let score = value("eval run/model.timburn pictures --no-report", path);
    assert_eq!((&score["part"], &score["score"]["samples"]), (&"test set".into(), &100.into()));
    assert!((score["score"]["top1"].as_f64().expect("a score") - trained).abs() < 1e-9, "{score} {trained}");
    let plan = value("eval run/model.timburn pictures --dry-run -o scored", path);
    assert!(plan["models"][0]["estimated_seconds"].as_f64().expect("a time") > 0.0 && !path.join("scored").exists());

    let ship = fs::read_dir(path.join("pictures/test/ship")).expect("ships").next().expect("a ship").expect("an entry").path();
    let ship = ship.strip_prefix(path).expect("below").to_str().expect("UTF-8").to_owned();
    let guesses = |weights: &str| value(&format!("predict {ship} --top 10 {weights}"), path)[0]["predictions"].clone();
    let expected = guesses("--weights run/model.timburn");
    let sum: f64 = expected.as_array().expect("guesses").iter().map(|guess| guess["score"].as_f64().expect("a score")).sum();
    assert!((sum - 1.0).abs() < 1e-4, "{sum}");

    // What is exported says the same: to the bit as a bundle, by class index without class names.
    let whole = value("export run/model.timburn -o exported.timburn", path);
    assert_eq!(whole["bytes"], fs::metadata(path.join("exported.timburn")).expect("a file").len());
    assert_eq!(guesses("--weights exported.timburn"), expected);
    value("export run/model.timburn -o exported.safetensors", path);
    let plain = guesses("--model resnet20 --weights exported.safetensors");
    let best = |guesses: &Value| (guesses[0]["index"].clone(), guesses[0]["score"].clone());
    assert_eq!(best(&plain), best(&expected));
    let half = value("export run/model.timburn -o half.timburn --dtype f16", path);
    assert!(half["bytes"].as_u64() < whole["bytes"].as_u64());
    let onnx = value("export run/model.timburn -o exported.onnx", path);
    assert_eq!(onnx["bytes"], fs::metadata(path.join("exported.onnx")).expect("a file").len());

    // A visitor of the served model reads what `predict` says.
    let bundle = path.join("exported.timburn");
    let mut server = Server::start(&[bundle.to_str().expect("UTF-8")]);
    let picture = fs::read(path.join(&ship)).expect("a picture");
    let answer = server.post("/api/classify?top_k=1", "image/jpeg", &picture);
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.json()[0]["label"], expected[0]["label"]);
    server.signal("TERM");
    assert_eq!(server.wait(Duration::from_secs(30)), Some(143));
    assert!(started.elapsed() < Duration::from_secs(120), "{:?}", started.elapsed());
}
