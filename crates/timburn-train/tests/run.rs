//! The run folder over create, interruption and resume.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod failing_disk;

use std::fs;
use std::io::Write;
use std::path::Path;

use failing_disk::{Fault, FaultyDisk};
use serde_json::json;
use timburn_core::Error;
use timburn_core::error::CheckpointError;
use timburn_train::plots::{LineChart, Series, lr_finder, summary_charts};
use timburn_train::run::{Environment, Overwrite};
use timburn_train::{EventWriter, RunFolder};

fn create(path: &Path) -> RunFolder {
    RunFolder::create(path, Overwrite::Refuse, "epochs = 2\n", &Environment::collect("cpu")).unwrap()
}

fn resume(path: &Path) -> RunFolder {
    RunFolder::resume(path, &Environment::collect("cpu")).unwrap()
}

/// Steps 1 to `last`, an epoch of 4 steps each.
fn train(run: &RunFolder, first: u64, last: u64) {
    for step in first..=last {
        run.append_metrics(step, &json!({ "loss": 1.0 / step as f64, "skipped": f64::NAN })).unwrap();
        if step % 4 == 0 {
            run.append_summary(step / 4, step, &[("train_loss", 1.0 / step as f64), ("val_top1", step as f64), ("lr", 0.1)]).unwrap();
        }
    }
}

fn files(path: &Path) -> (String, String) {
    (fs::read_to_string(path.join("metrics.jsonl")).unwrap(), fs::read_to_string(path.join("summary.csv")).unwrap())
}

#[test]
fn an_interrupted_run_ends_with_the_files_of_an_uninterrupted_one() {
    let folder = tempfile::tempdir().unwrap();
    let whole = folder.path().join("whole");
    train(&create(&whole), 1, 12);
    assert!(files(&whole).1.starts_with("epoch,step,train_loss,val_top1,lr\n1,4,0.25,4,0.1\n2,8,"), "{}", files(&whole).1);
    for (checkpoint, reached) in [(0, 0), (0, 5), (4, 4), (4, 8), (5, 11), (7, 12)] {
        let path = folder.path().join(format!("{checkpoint}-{reached}"));
        train(&create(&path), 1, reached);
        // The last line of a killed process.
        for (name, torn) in [("metrics.jsonl", "{\"step\":9,\"lo"), ("summary.csv", "3,1")] {
            fs::OpenOptions::new().append(true).open(path.join(name)).unwrap().write_all(torn.as_bytes()).unwrap();
        }
        let run = resume(&path);
        run.rewind(checkpoint).unwrap_or_else(|error| panic!("{checkpoint} {reached}: {error}"));
        train(&run, checkpoint + 1, 12);
        assert_eq!(files(&path), files(&whole), "checkpoint {checkpoint}, reached {reached}");
        assert_eq!(run.metrics().unwrap().len(), 12);
        assert_eq!(run.summary().unwrap().len(), 3);
    }
}

#[test]
fn rewinding_can_die_at_every_call_and_be_repeated() {
    let folder = tempfile::tempdir().unwrap();
    for fault in [Fault::Death, Fault::TornWrite] {
        for at in 0..20 {
            let path = folder.path().join(format!("{fault:?}{at}"));
            train(&create(&path), 1, 12);
            if let Ok(run) = RunFolder::resume_on(FaultyDisk::new(at, fault), &path, &Environment::collect("cpu")) {
                let _ = run.rewind(5);
            }
            let run = resume(&path);
            run.rewind(5).unwrap();
            assert_eq!(run.metrics().unwrap().len(), 5, "{fault:?} at {at}");
            assert_eq!(run.summary().unwrap().iter().map(|row| row.step).collect::<Vec<_>>(), [4]);
            assert!(fs::read_dir(&path).unwrap().all(|entry| !entry.unwrap().file_name().to_string_lossy().ends_with(".incomplete")));
        }
    }
}

#[test]
fn a_run_is_not_overwritten_unasked_and_nothing_else_ever() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run");
    let occupied = |overwrite| match RunFolder::create(&path, overwrite, "", &Environment::collect("cpu")) {
        Err(Error::Checkpoint(CheckpointError::Occupied { reason, .. })) => reason,
        other => panic!("{other:?}"),
    };
    let run = create(&path);
    train(&run, 1, 4);
    let error = RunFolder::resume(&path, &Environment::collect("cpu")).unwrap_err();
    assert!(matches!(error, Error::Checkpoint(CheckpointError::Locked { .. })), "{error}");
    drop(run);
    assert!(occupied(Overwrite::Refuse).contains("can be resumed"));
    fs::write(path.join("thesis.tex"), "mine").unwrap();
    assert!(occupied(Overwrite::Replace).contains("thesis.tex"));
    fs::rename(path.join("thesis.tex"), folder.path().join("thesis.tex")).unwrap();
    // What the verbs leave beside a run's own files is part of it.
    let results = [
        "model.timburn",
        "report.html",
        "card.md",
        "predictions.csv",
        "result.json",
        "bad_files.jsonl",
        "plots/loss.png",
        "plots/grad_cam.png",
    ];
    for name in results {
        fs::write(path.join(name), "old").unwrap();
    }
    let run = RunFolder::create(&path, Overwrite::Replace, "epochs = 3\n", &Environment::collect("cpu")).unwrap();
    assert!(results.iter().all(|name| fs::read_to_string(path.join(name)).unwrap_or_default().is_empty()), "of the old run");
    assert!(run.metrics().unwrap().is_empty() && run.recipe().unwrap() == "epochs = 3\n");
    drop(run);

    for overwrite in [Overwrite::Refuse, Overwrite::Replace] {
        let error = RunFolder::create(folder.path(), overwrite, "", &Environment::collect("cpu")).unwrap_err().to_string();
        assert!(error.contains("no run's"), "{error}");
    }
    let error = RunFolder::resume(folder.path(), &Environment::collect("cpu")).unwrap_err();
    assert!(matches!(error, Error::Checkpoint(CheckpointError::NotARun { .. })) && error.exit_code() == 2);
}

#[test]
fn the_environment_of_every_start_is_kept_and_bad_files_once() {
    let folder = tempfile::tempdir().unwrap();
    let run = create(folder.path());
    run.append_bad_file(Path::new("a.jpg"), "truncated").unwrap();
    run.append_bad_file(Path::new("a.jpg"), "truncated").unwrap();
    drop(run);
    let run = resume(folder.path());
    run.append_bad_file(Path::new("a.jpg"), "truncated").unwrap();
    run.append_bad_file(Path::new("b\n.jpg"), "empty").unwrap();
    assert_eq!(fs::read_to_string(folder.path().join("bad_files.jsonl")).unwrap().lines().count(), 2);
    let starts: Vec<Environment> = serde_json::from_slice(&fs::read(folder.path().join("environment.json")).unwrap()).unwrap();
    assert_eq!(starts.len(), 2);
    assert!(starts[0].rustc.starts_with("rustc 1.") && starts[0].cores > 0 && starts[0].started.ends_with('Z'));
    assert!(starts.iter().all(|start| start.variables.keys().all(|name| !name.contains("TOKEN"))));
    run.append_summary(1, 1, &[("loss", 1.0)]).unwrap();
    assert!(matches!(run.append_summary(2, 2, &[("los", 1.0)]), Err(Error::Argument { name: "column", .. })));
    run.append_summary(2, 2, &[("loss", f64::INFINITY)]).unwrap();
    assert!(run.summary().unwrap()[1].values.is_empty());
}

/// What `parity/check_tensorboard.py` reads back; `TIMBURN_EVENTS` names the folder to write to.
#[test]
fn tensorboard_events_for_the_official_reader() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = std::env::var_os("TIMBURN_EVENTS").map_or(temporary.path().to_owned(), Into::into);
    fs::create_dir_all(&folder).unwrap();
    let chart = LineChart { series: vec![Series::new("x", [(0.0, 1.0), (1.0, 0.5)])], ..Default::default() }.picture();
    let (width, height) = chart.png_size();
    let mut first = EventWriter::create(&folder, None).unwrap();
    first.text("recipe", 0, "    epochs = 2\n    name = \"ü\"\n").unwrap();
    first.image("plot", 0, width, height, &chart.png().unwrap()).unwrap();
    for step in 0..10 {
        first.scalar("train/loss", step, 1.0 / (step + 1) as f64).unwrap();
    }
    let mut second = EventWriter::create(&folder, Some(5)).unwrap();
    for step in 6..12 {
        second.scalar("train/loss", step, 1.0 / (step + 1) as f64 + 100.0).unwrap();
    }
    assert!(first.path() < second.path());
}

#[test]
fn charts_of_a_run_are_drawn_whatever_the_numbers() {
    let folder = tempfile::tempdir().unwrap();
    let run = create(folder.path());
    train(&run, 1, 12);
    let charts = summary_charts(&run.summary().unwrap());
    assert_eq!(charts.iter().map(|(stem, _)| *stem).collect::<Vec<_>>(), ["loss", "accuracy", "learning_rate"]);
    for (stem, chart) in charts {
        chart.picture().save(run.plots().join(stem)).unwrap();
        let svg = fs::read_to_string(run.plots().join(format!("{stem}.svg"))).unwrap();
        assert!(svg.contains("<polyline") && svg.ends_with("</svg>\n") && !svg.contains("NaN"));
        let png = fs::read(run.plots().join(format!("{stem}.png"))).unwrap();
        let mut reader = png::Decoder::new(std::io::Cursor::new(png)).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        reader.next_frame(&mut pixels).unwrap();
        assert!(pixels.chunks(3).any(|pixel| pixel == [0x00, 0x72, 0xB2]), "the curve is there, in its colour");
        assert!(pixels.chunks(3).filter(|pixel| pixel[0] < 0x60 && pixel[2] < 0x60).count() > 500, "and dark text");
    }
    let odd = [f64::NAN, f64::INFINITY, -1.0, 0.0, 1e-300, 1e300, f64::MIN_POSITIVE];
    for x_log in [false, true] {
        for &a in &odd {
            for &b in &odd {
                let series = vec![Series::new("<&\u{1}>", [(a, b), (b, a), (1.0, 2.0)])];
                let chart = LineChart { x_log, y_log: x_log, title: "\u{7}".repeat(300), series, ..Default::default() };
                assert!((a != b || chart.picture().png().is_ok()) && !chart.picture().svg().contains('\u{1}'));
            }
        }
    }
    lr_finder(&[], &[], Some(f64::NAN)).picture();
}

#[test]
fn a_run_that_came_to_nothing_is_removed_and_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run");
    let begin = || {
        let run = create(&path);
        EventWriter::create(run.path(), None).unwrap().scalar("x", 0, 1.0).unwrap();
        drop(timburn_train::CheckpointStore::open(run.checkpoints(), 1).unwrap());
        run
    };
    assert!(begin().discard_unused().unwrap());
    assert!(!path.exists());
    // A file of the user's stays, and the folder around it.
    let run = begin();
    fs::write(path.join("notes.txt"), "mine").unwrap();
    assert!(!run.discard_unused().unwrap());
    let left: Vec<_> = fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["notes.txt"]);
    fs::remove_file(path.join("notes.txt")).unwrap();
    // A step or a checkpoint is something.
    let run = begin();
    train(&run, 1, 1);
    assert!(!run.discard_unused().unwrap());
    assert_eq!(resume(&path).metrics().unwrap().len(), 1);
    resume(&path).rewind(0).unwrap();
    timburn_train::CheckpointStore::open(resume(&path).checkpoints(), 1).unwrap().save(&failing_disk::checkpoint_of(1, 10)).unwrap();
    assert!(!resume(&path).discard_unused().unwrap());
    assert!(path.join("checkpoints/000001-step-1").is_dir());
}
