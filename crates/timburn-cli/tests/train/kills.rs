//! `kill -9` of a real run at random instants; resumed each time, it ends as the run that was left alone.
//!
//! Ten kills; a hundred with `TIMBURN_KILLS=100 cargo test --release --workspace --test train kills`.

use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;
use timburn_train::checkpoint::CheckpointReader;

use super::common::{command, folder, stderr, timburn};
use super::digits::{digits, train};
use super::{metrics, weights};

/// Steps between two checkpoints.
const INTERVAL: u64 = 2;
/// Five steps an epoch, with averaged weights, mixing and a short last accumulation.
const SETTINGS: [&str; 12] = [
    "--set",
    "train.epochs=4",
    "--set",
    "train.accumulate=2",
    "--set",
    "checkpoints.every_steps=2",
    "--set",
    "evaluation.every_steps=3",
    "--set",
    "ema={ decay = 0.9, use_warmup = true }",
    "--set",
    "mixing={ mixup = { alpha = 0.2 } }",
];

/// The last step whose line is whole.
fn recorded(run: &Path) -> u64 {
    let text = std::fs::read_to_string(run.join("metrics.jsonl")).unwrap_or_default();
    let mut steps = text.split_inclusive('\n').filter(|line| line.ends_with('\n')).map(|line| {
        let value: Value = serde_json::from_str(line).expect("a whole line is JSON");
        value["step"].as_u64().expect("a step")
    });
    steps.next_back().unwrap_or(0)
}

#[test]
fn a_killed_run_loses_an_interval_at_most_and_ends_as_if_it_had_lived() {
    let kills: u32 = std::env::var("TIMBURN_KILLS").map_or(10, |kills| kills.parse().expect("a number"));
    let folder = folder();
    digits(folder.path(), 72, 20);
    let started = Instant::now();
    let whole = timburn(&train("whole", &SETTINGS), folder.path());
    assert!(whole.status.success(), "{}", stderr(&whole));
    let lifetime = started.elapsed();
    let whole = folder.path().join("whole");
    let bundle = std::fs::read(whole.join("model.timburn")).expect("a bundle");

    let (mut done, mut runs, mut lives, mut early, mut torn) = (0, 0, 0, 0, 0);
    while done < kills {
        runs += 1;
        let name = format!("run-{runs}");
        let run = folder.path().join(&name);
        loop {
            // A kill in the first milliseconds may leave no recipe: no run yet.
            let resumes = run.join("recipe.toml").is_file();
            let arguments = if resumes { vec!["train", "--resume", &name, "--quiet"] } else { train(&name, &SETTINGS) };
            let mut process = command(&arguments, folder.path()).spawn().expect("the binary runs");
            let instant = timburn_core::seed::derive(lives, &[u64::from(std::process::id())]) % 1000;
            // Most lives are short, some end before the first step.
            let deadline = Instant::now() + lifetime.mul_f64(0.8 * (instant as f64 / 1000.0).powi(2));
            lives += 1;
            let mut ended = None;
            while ended.is_none() && (done == kills || Instant::now() < deadline) {
                std::thread::sleep(Duration::from_millis(1));
                ended = process.try_wait().expect("a child");
            }
            if let Some(status) = ended {
                assert!(status.success(), "after {done} kills: {status}");
                break;
            }
            process.kill().expect("kill -9");
            process.wait().expect("it is dead");
            done += 1;
            let newest = CheckpointReader::new(run.join("checkpoints")).latest().expect("a checkpoint that loads");
            let step = newest.map_or(0, |(_, checkpoint)| checkpoint.step);
            let recorded = recorded(&run);
            assert!(step + INTERVAL >= recorded, "kill {done}: step {recorded} was done, step {step} is the newest that was kept");
            early += u32::from(recorded == 0);
            let names = std::fs::read_dir(run.join("checkpoints")).into_iter().flatten().flatten().map(|entry| entry.file_name());
            torn += names.filter(|name| [".incomplete", ".removed"].iter().any(|end| name.to_string_lossy().ends_with(end))).count();
        }
        assert!(std::fs::read(run.join("model.timburn")).expect("a bundle") == bundle, "{name}: another model");
        assert_eq!(metrics(&run), metrics(&whole), "{name}");
        assert_eq!(weights(&run), weights(&whole), "{name}");
    }
    let report = format!("{kills} kills of `timburn train` over {runs} runs: {early} before the first step, {torn} within a save\n");
    std::io::stderr().write_all(report.as_bytes()).expect("stderr");
}
