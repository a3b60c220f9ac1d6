//! Checkpoints of a formula, and a disk that fails.
#![allow(dead_code, clippy::expect_used, clippy::unwrap_used, reason = "each test binary uses its part")]

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use serde_json::json;
use timburn_core::disk::{Disk, DiskFile, System};
use timburn_models::{StateDict, WeightTensor};
use timburn_train::Checkpoint;

/// The checkpoint of a step: every value is a function of the step, so that a mixture of two would be seen.
pub(crate) fn checkpoint(step: u64) -> Checkpoint {
    checkpoint_of(step, 50)
}

pub(crate) fn checkpoint_of(step: u64, values: usize) -> Checkpoint {
    let dict = |scale: f32| {
        let mut dict = StateDict::new("formula");
        for (key, count) in [("conv1.weight", values), ("fc.bias", 3)] {
            let values = (0..count).map(|index| scale * step as f32 + index as f32).collect();
            dict.tensors.insert(key.into(), WeightTensor::from_f32(vec![count], values));
        }
        dict
    };
    let groups = BTreeMap::from([("model".to_owned(), dict(1.0)), ("optimizer".to_owned(), dict(-0.25))]);
    Checkpoint { step, epoch: step / 10, groups, state: json!({ "position": step * 128, "lr": 0.1 / (step + 1) as f64 }) }
}

/// Equality of everything.
pub(crate) fn same(a: &Checkpoint, b: &Checkpoint) -> bool {
    let bytes = |checkpoint: &Checkpoint| {
        let groups = checkpoint.groups.iter().map(|(group, dict)| {
            let tensors = dict.tensors.iter().map(|(key, tensor)| (key.clone(), tensor.shape.clone(), tensor.bytes().unwrap()));
            (group.clone(), tensors.collect::<Vec<_>>())
        });
        groups.collect::<Vec<_>>()
    };
    (a.step, a.epoch, &a.state) == (b.step, b.epoch, &b.state) && bytes(a) == bytes(b)
}

/// What happens at the chosen call and after it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Fault {
    /// The process dies: nothing further reaches the disk.
    Death,
    /// As `Death`, with half of a write done.
    TornWrite,
    /// The power fails: as `Death`, and what was not synced is lost, see [`FaultyDisk::power_cut`].
    PowerCut,
    /// This call alone fails, with the given kind of error; the process goes on.
    Once(io::ErrorKind),
    /// This write and every later one fails: the disk is full. Names can still be changed and removed.
    Full,
}

#[derive(Debug, Default)]
struct State {
    calls: usize,
    dead: bool,
    /// Files with content that is only in memory.
    unsynced: Vec<PathBuf>,
    /// Changes of names since the last sync of their folder, oldest first.
    names: Vec<Change>,
}

#[derive(Debug, Clone)]
enum Change {
    Created(PathBuf),
    Renamed(PathBuf, PathBuf),
}

/// The system's disk with a fault at one call, numbered from 0; reads are not counted.
#[derive(Debug)]
pub(crate) struct FaultyDisk {
    at: usize,
    fault: Fault,
    state: Arc<Mutex<State>>,
}

impl FaultyDisk {
    pub(crate) fn new(at: usize, fault: Fault) -> Arc<Self> {
        Arc::new(Self { at, fault, state: Arc::default() })
    }

    /// Calls made so far.
    pub(crate) fn calls(&self) -> usize {
        self.state.lock().unwrap().calls
    }

    /// Throws away what a power cut may: the content of unsynced files, and names whose folder was not synced.
    pub(crate) fn power_cut(&self) {
        let state = self.state.lock().unwrap();
        for path in &state.unsynced {
            if path.exists() {
                fs::write(path, b"").unwrap();
            }
        }
        for change in state.names.iter().rev() {
            match change {
                Change::Created(path) if path.is_dir() => fs::remove_dir_all(path).unwrap(),
                Change::Created(path) => drop(fs::remove_file(path)),
                // A file that was replaced is gone by now: the new one in its place is as allowed as the old one.
                Change::Renamed(from, to) if to.is_dir() => fs::rename(to, from).unwrap(),
                Change::Renamed(..) => {}
            }
        }
    }

    fn call(&self, write: bool, act: impl FnOnce(bool) -> io::Result<usize>) -> io::Result<usize> {
        call(&self.state, self.at, self.fault, write, act)
    }

    fn renamed(&self, from: &Path, to: &Path) {
        let moved = |path: &PathBuf| {
            path.strip_prefix(from)
                .map_or_else(|_| path.clone(), |rest| if rest.as_os_str().is_empty() { to.to_owned() } else { to.join(rest) })
        };
        let mut state = self.state.lock().unwrap();
        state.unsynced = state.unsynced.iter().map(moved).collect();
        state.names = state
            .names
            .iter()
            .map(|change| match change {
                Change::Created(path) => Change::Created(moved(path)),
                Change::Renamed(a, b) => Change::Renamed(moved(a), moved(b)),
            })
            .collect();
        state.names.push(Change::Renamed(from.to_owned(), to.to_owned()));
    }
}

/// Counts a call, fails it where it is its turn, else lets it act; `act(true)` does half.
fn call(state: &Mutex<State>, at: usize, fault: Fault, write: bool, act: impl FnOnce(bool) -> io::Result<usize>) -> io::Result<usize> {
    let mut state = state.lock().unwrap();
    let (turn, later) = (state.calls == at, state.calls > at);
    state.calls += 1;
    if state.dead {
        return Err(io::Error::other("dead"));
    }
    match fault {
        Fault::Death | Fault::PowerCut if turn => state.dead = true,
        Fault::TornWrite if turn => {
            state.dead = true;
            drop(state);
            if write {
                act(true)?;
            }
        }
        Fault::Once(kind) if turn => return Err(kind.into()),
        Fault::Full if write && (turn || later) => return Err(io::ErrorKind::StorageFull.into()),
        _ => {
            drop(state);
            return act(false);
        }
    }
    Err(io::Error::other("dead"))
}

struct FaultyFile {
    path: PathBuf,
    file: fs::File,
    at: usize,
    fault: Fault,
    state: Arc<Mutex<State>>,
}

impl Write for FaultyFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let file = &mut self.file;
        call(&self.state, self.at, self.fault, true, |half| file.write(if half { &bytes[..bytes.len() / 2] } else { bytes }))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl DiskFile for FaultyFile {
    fn sync(&mut self) -> io::Result<()> {
        let file = &self.file;
        call(&self.state, self.at, self.fault, false, |_| file.sync_all().map(|()| 0))?;
        // The folder may have been renamed since; the path is looked up by its name.
        self.state.lock().unwrap().unsynced.retain(|path| *path != self.path);
        Ok(())
    }
}

impl Disk for FaultyDisk {
    fn create_new(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let mut file = None;
        self.call(false, |_| {
            file = Some(OpenOptions::new().write(true).create_new(true).open(path)?);
            Ok(0)
        })?;
        let mut state = self.state.lock().unwrap();
        state.unsynced.push(path.to_owned());
        state.names.push(Change::Created(path.to_owned()));
        drop(state);
        let file = file.expect("opened");
        Ok(Box::new(FaultyFile { path: path.to_owned(), file, at: self.at, fault: self.fault, state: self.state.clone() }))
    }

    fn create_folder(&self, path: &Path) -> io::Result<()> {
        self.call(false, |_| System.create_folder(path).map(|()| 0))?;
        self.state.lock().unwrap().names.push(Change::Created(path.to_owned()));
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.call(false, |_| System.rename(from, to).map(|()| 0))?;
        self.renamed(from, to);
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.call(false, |_| System.remove_file(path).map(|()| 0)).map(drop)
    }

    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        self.call(false, |_| System.remove_folder(path).map(|()| 0)).map(drop)
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        self.call(false, |_| System.sync_folder(path).map(|()| 0))?;
        self.state.lock().unwrap().names.retain(|change| match change {
            Change::Created(name) => name.parent() != Some(path),
            Change::Renamed(_, to) => to.parent() != Some(path),
        });
        Ok(())
    }
}
