use std::io;
use std::path::{Path, PathBuf};

/// A checkpoint or run folder that cannot be written, read or used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// Another living process writes to this folder.
    #[error("{path}: another process{} is using this folder; wait for it, or choose another folder", process(*pid), path = path.display())]
    Locked {
        /// The run or checkpoint folder.
        path: PathBuf,
        /// The other process, where it could be read.
        pid: Option<u32>,
    },
    /// The system refused a file of a checkpoint. What was written of it is removed, older checkpoints are as they were.
    #[error("cannot save the checkpoint of step {step}: cannot {action} {path}: {source}; {}", last(newest.as_deref()), path = path.display())]
    NotSaved {
        /// The step of the checkpoint.
        step: u64,
        /// What was tried, as an infinitive.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The newest older checkpoint.
        newest: Option<PathBuf>,
        /// The system's reason.
        source: io::Error,
    },
    /// A checkpoint that is not as it was written.
    #[error("{path}: damaged checkpoint: {reason}", path = path.display())]
    Damaged {
        /// The checkpoint's folder.
        path: PathBuf,
        /// What is missing or different.
        reason: String,
    },
    /// A checkpoint of a later timburn.
    #[error("{path}: checkpoint format {found}, this timburn reads up to {expected}; resume with the version that wrote it", path = path.display())]
    Version {
        /// The checkpoint's folder.
        path: PathBuf,
        /// Its format.
        found: u64,
        /// The newest format that is read.
        expected: u64,
    },
    /// There are checkpoints, and none of them is complete.
    #[error("{folder}: none of {} checkpoints can be used{}", refused.len(), reasons(refused), folder = folder.display())]
    NoneComplete {
        /// The folder of checkpoints.
        folder: PathBuf,
        /// Each one, newest first, and why it is refused.
        refused: Vec<(PathBuf, String)>,
    },
    /// No checkpoint of this step.
    #[error("{folder}: no checkpoint of step {step}", folder = folder.display())]
    NoSuchStep {
        /// The folder of checkpoints.
        folder: PathBuf,
        /// The step asked for.
        step: u64,
    },
    /// A run would be written over another one, or over files that are none of a run's.
    #[error("{path}: {reason}", path = path.display())]
    Occupied {
        /// The run folder.
        path: PathBuf,
        /// What is there, and what to do.
        reason: String,
    },
    /// A folder to resume from that no run has written.
    #[error("{path}: not a run folder: {missing} is missing", path = path.display())]
    NotARun {
        /// The folder.
        path: PathBuf,
        /// The file looked for.
        missing: &'static str,
    },
    /// A file of a run that does not hold what a run writes.
    #[error("{path}, line {line}: expected {expected}, found {found}", path = path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What belongs there.
        expected: String,
        /// What is there.
        found: String,
    },
}

impl CheckpointError {
    /// 2 where the user chose the wrong folder, else 1.
    pub(super) fn exit_code(&self) -> u8 {
        match self {
            Self::Locked { .. } | Self::Occupied { .. } | Self::NotARun { .. } | Self::NoSuchStep { .. } | Self::Version { .. } => 2,
            Self::NotSaved { .. } | Self::Damaged { .. } | Self::NoneComplete { .. } | Self::Malformed { .. } => 1,
        }
    }
}

fn process(pid: Option<u32>) -> String {
    pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default()
}

fn last(newest: Option<&Path>) -> String {
    match newest {
        Some(path) => format!("the newest older one is {}", path.display()),
        None => "there is no older one".to_owned(),
    }
}

fn reasons(refused: &[(PathBuf, String)]) -> String {
    refused.iter().map(|(path, reason)| format!("\n  {}: {reason}", path.display())).collect()
}
