//! `kill -9` at random instants, against a process that does nothing but save.
//!
//! Ten kills by default; a hundred with `TIMBURN_KILLS=100 cargo test --release -p timburn-train -p timburn-models --test kill`.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)]

mod failing_disk;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;
use std::{env, fs, thread};

use failing_disk::{checkpoint_of, same};
use timburn_train::CheckpointStore;

/// Enough for a save to take milliseconds.
const VALUES: usize = 200_000;
const FOLDER: &str = "TIMBURN_TEST_SAVES_IN";

/// The child: saves until it is killed, each step once it is durable to `acknowledged`. Alone it does nothing.
#[test]
fn child_saves() {
    let Some(folder) = env::var_os(FOLDER).map(PathBuf::from) else { return };
    let steps: u64 = env::var("TIMBURN_TEST_SAVES").map_or(u64::MAX, |steps| steps.parse().unwrap());
    let mut store = CheckpointStore::open(folder.join("checkpoints"), 2).unwrap();
    let mut step = store.latest().unwrap().map_or(0, |(_, checkpoint)| checkpoint.step);
    let mut acknowledged = fs::OpenOptions::new().create(true).append(true).open(folder.join("acknowledged")).unwrap();
    for _ in 0..steps {
        step += 1;
        if let Err(error) = store.save(&checkpoint_of(step, VALUES)) {
            fs::write(folder.join("error"), error.to_string()).unwrap_or_default();
            eprintln!("SAVE FAILED: {error}");
            std::process::exit(7);
        }
        writeln!(acknowledged, "{step}").unwrap_or_default();
        if step.is_multiple_of(3) {
            store.mark_best(step).unwrap();
        }
    }
}

fn child(folder: &Path) -> Command {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["child_saves", "--exact", "--nocapture"]).env(FOLDER, folder).stdout(Stdio::null());
    command
}

fn acknowledged(folder: &Path) -> u64 {
    let text = fs::read_to_string(folder.join("acknowledged")).unwrap_or_default();
    text.lines().last().map_or(0, |line| line.parse().unwrap())
}

#[test]
fn a_killed_process_leaves_its_newest_complete_checkpoint() {
    let kills: u64 = env::var("TIMBURN_KILLS").map_or(10, |kills| kills.parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let (mut leftovers, mut before) = (0, 0);
    for kill in 0..kills {
        let mut process = child(folder.path()).spawn().unwrap();
        // After the first of its saves, at an instant that no two kills share.
        while acknowledged(folder.path()) == before {
            assert!(process.try_wait().unwrap().is_none(), "the child ended by itself");
            thread::sleep(Duration::from_millis(1));
        }
        let jitter = timburn_core::seed::derive(kill, &[u64::from(std::process::id())]) % 40_000;
        thread::sleep(Duration::from_micros(jitter));
        process.kill().unwrap();
        process.wait().unwrap();

        let checkpoints = folder.path().join("checkpoints");
        let names = fs::read_dir(&checkpoints).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        leftovers += names.filter(|name| name.ends_with(".incomplete") || name.ends_with(".removed")).count();
        let saved = acknowledged(folder.path());
        let store = CheckpointStore::open(&checkpoints, 2).unwrap();
        let (_, found) = store.latest().unwrap().expect("a checkpoint");
        assert!((saved..=saved + 1).contains(&found.step), "kill {kill}: found {}, saved {saved}", found.step);
        assert!(same(&found, &checkpoint_of(found.step, VALUES)), "kill {kill}");
        if let Some((_, best)) = store.best().unwrap() {
            assert!(same(&best, &checkpoint_of(best.step, VALUES)), "kill {kill}");
        }
        before = saved;
    }
    let report = format!("{kills} kills, {before} checkpoints, {leftovers} were caught half written or half removed\n");
    std::io::stderr().write_all(report.as_bytes()).unwrap();
}

/// Runs `script` in a shell with the child as `"$@"`; its exit code and what it wrote to stderr.
#[cfg(unix)]
fn shell(program: &[&str], script: &str, folder: &Path) -> (Option<i32>, String) {
    let (program, arguments) = program.split_first().unwrap();
    let mut command = Command::new(program);
    command.args(arguments).arg(script).arg("sh").arg(env::current_exe().unwrap());
    command.args(["child_saves", "--exact", "--nocapture"]).env(FOLDER, folder).env("TIMBURN_TEST_SAVES", "1").stdout(Stdio::null());
    let output = command.output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// A write beyond the limit of a file's size fails as one on a full disk does, half way through a file.
#[cfg(unix)]
#[test]
fn a_file_size_limit_is_an_error_and_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    assert!(child(folder.path()).env("TIMBURN_TEST_SAVES", "2").status().unwrap().success());
    // The signal that comes with it would end the process; ignored, the write fails.
    let (code, text) = shell(&["sh", "-c"], r#"ulimit -f 100; trap "" XFSZ; exec "$@""#, folder.path());
    assert_eq!(code, Some(7), "{text}");
    assert!(
        text.contains("cannot save the checkpoint of step 3") && text.contains("model.safetensors") && text.contains("000002-step-2"),
        "{text}"
    );
    let entries = fs::read_dir(folder.path().join("checkpoints")).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert_eq!(entries.filter(|name| name.ends_with(".incomplete")).count(), 0);
    let store = CheckpointStore::open(folder.path().join("checkpoints"), 2).unwrap();
    assert!(same(&store.latest().unwrap().unwrap().1, &checkpoint_of(2, VALUES)));
}

/// A real full disk and a real read-only one: a small file system in a name space of its own.
#[cfg(target_os = "linux")]
#[test]
fn a_full_and_a_read_only_file_system_are_errors_and_lose_nothing() {
    let unshare = ["unshare", "-rm", "sh", "-c"];
    if !Command::new("unshare").args(["-rm", "true"]).status().is_ok_and(|status| status.success()) {
        let _ = std::io::stderr().write_all(b"skipped: this user may not mount a file system (unshare -rm)\n");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    // Two checkpoints of 1.6 MB fit, the third does not.
    let script = r#"mount -t tmpfs -o size=4m none "$TIMBURN_TEST_SAVES_IN" || exit 9
        "$@" || exit 1; "$@" || exit 2; ls "$TIMBURN_TEST_SAVES_IN"/checkpoints >&2
        "$@"; [ $? = 7 ] || exit 3; ls -A "$TIMBURN_TEST_SAVES_IN"/checkpoints >&2
        rm -r "$TIMBURN_TEST_SAVES_IN"/checkpoints/000001*; "$@" || exit 4
        mount -o remount,ro "$TIMBURN_TEST_SAVES_IN" || exit 9
        "$@" && exit 5; exit 0"#;
    let (code, text) = shell(&unshare, script, folder.path());
    if code == Some(9) {
        let _ = std::io::stderr().write_all(b"skipped: no tmpfs can be mounted here\n");
        return;
    }
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("cannot save the checkpoint of step 3") && text.contains("No space left"), "{text}");
    assert!(text.contains("Read-only file system") && text.contains(".lock"), "{text}");
    assert!(!text.contains(".incomplete\n"), "{text}");
}
