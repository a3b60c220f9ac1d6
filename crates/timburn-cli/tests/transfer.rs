//! Transfer learning from the command line: `finetune`, `eval`, `compare`, `demo`, `find-lr`.
#![allow(clippy::expect_used, clippy::indexing_slicing, reason = "helpers of tests")]

mod common;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::{cifar, command, folder, pets, stderr, stdout, timburn};
use serde_json::Value;

/// ImageNet's cats and dogs.
const MAP: &str = "# by index\n281-285,cats\n151-268,dogs\n";

fn json_lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

fn number(value: &Value) -> f64 {
    value.as_f64().expect("a number")
}

/// Two class folders of crops of the CC0 photograph: enough where no answer counts.
fn crops(folder: &Path, classes: usize) -> &'static str {
    let photograph = include_bytes!("../../timburn-data/assets/chelsea.jpg");
    let picture = timburn_data::decode_bytes(photograph, "chelsea", &Default::default()).expect("decodes");
    for class in 0..classes {
        let path = folder.join(format!("crops/class {class}"));
        fs::create_dir_all(&path).expect("a folder");
        for index in 0..6 {
            let region = timburn_data::Region { left: 40 * class + 5 * index, top: 30 * class, width: 64, height: 64 };
            let crop = timburn_data::resize_region(
                &picture,
                picture.width,
                picture.height,
                timburn_core::preprocessing::Interpolation::Bilinear,
                region,
            );
            timburn_data::picture::write_png(&crop, path.join(format!("{index}.png"))).expect("writes");
        }
    }
    "crops"
}

#[test]
fn a_folder_becomes_a_classifier_with_evidence_that_predicts_and_is_scored() {
    let folder = folder();
    let Some(data) = pets(folder.path()) else { return };
    let data = data.to_str().expect("UTF-8");
    let run = timburn(&["finetune", data, "--head-only", "--quiet", "-o", "out", "--cache", "cache-of-features"], folder.path());
    assert!(run.status.success(), "{}", stderr(&run));
    assert!(run.stderr.is_empty(), "{}", stderr(&run));
    let text = stdout(&run);
    for words in [
        "of 16 pictures (the head alone trained)",
        "nearest neighbours",
        "out/report.html",
        "timburn predict PICTURE --weights out/model.timburn",
    ] {
        assert!(text.contains(words), "{words} is missing in\n{text}");
    }
    let out = folder.path().join("out");
    for file in ["model.timburn", "report.html", "card.md", "predictions.csv", "recipe.toml", "environment.json"] {
        assert!(fs::metadata(out.join(file)).is_ok_and(|file| file.len() > 100), "{file}");
    }
    for plot in ["confusion", "confusion_normalised", "reliability", "classes", "embedding"] {
        assert!(out.join(format!("plots/{plot}.png")).is_file() && out.join(format!("plots/{plot}.svg")).is_file(), "{plot}");
    }
    for picture in ["predictions.png", "grad_cam.png"] {
        assert!(out.join("plots").join(picture).is_file(), "{picture}");
    }
    assert_eq!(fs::read_to_string(out.join("predictions.csv")).expect("predictions").lines().count(), 17);
    let card = fs::read_to_string(out.join("card.md")).expect("a card");
    for words in ["efficientnet_lite0", "cats", "SHA-256", "16 for validation"] {
        assert!(card.contains(words), "{words} is missing in\n{card}");
    }

    let picture = fs::read_dir(Path::new(data).join("validation/dogs")).expect("dogs").next().expect("a dog").expect("an entry").path();
    let predicted = timburn(&["predict", picture.to_str().expect("UTF-8"), "--weights", "out/model.timburn", "--json"], folder.path());
    assert!(predicted.status.success(), "{}", stderr(&predicted));
    let answer: Value = serde_json::from_slice(&predicted.stdout).expect("JSON");
    assert_eq!(answer[0]["predictions"].as_array().expect("guesses").len(), 2);

    // Once more as JSON, with the features of the first run: the same to the bit.
    let again = timburn(&["finetune", data, "--head-only", "--events", "-o", "again", "--cache", "cache-of-features"], folder.path());
    assert!(again.status.success() && again.stderr.is_empty(), "{}", stderr(&again));
    let events = json_lines(&stdout(&again));
    let kinds: Vec<&str> = events.iter().map(|event| event["event"].as_str().expect("a kind")).collect();
    assert_eq!(kinds, ["features", "baselines", "head", "no_body", "outcome"]);
    let outcome = &events[4];
    assert_eq!((&events[0]["passes"], &outcome["chosen"], &outcome["interrupted"]), (&48.into(), &"head".into(), &false.into()));
    assert!(
        fs::read(out.join("model.timburn")).expect("a bundle") == fs::read(folder.path().join("again/model.timburn")).expect("a bundle")
    );
    assert_eq!(fs::read_dir(folder.path().join("cache-of-features")).expect("features").count(), 4);

    let kept: Value = serde_json::from_slice(&fs::read(out.join("result.json")).expect("a result")).expect("JSON");
    assert_eq!((&kept["best"], &kept["chosen"]), (&outcome["validation"]["top1"], &"head".into()));
    assert_eq!(kept["validation"]["confusion"].as_array().expect("a table").len(), 2);
    assert!(fs::read_to_string(out.join("recipe.toml")).expect("a recipe").contains("efficientnet_lite0.in1k, head linear"));
    // It is no run of `train`, which would begin another one in its place.
    let resumed = timburn(&["train", "--resume", "out", "--data", data], folder.path());
    assert_eq!(resumed.status.code(), Some(2), "{}", stderr(&resumed));
    assert!(stderr(&resumed).contains("`timburn finetune` began"), "{}", stderr(&resumed));

    // What a dry run promises is what is done, with few pictures of each class too.
    let few = ["finetune", data, "--head-only", "--per-class", "5", "--views", "3", "--dry-run", "--json"];
    let promised: Value = serde_json::from_slice(&timburn(&few, folder.path()).stdout).expect("JSON");
    assert_eq!((&promised["passes"], &promised["seen"], &promised["scored"]), (&46.into(), &10.into(), &16.into()));

    // One bit of one weight.
    let mut damaged = fs::read(out.join("model.timburn")).expect("a bundle");
    let place = damaged.len() / 2;
    damaged[place] ^= 0x40;
    fs::write(folder.path().join("damaged.timburn"), &damaged).expect("writes");
    for verb in [&["predict", picture.to_str().expect("UTF-8"), "--weights", "damaged.timburn"][..], &["eval", "damaged.timburn", data]] {
        let output = timburn(verb, folder.path());
        assert_eq!((output.status.code(), output.stdout.is_empty()), (Some(4), true), "{}", stderr(&output));
        assert!(stderr(&output).contains("checksum"), "{}", stderr(&output));
    }

    // What it said of itself is what it scores.
    let eval = timburn(&["eval", "out/model.timburn", data, "--json", "-o", "scored"], folder.path());
    assert!(eval.status.success() && eval.stderr.is_empty(), "{}", stderr(&eval));
    let score: Value = serde_json::from_slice(&eval.stdout).expect("JSON");
    assert_eq!((&score["part"], &score["bad"], &score["score"]["samples"]), (&"validation set".into(), &0.into(), &16.into()));
    assert_eq!(score["score"]["top1"], outcome["validation"]["top1"]);
    let (loss, own) = (number(&score["score"]["loss"]), number(&outcome["phases"][0]["loss"]));
    assert!((loss - own).abs() < 1e-4, "{loss} {own}");
    assert!(number(&score["score"]["top1"]) >= 0.9, "{score}");
    for file in ["scored/report.html", "scored/predictions.csv", "scored/plots/grad_cam.png"] {
        assert!(folder.path().join(file).is_file(), "{file}");
    }
    // The mean of two answers is another answer.
    let flipped = timburn(&["eval", "out/model.timburn", data, "--json", "--no-report", "--flip"], folder.path());
    let flipped: Value = serde_json::from_slice(&flipped.stdout).expect("JSON");
    assert_eq!((&score["flip"], &score["precision"], &flipped["flip"]), (&false.into(), &"f32".into(), &true.into()));
    let apart = (number(&flipped["score"]["loss"]) - loss).abs();
    assert!(apart > 1e-6 && apart < 0.5, "{flipped}, {loss}");
    let lines = stdout(&timburn(&["eval", "out/model.timburn", data, "--split", "train", "--no-report"], folder.path()));
    assert!(lines.starts_with("top-1 ") && lines.contains("of 32 pictures") && !lines.contains("top-5"), "{lines}");
}

#[test]
fn imagenets_classes_are_gathered_and_compared() {
    let folder = folder();
    let Some(data) = pets(folder.path()) else { return };
    let data = data.to_str().expect("UTF-8");
    fs::write(folder.path().join("map.csv"), MAP).expect("writes");
    let tuned = timburn(&["finetune", data, "--head-only", "--quiet", "--sigmoid", "-o", "out"], folder.path());
    assert!(tuned.status.success(), "{}", stderr(&tuned));

    let eval = timburn(&["eval", "efficientnet_lite0", data, "--map", "map.csv", "--json", "--no-report"], folder.path());
    assert!(eval.status.success(), "{}", stderr(&eval));
    let score: Value = serde_json::from_slice(&eval.stdout).expect("JSON");
    assert_eq!((&score["score"]["samples"], &score["report"]), (&16.into(), &Value::Null));
    assert!(number(&score["score"]["top1"]) >= 0.8, "{score}");
    assert!(!folder.path().join("runs").exists());

    let arguments = ["compare", "efficientnet_lite0", "out/model.timburn", data, "--map", "map.csv", "--json", "-o", "both"];
    let compare = timburn(&arguments, folder.path());
    assert!(compare.status.success() && compare.stderr.is_empty(), "{}", stderr(&compare));
    let value: Value = serde_json::from_slice(&compare.stdout).expect("JSON");
    let count = |name: &str| value["comparison"][name].as_u64().expect("a count");
    assert_eq!(count("both") + count("only_first") + count("only_second") + count("neither"), 16);
    assert_eq!((count("both") + count("only_first")) as f64 / 16.0, number(&value["a"]["score"]["top1"]));
    assert_eq!((count("both") + count("only_second")) as f64 / 16.0, number(&value["b"]["score"]["top1"]));
    assert_eq!(value["a"]["score"]["top1"], score["score"]["top1"], "the model alone says the same");
    assert!(number(&value["comparison"]["p_value"]) <= 1.0);
    for page in ["both/a/report.html", "both/b/report.html"] {
        assert!(folder.path().join(page).is_file(), "{page}");
    }

    // With itself there is no difference; a map may gather one logit's two classes too.
    fs::rename(Path::new(data).join("validation/cats"), Path::new(data).join("validation/felines")).expect("renames");
    fs::rename(Path::new(data).join("train/cats"), Path::new(data).join("train/felines")).expect("renames");
    fs::write(folder.path().join("map.csv"), "cats,felines\ndogs,dogs\n").expect("writes");
    let arguments = ["compare", "out/model.timburn", "out/model.timburn", data, "--map", "map.csv", "--no-report", "--quiet"];
    let compare = timburn(&arguments, folder.path());
    assert!(compare.status.success(), "{}", stderr(&compare));
    let text = stdout(&compare);
    let line = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).expect(name).trim().to_owned();
    assert_eq!((line("only A right").as_str(), line("McNemar's exact test").as_str()), ("0", "p = 1.0000"));
    assert!(text.contains("No difference"), "{text}");
    let own = (16.0 * number(&value["b"]["score"]["top1"])) as u64;
    assert!(line("A right").contains(&format!("({own} of 16)")), "{text}");
}

#[test]
fn errors_say_what_to_do_and_leave_nothing() {
    let folder = folder();
    let (two, path) = (crops(folder.path(), 2), folder.path());
    let three = folder.path().join("three");
    fs::create_dir(&three).expect("a folder");
    crops(&three, 3);
    for (name, text) in
        [("short.csv", "281\n"), ("unknown.csv", "281,birds\n"), ("range.csv", "281-1000,class 0\n"), ("part.csv", "1,class 0\n")]
    {
        fs::write(path.join(name), text).expect("writes");
    }
    fs::create_dir(path.join("occupied")).expect("a folder");
    fs::write(path.join("occupied/mine"), "").expect("writes");
    let lite0 = ["eval", "efficientnet_lite0", two];
    let before = fs::read_dir(path).expect("lists").count();
    let cases: [(Vec<&str>, i32, &str); 22] = [
        (vec!["finetune", "nowhere"], 3, "nowhere"),
        (vec!["finetune", two, "--model", "resnet5"], 4, "did you mean `resnet50`"),
        (vec!["finetune", two, "--model", "resnet50"], 4, "put it at"),
        (vec!["finetune", two, "-o", "occupied"], 2, "occupied: the folder is not empty"),
        (vec!["finetune", "three/crops", "--sigmoid"], 2, "expected two classes"),
        (vec!["finetune", two, "--head", "garbage"], 2, "widths such as 1024,512"),
        (vec!["finetune", two, "--head", "512,0"], 2, "width 0"),
        (vec!["finetune", two, "--minutes=-1"], 2, "--minutes"),
        (vec!["finetune", two, "--epochs", "2", "--head-only"], 2, "cannot be used with"),
        (vec!["finetune", two, "--validation", "0", "-o", "new"], 2, "validation"),
        (vec!["finetune", two, "--freeze", "layer9", "-o", "new"], 2, "blocks.6"),
        (vec!["finetune", two, "--lr=-1", "-o", "new"], 2, "lr"),
        (lite0.to_vec(), 2, "--map FILE"),
        ([&lite0[..], &["--map", "short.csv"]].concat(), 2, "short.csv, line 1"),
        ([&lite0[..], &["--map", "unknown.csv"]].concat(), 2, "class 0, class 1"),
        ([&lite0[..], &["--map", "range.csv"]].concat(), 2, "below 1000"),
        ([&lite0[..], &["--map", "part.csv"]].concat(), 2, "`class 1`"),
        ([&lite0[..], &["--split", "test"]].concat(), 2, "--split = test"),
        (vec!["eval", "efficientnet_lite", two], 4, "did you mean `efficientnet_lite"),
        (vec!["eval", "missing.timburn", two], 4, "missing.timburn"),
        (vec!["compare", "efficientnet_lite0", "runs/missing", two, "--map", "part.csv"], 4, "runs/missing"),
        (vec!["demo", "-o", "occupied"], 2, "new or empty"),
    ];
    for (arguments, code, words) in cases {
        let output = timburn(&arguments, path);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(words), "{arguments:?}: {}", stderr(&output));
        assert!(output.stdout.is_empty(), "{arguments:?}: {}", stdout(&output));
        assert_eq!(fs::read_dir(path).expect("lists").count(), before, "{arguments:?} leaves something");
    }
    for (head, said) in [("linear", "head linear"), ("64,32", "head 64,32")] {
        let output = timburn(&["finetune", two, "--dry-run", "--head", head, "-o", "new"], path);
        assert!(output.status.success(), "{}", stderr(&output));
        let text = stdout(&output);
        assert!(text.contains("12 training pictures of 2 classes") && text.contains(said), "{text}");
        assert!(text.contains("20 % of the pictures, 2, are held out") && text.contains("12 passes"), "{text}");
        assert_eq!(fs::read_dir(path).expect("lists").count(), before, "a dry run leaves something");
    }
}

#[test]
fn a_bad_file_is_told_and_left_out() {
    let folder = folder();
    let data = crops(folder.path(), 2);
    fs::write(folder.path().join("crops/class 1/0.png"), "no picture").expect("writes");
    let arguments = ["finetune", data, "--head", "fastai", "--head-only", "--balanced", "--quiet", "-o", "out"];
    let output = timburn(&arguments, folder.path());
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stderr(&output).contains("warning: left out: ") && stderr(&output).contains("0.png"), "{}", stderr(&output));
    assert!(fs::read_to_string(folder.path().join("out/bad_files.jsonl")).expect("a list").contains("0.png"));
}

/// Ends the process with SIGINT; its exit code.
fn interrupt(child: &mut Child) -> Option<i32> {
    Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("kill");
    child.wait().expect("it ends").code()
}

fn wait_for(what: &str, ready: impl Fn() -> bool) {
    let started = Instant::now();
    while !ready() {
        assert!(started.elapsed() < Duration::from_secs(120), "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
#[cfg(unix)]
fn an_interrupted_run_keeps_what_it_has() {
    let folder = folder();
    let data = crops(folder.path(), 2);
    // In the features, of which there are many: nothing can be kept.
    let arguments = ["finetune", data, "--views", "64", "--batch", "4", "--events", "-o", "early", "--cache", "features"];
    let mut child = command(&arguments, folder.path()).stdout(Stdio::piped()).spawn().expect("the binary runs");
    let mut first = String::new();
    BufReader::new(child.stdout.as_mut().expect("a pipe")).read_line(&mut first).expect("an event");
    assert_eq!(json_lines(&first)[0]["event"], "features");
    assert_eq!(interrupt(&mut child), Some(130));
    assert!(!folder.path().join("early").exists());
    assert_eq!(fs::read_dir(folder.path().join("features")).map_or(0, Iterator::count), 0, "no half a cache");

    // In the body: the best so far is the result. On a busy machine the run may stop early, as it no longer gets better, before the signal comes.
    let stopped = (0..5).any(|attempt| {
        let out = folder.path().join("late");
        let arguments = ["finetune", data, "--epochs", "500", "--batch", "2", "--quiet", "--overwrite", "-o", "late"];
        let mut child = command(&arguments, folder.path()).stdout(Stdio::null()).spawn().expect("the binary runs");
        wait_for("no step was made", || fs::read_to_string(out.join("metrics.jsonl")).is_ok_and(|text| text.lines().count() > 0));
        let code = interrupt(&mut child);
        assert!(code == Some(130) || (code == Some(0) && out.join("report.html").is_file()), "attempt {attempt}: {code:?}");
        if code == Some(0) {
            fs::remove_dir_all(out).expect("removes");
        }
        code == Some(130)
    });
    assert!(stopped, "never stopped by the signal");
    assert!(folder.path().join("late/model.timburn").is_file() && !folder.path().join("late/report.html").exists());
    let predicted = timburn(&["predict", "--weights", "late/model.timburn"], folder.path());
    assert!(predicted.status.success() && stdout(&predicted).contains("class 1"), "{}", stderr(&predicted));
}

#[test]
fn the_demo_is_part_of_the_program() {
    let folder = folder();
    let started = Instant::now();
    let output = timburn(&["demo", "--minutes", "0", "--quiet", "-o", "d"], folder.path());
    assert!(output.status.success() && output.stderr.is_empty(), "{}", stderr(&output));
    assert!(started.elapsed() < Duration::from_secs(120), "{:?}", started.elapsed());
    let text = stdout(&output);
    let percent = |name: &str| -> f64 {
        let line = text.lines().find_map(|line| line.strip_prefix(name)).expect(name);
        line.split('%').next().and_then(|number| number.trim().parse().ok()).expect("a percentage")
    };
    // Ten kinds of clothes; the same on every machine but for rounding.
    assert!(percent("validation") > 75.0 && percent("test") > 75.0, "{text}");
    assert!(folder.path().join("d/run/report.html").is_file() && folder.path().join("d/fashion-mnist/LICENSE").is_file());
    let eval = timburn(&["eval", "d/run/model.timburn", "d/fashion-mnist", "--json", "--no-report"], folder.path());
    let score: Value = serde_json::from_slice(&eval.stdout).expect("JSON");
    assert_eq!(score["part"], "test set");
    assert!((100.0 * number(&score["score"]["top1"]) - percent("test")).abs() < 0.51, "{score} {text}");
}

#[test]
fn a_learning_rate_is_found_and_drawn() {
    let folder = folder();
    let Some(data) = cifar(folder.path(), 12, 5) else { return };
    let data = data.to_str().expect("UTF-8");
    let small = ["find-lr", "cifar10-resnet20", "--data", data, "--set", "train.batch_size=16", "--steps", "40"];
    let output = timburn(&[&small[..], &["--json", "-o", "lr"]].concat(), folder.path());
    assert!(output.status.success() && output.stderr.is_empty(), "{}", stderr(&output));
    let found: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let valley = number(&found["valley"]);
    assert!(valley > 1e-7 && valley < 10.0 && number(&found["steepest"]).is_finite(), "{found}");
    let points = found["points"].as_array().expect("points");
    assert!((10..=40).contains(&points.len()), "{}", points.len());
    assert!(points.windows(2).all(|pair| number(&pair[0]["lr"]) < number(&pair[1]["lr"])));
    assert!(fs::read(folder.path().join("lr.png")).expect("a picture").starts_with(b"\x89PNG"));
    assert!(fs::read_to_string(folder.path().join("lr.svg")).expect("a picture").contains("<svg"));

    let text = stdout(&timburn(&[&small[..], &["--quiet"]].concat(), folder.path()));
    assert!(text.contains(&format!("--set train.lr={valley:.2e}")), "the same again: {text}");
    assert!(folder.path().join("lr-finder.png").is_file());
}

/// 86.96 % of all 10,000 test pictures: of 200 of them nine in ten runs would be between 83 and 91 %.
#[test]
fn the_embedded_resnet20_scores_what_its_run_measured() {
    let folder = folder();
    let Some(data) = cifar(folder.path(), 1, 20) else { return };
    let output = timburn(&["eval", "resnet20.cifar10", data.to_str().expect("UTF-8"), "--no-report", "--json"], folder.path());
    assert!(output.status.success(), "{}", stderr(&output));
    let value: Value = serde_json::from_str(&stdout(&output)).expect("JSON");
    assert_eq!(value["part"], "test set");
    assert_eq!(value["score"]["samples"], 200);
    assert!(number(&value["score"]["top1"]) > 0.8, "{value}");
}
