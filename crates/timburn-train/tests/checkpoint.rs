//! Every state that a save can leave behind, made by hand and by failing every call to the disk.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod failing_disk;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use failing_disk::{Fault, FaultyDisk, checkpoint, same};
use timburn_core::Error;
use timburn_core::error::CheckpointError;
use timburn_models::{StateDict, WeightTensor};
use timburn_train::checkpoint::CheckpointReader;
use timburn_train::{Checkpoint, CheckpointStore};

fn steps(folder: &Path) -> Vec<u64> {
    CheckpointReader::new(folder).list().unwrap().iter().map(|entry| entry.step).collect()
}

/// A store with checkpoints of steps 10 and 20, closed again.
fn two(folder: &Path) -> (PathBuf, PathBuf) {
    let mut store = CheckpointStore::open(folder, 5).unwrap();
    (store.save(&checkpoint(10)).unwrap(), store.save(&checkpoint(20)).unwrap())
}

fn latest(folder: &Path) -> Checkpoint {
    CheckpointStore::open(folder, 5).unwrap().latest().unwrap().expect("a complete one").1
}

fn hidden(folder: &Path) -> Vec<String> {
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with('.') && name != ".lock").collect()
}

#[test]
fn what_is_saved_is_loaded() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = CheckpointStore::open(folder.path(), 2).unwrap();
    assert!(store.latest().unwrap().is_none() && store.best().unwrap().is_none());
    let mut saved = checkpoint(3);
    // A group without tensors, keys that all begin alike, an integer, a float that plain JSON would change.
    saved.groups.insert("ema".into(), StateDict::new("none"));
    let mut prefixed = StateDict::new("prefixed");
    prefixed.tensors.insert("model.a".into(), WeightTensor::from_f32(vec![], vec![f32::MIN_POSITIVE / 2.0]));
    saved.groups.insert("other_2".into(), prefixed);
    saved.state = serde_json::json!({ "f": 1.0715660391163806e-303_f64, "u": u64::MAX, "list": [null, "ü", -0.0] });
    let path = store.save(&saved).unwrap();
    let (found, loaded) = store.latest().unwrap().unwrap();
    assert_eq!(path, found);
    assert!(same(&loaded, &saved));
    assert!(same(&Checkpoint::load(&path).unwrap(), &saved));

    saved.groups.insert("../evil".into(), StateDict::new("x"));
    assert!(matches!(store.save(&saved), Err(Error::Argument { .. })));
    assert_eq!(steps(folder.path()), [3]);
}

#[test]
fn the_last_and_the_best_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = CheckpointStore::open(folder.path(), 2).unwrap();
    for step in 1..=3 {
        store.save(&checkpoint(step)).unwrap();
    }
    assert_eq!(steps(folder.path()), [2, 3]);
    store.mark_best(2).unwrap();
    for step in 4..=6 {
        store.save(&checkpoint(step)).unwrap();
    }
    assert_eq!(steps(folder.path()), [2, 5, 6]);
    assert!(same(&store.best().unwrap().unwrap().1, &checkpoint(2)));
    store.mark_best(6).unwrap();
    assert_eq!(steps(folder.path()), [5, 6]);
    assert!(matches!(store.mark_best(2), Err(Error::Checkpoint(CheckpointError::NoSuchStep { step: 2, .. }))));
    drop(store);

    // The mark outlives the process, and a run that goes back saves a newer checkpoint of an earlier step.
    let mut store = CheckpointStore::open(folder.path(), 1).unwrap();
    store.save(&checkpoint(5)).unwrap();
    assert_eq!(store.latest().unwrap().unwrap().1.step, 5);
    store.save(&checkpoint(6)).unwrap();
    assert_eq!(steps(folder.path()), [6, 6], "the best, and the one just saved");
    assert!(matches!(CheckpointStore::open(folder.path().join("x"), 0), Err(Error::Argument { name: "keep_last", .. })));
}

#[test]
fn every_partial_state_falls_back_to_the_one_before() {
    type Damage = fn(&Path, &Path);
    let cases: [(&str, Damage); 13] = [
        ("no manifest", |_, new| fs::remove_file(new.join("manifest.json")).unwrap()),
        ("empty manifest", |_, new| fs::write(new.join("manifest.json"), "").unwrap()),
        ("manifest of another shape", |_, new| fs::write(new.join("manifest.json"), r#"{"format":1,"files":[]}"#).unwrap()),
        ("half a manifest", |_, new| halve(&new.join("manifest.json"))),
        ("no tensors", |_, new| fs::remove_file(new.join("model.safetensors")).unwrap()),
        ("half the tensors", |_, new| halve(&new.join("optimizer.safetensors"))),
        ("tensors and more", |_, new| append(&new.join("model.safetensors"))),
        ("no state", |_, new| fs::remove_file(new.join("state.json")).unwrap()),
        ("state of another checkpoint", |old, new| copy(old, new, "state.json")),
        ("tensors of another checkpoint", |old, new| copy(old, new, "model.safetensors")),
        ("manifest of another checkpoint", |old, new| copy(old, new, "manifest.json")),
        ("groups swapped", |_, new| {
            let (a, b) = (new.join("model.safetensors"), new.join("optimizer.safetensors"));
            let bytes = fs::read(&a).unwrap();
            fs::copy(&b, &a).unwrap();
            fs::write(&b, bytes).unwrap();
        }),
        ("a folder in place of a file", |_, new| {
            fs::remove_file(new.join("model.safetensors")).unwrap();
            fs::create_dir(new.join("model.safetensors")).unwrap();
        }),
    ];
    for (name, damage) in cases {
        let folder = tempfile::tempdir().unwrap();
        let (old, new) = two(folder.path());
        damage(&old, &new);
        assert!(same(&latest(folder.path()), &checkpoint(10)), "{name}");
        let error = Checkpoint::load(&new).unwrap_err();
        assert!(matches!(&error, Error::Checkpoint(CheckpointError::Damaged { path, .. }) if *path == new), "{name}: {error}");

        // The next save counts the damaged one out.
        let mut store = CheckpointStore::open(folder.path(), 1).unwrap();
        store.save(&checkpoint(30)).unwrap();
        assert_eq!(steps(folder.path()), [30], "{name}");
    }
}

fn halve(path: &Path) {
    let bytes = fs::read(path).unwrap();
    fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
}

fn append(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    bytes.push(0);
    fs::write(path, bytes).unwrap();
}

fn copy(from: &Path, to: &Path, name: &str) {
    fs::copy(from.join(name), to.join(name)).unwrap();
}

#[test]
fn no_changed_byte_goes_unnoticed() {
    let folder = tempfile::tempdir().unwrap();
    let (_, path) = two(folder.path());
    for file in ["manifest.json", "state.json", "model.safetensors"] {
        let file = path.join(file);
        let good = fs::read(&file).unwrap();
        for index in 0..good.len() {
            for bit in [0x01, 0x10] {
                let mut bad = good.clone();
                bad[index] ^= bit;
                fs::write(&file, &bad).unwrap();
                match Checkpoint::load(&path) {
                    Err(Error::Checkpoint(CheckpointError::Damaged { .. } | CheckpointError::Version { .. })) => {}
                    Err(error) => panic!("{}, byte {index}: {error}", file.display()),
                    // A space of the manifest, or the version it names.
                    Ok(loaded) => {
                        assert!(same(&loaded, &checkpoint(20)) && file.ends_with("manifest.json"), "{}, byte {index}", file.display());
                    }
                }
            }
        }
        fs::write(&file, good).unwrap();
    }
}

#[test]
fn a_run_with_nothing_but_damage_does_not_begin_anew() {
    let folder = tempfile::tempdir().unwrap();
    let (old, new) = two(folder.path());
    halve(&old.join("state.json"));
    halve(&new.join("model.safetensors"));
    let error = CheckpointReader::new(folder.path()).latest().unwrap_err();
    assert_eq!(error.exit_code(), 1);
    let text = error.to_string();
    assert!(text.contains("none of 2 checkpoints") && text.contains("state.json has") && text.contains("model.safetensors has"), "{text}");

    fs::write(new.join("manifest.json"), r#"{"format": 7}"#).unwrap();
    let error = CheckpointReader::new(folder.path()).latest().unwrap_err();
    assert!(matches!(error, Error::Checkpoint(CheckpointError::Version { found: 7, expected: 1, .. })), "{error}");
}

#[test]
fn a_garbled_mark_of_the_best_is_told() {
    let folder = tempfile::tempdir().unwrap();
    two(folder.path());
    for text in ["", "{", r#"{"checkpoint": "../../etc"}"#] {
        fs::write(folder.path().join("best.json"), text).unwrap();
        let error = CheckpointStore::open(folder.path(), 1).unwrap_err().to_string();
        assert!(error.contains("best.json") && error.contains("remove it"), "{error}");
    }
    assert_eq!(steps(folder.path()), [10, 20]);
}

#[test]
fn leftovers_of_the_dead_are_removed_and_those_of_the_living_are_not() {
    let folder = tempfile::tempdir().unwrap();
    let store = CheckpointStore::open(folder.path(), 3).unwrap();
    let leftovers = [".000004-step-40.incomplete", ".000001-step-10.removed"];
    for name in leftovers {
        fs::create_dir_all(folder.path().join(name)).unwrap();
        fs::write(folder.path().join(name).join("model.safetensors"), "half").unwrap();
    }
    fs::write(folder.path().join(".best.json.x.incomplete"), "half").unwrap();
    fs::create_dir(folder.path().join(".mine.incomplete")).unwrap();

    // A second store is refused, and touches nothing; a reader may look.
    let error = CheckpointStore::open(folder.path(), 3).unwrap_err();
    assert!(matches!(error, Error::Checkpoint(CheckpointError::Locked { pid, .. }) if pid == Some(std::process::id())), "{error}");
    assert_eq!(error.exit_code(), 2);
    assert!(CheckpointReader::new(folder.path()).latest().unwrap().is_none());
    assert_eq!(hidden(folder.path()).len(), 4);

    drop(store);
    let mut store = CheckpointStore::open(folder.path(), 3).unwrap();
    assert_eq!(hidden(folder.path()), [".mine.incomplete"], "what is not ours stays");
    assert!(store.save(&checkpoint(50)).unwrap().ends_with("000005-step-50"), "numbers are not used twice");
}

/// A save, a mark and a save that removes the first one; the result of the first call that fails.
fn history(store: &mut CheckpointStore, done: &mut Vec<u64>) -> timburn_core::Result<()> {
    for step in [10, 20, 30] {
        store.save(&checkpoint(step))?;
        done.push(step);
        if step == 10 {
            store.mark_best(10)?;
        }
        if step == 30 {
            store.mark_best(30)?;
        }
    }
    Ok(())
}

fn calls_of_history() -> usize {
    let folder = tempfile::tempdir().unwrap();
    let disk = FaultyDisk::new(usize::MAX, Fault::Death);
    let mut store = CheckpointStore::open_on(disk.clone(), folder.path(), 1).unwrap();
    history(&mut store, &mut Vec::new()).unwrap();
    disk.calls()
}

/// At whichever call the process or the power dies, the newest checkpoint whose `save` returned, or a newer one, is there.
#[test]
fn death_at_every_call_leaves_the_newest_complete_checkpoint() {
    let calls = calls_of_history();
    assert!(calls > 50, "{calls} calls");
    for fault in [Fault::Death, Fault::TornWrite, Fault::PowerCut] {
        for at in 0..calls {
            let folder = tempfile::tempdir().unwrap();
            let disk = FaultyDisk::new(at, fault);
            let mut done = Vec::new();
            let mut store = CheckpointStore::open_on(disk.clone(), folder.path(), 1).unwrap();
            let _ = history(&mut store, &mut done);
            drop(store);
            if fault == Fault::PowerCut {
                disk.power_cut();
            }
            let newest = done.last().copied();
            let store = CheckpointStore::open(folder.path(), 1).unwrap_or_else(|error| panic!("{fault:?} at {at}: {error}"));
            let found = store.latest().unwrap_or_else(|error| panic!("{fault:?} at {at}: {error}"));
            match found {
                Some((_, found)) => {
                    assert!(same(&found, &checkpoint(found.step)), "{fault:?} at {at}");
                    assert!(Some(found.step) >= newest, "{fault:?} at {at}: {} after {newest:?} was saved", found.step);
                }
                None => assert_eq!(newest, None, "{fault:?} at {at}"),
            }
            if let Some((_, best)) = store.best().unwrap_or_else(|error| panic!("{fault:?} at {at}: {error}")) {
                assert!(same(&best, &checkpoint(best.step)));
            }
            assert_eq!(hidden(folder.path()), [""; 0], "{fault:?} at {at}");
        }
    }
}

/// A single failing call, whichever it is, loses nothing that was there and leaves nothing behind.
#[test]
fn an_error_at_every_call_leaves_the_old_checkpoint_and_no_remains() {
    let calls = calls_of_history();
    for fault in [Fault::Once(io::ErrorKind::StorageFull), Fault::Once(io::ErrorKind::ReadOnlyFilesystem), Fault::Full] {
        for at in 0..calls {
            let folder = tempfile::tempdir().unwrap();
            let mut store = CheckpointStore::open_on(FaultyDisk::new(at, fault), folder.path(), 1).unwrap();
            let mut done = Vec::new();
            if let Err(error) = history(&mut store, &mut done) {
                let text = error.to_string();
                assert!(text.contains(&folder.path().display().to_string()), "{text}");
                match error {
                    Error::Checkpoint(CheckpointError::NotSaved { newest, .. }) => {
                        assert_eq!(newest.is_some(), !done.is_empty(), "{text}");
                    }
                    // Of the mark.
                    Error::Io { .. } => assert!(!done.is_empty(), "{text}"),
                    other => panic!("{fault:?} at {at}: {other}"),
                }
            }
            let found = store.latest().unwrap().map(|(_, found)| found);
            assert!(found.as_ref().map(|found| found.step) >= done.last().copied(), "{fault:?} at {at}");
            assert!(found.is_none_or(|found| same(&found, &checkpoint(found.step))));
            // A removal that failed may leave its aim for the next opening; a save that failed leaves nothing.
            assert!(hidden(folder.path()).iter().all(|name| name.ends_with(".removed")), "{fault:?} at {at}: {:?}", hidden(folder.path()));
            // The disk has room again: the run goes on.
            let fine = fault != Fault::Full;
            assert_eq!(store.save(&checkpoint(40)).is_ok(), fine, "{fault:?} at {at}");
        }
    }
}
