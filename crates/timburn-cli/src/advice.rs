//! What to do about an error, where the error itself does not say so: the verbs and options that help.

use std::io;

use timburn_core::Error;
use timburn_core::error::{CheckpointError, DataError, DeviceError, ImageFault, ModelError, TrainError, WeightsError};

/// The next step, for people; `None` where the message ends with it.
pub(crate) fn advice(error: &Error) -> Option<&'static str> {
    match error {
        Error::Io { source, .. } => io_advice(source.kind()),
        Error::Device(error) => device_advice(error),
        Error::Model(ModelError::UnsupportedOption { .. }) => Some("change that option, or choose another model: `timburn models`"),
        Error::Model(ModelError::ClassCount { .. }) => Some("use the class list that the model was trained with"),
        Error::Config(error) if error.nearest.is_empty() => {
            Some("correct that place; `timburn train RECIPE --dry-run` checks it and starts nothing")
        }
        Error::Data(error) => data_advice(error),
        Error::Image(error) => match &error.fault {
            ImageFault::TooLarge { .. } => Some("make it smaller with a picture editor"),
            ImageFault::NotAnImage { .. } => Some("name a picture, or a folder of pictures"),
            ImageFault::Io(source) => io_advice(source.kind()),
            _ => Some("get the file again; `timburn data inspect` finds all bad files of a data set"),
        },
        Error::Weights(error) => weights_advice(error),
        Error::Train(TrainError::NonFinite { .. } | TrainError::NonFiniteSamples { .. }) => Some(
            "lower the learning rate (`timburn find-lr` suggests one), or look at these pictures; the newest checkpoint is from before",
        ),
        Error::Train(TrainError::LossScale { .. }) => Some("train with train.precision=bf16 or f32, or lower the learning rate"),
        Error::Checkpoint(error) => checkpoint_advice(error),
        _ => None,
    }
}

fn io_advice(kind: io::ErrorKind) -> Option<&'static str> {
    match kind {
        io::ErrorKind::NotFound => Some("check the path"),
        io::ErrorKind::PermissionDenied => Some("check who may read and write there, or choose another place with --output"),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Some("free some space, or choose another disk with --output"),
        io::ErrorKind::ReadOnlyFilesystem => Some("choose a place that can be written with --output"),
        io::ErrorKind::IsADirectory => Some("name a file, not a folder"),
        io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => {
            Some("a file is where a folder is needed: move it, or choose another name")
        }
        io::ErrorKind::InvalidData => Some("this is no text in UTF-8: name another file"),
        io::ErrorKind::OutOfMemory => Some("free some memory, or choose a smaller --batch"),
        _ => Some("`timburn doctor` checks disks, memory and devices"),
    }
}

fn device_advice(error: &DeviceError) -> Option<&'static str> {
    match error {
        DeviceError::NoSuchIndex { .. } => Some("indices count from 0; `timburn doctor` lists the devices"),
        DeviceError::Failed { .. } => Some("try a smaller --batch or another --device; `timburn doctor` checks them"),
        DeviceError::WrongResults { .. } | DeviceError::Unavailable { .. } => Some("choose another --device; `timburn doctor` checks them"),
        _ => None,
    }
}

fn data_advice(error: &DataError) -> Option<&'static str> {
    match error {
        DataError::Open { source, .. } => io_advice(source.kind()),
        DataError::Unrecognised { .. } => Some("put the pictures of each class into a folder of its own, and name the folder above them"),
        DataError::NoClasses { .. } | DataError::EmptyClass { .. } => Some("a class is a folder with the class's pictures in it"),
        DataError::OneClass { .. } => Some("add a folder with pictures of anything else"),
        DataError::ClassesDiffer { .. } | DataError::UnknownClass { .. } => {
            Some("give training, validation and test set the same class folders; `timburn data inspect` lists them")
        }
        DataError::Malformed { .. } => Some("get the file again, or correct that place"),
        DataError::MissingFiles { .. } => Some("paths in a list are relative to the folder it is in"),
        DataError::HostileArchive { .. } => Some("nothing was unpacked; get the archive from its maker"),
        DataError::TooManyBadFiles { .. } => {
            Some("`timburn data inspect` lists them all: remove them (`timburn train` also takes --set loader.skip_bad=0.1)")
        }
        DataError::Worker { .. } => Some("`timburn data inspect` checks every picture of a data set"),
        _ => None,
    }
}

fn weights_advice(error: &WeightsError) -> Option<&'static str> {
    match error {
        WeightsError::Mismatch(_) => Some("name the architecture that these weights are of with --model; `timburn models` lists them"),
        WeightsError::UnknownFormat { .. } => Some("name a .safetensors, .pth or .timburn file"),
        WeightsError::Open { source, .. } => io_advice(source.kind()),
        WeightsError::NonFinite { .. } => Some("the weights are damaged, or of another network or precision: get the file again"),
        WeightsError::Corrupt { .. } => Some("get the file again"),
        WeightsError::Hash { .. } => Some("remove the file and get it again"),
        _ => None,
    }
}

fn checkpoint_advice(error: &CheckpointError) -> Option<&'static str> {
    match error {
        CheckpointError::NotSaved { .. } => {
            Some("free some space; `timburn train --resume DIR` goes on with what `timburn train` began, the others begin again")
        }
        CheckpointError::Damaged { .. } => Some("remove that checkpoint: `timburn train --resume DIR` then takes the one before"),
        CheckpointError::NoneComplete { .. } => Some("start the run again in another folder"),
        CheckpointError::NoSuchStep { .. } => Some("the folder lists the steps there are"),
        CheckpointError::NotARun { .. } => Some("name the folder that `timburn train` wrote (it holds recipe.toml)"),
        CheckpointError::Malformed { .. } => Some("move that file away: the run goes on without its history"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_failure_of_the_system_has_advice() {
        for kind in [io::ErrorKind::NotFound, io::ErrorKind::StorageFull, io::ErrorKind::BrokenPipe, io::ErrorKind::Other] {
            assert!(advice(&Error::io("read", "a")(kind.into())).is_some());
        }
        assert!(advice(&Error::Argument { name: "x", value: "1".into(), expected: "2".into() }).is_none(), "the message says it");
    }
}
