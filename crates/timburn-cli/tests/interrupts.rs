//! Ctrl-C at every verb that works for longer than a moment: it ends soon, with its exit code, and leaves nothing half done.
#![cfg(unix)]
#![allow(clippy::expect_used, reason = "helpers of tests")]

mod common;

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::{command, folder, stderr, stdout, timburn};
use serde_json::Value;
use timburn_core::preprocessing::Interpolation;
use timburn_data::{Region, resize_region};

/// How soon a first signal must be heard, on a machine that has other work too.
const SOON: Duration = Duration::from_secs(4);

/// Class folders of crops of the CC0 photograph.
fn crops(folder: &Path, classes: usize, count: usize, side: usize) -> &'static str {
    let photograph = include_bytes!("../../timburn-data/assets/chelsea.jpg");
    let picture = timburn_data::decode_bytes(photograph, "chelsea", &Default::default()).expect("decodes");
    for class in 0..classes {
        let path = folder.join(format!("crops/class {class}"));
        fs::create_dir_all(&path).expect("a folder");
        for index in 0..count {
            let region = Region {
                left: (7 * index) % (picture.width - side),
                top: (11 * class) % (picture.height - side),
                width: side,
                height: side,
            };
            let crop = resize_region(&picture, picture.width, picture.height, Interpolation::Bilinear, region);
            timburn_data::picture::write_png(&crop, path.join(format!("{index}.png"))).expect("writes");
        }
    }
    "crops"
}

fn signal(child: &Child, name: &str) {
    Command::new("kill").args([&format!("-{name}"), &child.id().to_string()]).status().expect("kill");
}

/// Sends the signal, and waits for the end: exit code, and that it came soon.
fn ended(child: &mut Child, name: &str) -> Option<i32> {
    let started = Instant::now();
    signal(child, name);
    let status = child.wait().expect("it ends");
    assert!(started.elapsed() < SOON, "{:?}", started.elapsed());
    status.code()
}

fn wait_for(what: &str, ready: impl Fn() -> bool) {
    let started = Instant::now();
    while !ready() {
        assert!(started.elapsed() < Duration::from_secs(120), "{what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Reads events until the one of this kind.
fn until(child: &mut Child, kind: &str) {
    let mut lines = BufReader::new(child.stdout.as_mut().expect("a pipe")).lines();
    let found = lines.any(|line| serde_json::from_str::<Value>(&line.expect("a line")).expect("JSON")["event"] == kind);
    assert!(found, "no event {kind}");
}

fn no_half_files(path: &Path) {
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        assert!(!name.ends_with(".incomplete") && !name.ends_with(".partial"), "{}", entry.path().display());
        if entry.path().is_dir() {
            no_half_files(&entry.path());
        }
    }
}

/// Many views of small pictures: the features take a second or two, the head afterwards as long.
const FINETUNE: [&str; 7] = ["finetune", "crops", "--model", "resnet20.cifar10", "--views", "48", "--events"];

#[test]
fn fine_tuning_stops_in_the_features_the_probe_and_the_head() {
    let folder = folder();
    crops(folder.path(), 16, 12, 32);
    let phases = [
        ("features", "linear", "INT", 130),
        ("baselines", "linear", "INT", 130),
        ("baselines", "512", "TERM", 143),
        ("head", "4096", "INT", 130),
    ];
    for (number, (phase, head, name, code)) in phases.into_iter().enumerate() {
        let output = format!("out-{number}");
        let arguments = [&FINETUNE[..], &["--head", head, "--epochs", "300", "-o", &output]].concat();
        let mut child = command(&arguments, folder.path()).stdout(Stdio::piped()).spawn().expect("the binary runs");
        until(&mut child, phase);
        assert_eq!(ended(&mut child, name), Some(code), "{phase} {head}");
        let run = folder.path().join(&output);
        no_half_files(folder.path());
        // Nothing, or a model that predicts.
        if run.exists() {
            let predicted = timburn(&["predict", "--weights", &format!("{output}/model.timburn")], folder.path());
            assert!(predicted.status.success(), "{phase} {head}: {}", stderr(&predicted));
            assert!(phase == "head" || head == "linear", "{phase} {head}: before a head there is nothing to keep");
        }
    }
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let folder = folder();
    crops(folder.path(), 2, 12, 32);
    let arguments = [&FINETUNE[..], &["--epochs", "500", "--batch", "4", "-o", "out"]].concat();
    let mut child = command(&arguments, folder.path()).stdout(Stdio::piped()).spawn().expect("the binary runs");
    until(&mut child, "body");
    signal(&child, "INT");
    signal(&child, "INT");
    assert_eq!(child.wait().expect("it ends").code(), Some(130));
}

#[test]
fn a_demo_takes_its_pictures_away_again() {
    let folder = folder();
    let mut child =
        command(&["demo", "--minutes", "5", "--quiet", "-o", "d"], folder.path()).stdout(Stdio::null()).spawn().expect("the binary runs");
    wait_for("no run began", || folder.path().join("d/run/recipe.toml").is_file());
    assert!(folder.path().join("d/fashion-mnist").is_dir());
    assert_eq!(ended(&mut child, "INT"), Some(130));
    assert!(!folder.path().join("d/fashion-mnist").exists(), "the pictures are still there");
    assert!(!folder.path().join("d").exists() || folder.path().join("d/run/model.timburn").is_file());
}

#[test]
fn predictions_end_as_a_whole_list() {
    let folder = folder();
    crops(folder.path(), 2, 150, 64);
    let mut child = command(&["predict", "crops", "--json", "--batch", "1", "--quiet"], folder.path())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    let mut pipe = BufReader::new(child.stdout.take().expect("a pipe"));
    let mut text = String::new();
    (0..3).for_each(|_| assert!(pipe.read_line(&mut text).expect("a line") > 0));
    let code = ended(&mut child, "INT");
    pipe.read_to_string(&mut text).expect("the rest");
    let answers: Value = serde_json::from_str(&text).expect("a whole list");
    let count = answers.as_array().expect("a list").len();
    assert_eq!(code, Some(130));
    assert!((2..300).contains(&count), "{count}");
}

/// Verbs that keep nothing when they are stopped. What they are at cannot be seen from outside: the signal comes when they have most likely
/// begun; before that it ends them as it ends any process.
#[test]
fn what_was_not_finished_leaves_nothing() {
    let folder = folder();
    crops(folder.path(), 2, 200, 64);
    fs::write(folder.path().join("map.csv"), "0-499,class 0\n500-999,class 1\n").expect("writes");
    let verbs = [
        "eval efficientnet_lite0 crops --map map.csv --batch 1 --json -o out",
        "compare efficientnet_lite0 efficientnet_lite0 crops --map map.csv --batch 1 --json -o out",
        "find-lr cifar10-resnet20 --data crops --set data.validation=0.1 --steps 100000 --set train.batch_size=64 --json -o curve",
    ];
    for line in verbs {
        let arguments: Vec<&str> = line.split(' ').collect();
        let mut child = command(&arguments, folder.path()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("the binary runs");
        std::thread::sleep(Duration::from_millis(900));
        let started = Instant::now();
        signal(&child, "TERM");
        let status = child.wait().expect("it ends");
        assert!(started.elapsed() < SOON, "{line}: {:?}", started.elapsed());
        assert!(status.code() == Some(143) || status.signal() == Some(15), "{line}: {status}");
        let mut text = String::new();
        child.stdout.take().expect("a pipe").read_to_string(&mut text).expect("nothing");
        assert_eq!(text, "", "{line}");
        for name in ["out", "curve.png", "curve.svg", "runs"] {
            assert!(!folder.path().join(name).exists(), "{line}: {name}");
        }
    }
}

#[test]
fn packing_leaves_no_part_and_removes_what_a_kill_left() {
    let folder = folder();
    crops(folder.path(), 2, 300, 200);
    let parts = || -> Vec<String> {
        let entries = fs::read_dir(folder.path().join("packed")).into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    };
    let start = || {
        let child =
            command(&["data", "pack", "crops", "packed", "--quiet"], folder.path()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
        let child = child.expect("the binary runs");
        wait_for("nothing is written", || parts().iter().any(|name| name.ends_with(".partial")));
        child
    };
    let mut child = start();
    assert_eq!(ended(&mut child, "INT"), Some(130));
    assert!(parts().is_empty(), "{:?}", parts());

    let mut child = start();
    child.kill().expect("kill -9");
    child.wait().expect("it is dead");
    assert_eq!(parts().len(), 1, "what a kill leaves");
    let again = timburn(&["data", "pack", "crops", "packed"], folder.path());
    assert!(again.status.success(), "{}", stderr(&again));
    assert!(stderr(&again).contains("an interrupted packing left this"), "{}", stderr(&again));
    assert_eq!(parts(), ["train.pack"]);
    assert!(stdout(&again).contains("600 pictures"), "{}", stdout(&again));
}
