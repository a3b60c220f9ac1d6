//! Event files for TensorBoard: records framed as TFRecord, each an `Event` message (`tensorflow/core/util/event.proto`).

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use timburn_core::protobuf::Message;
use timburn_core::{Error, Result};

use super::crc32c;
use super::folder::EVENTS;

// Field numbers of `Event`.
const WALL_TIME: u64 = 1;
const STEP: u64 = 2;
const FILE_VERSION: u64 = 3;
const SUMMARY: u64 = 5;
const SESSION_LOG: u64 = 7;

/// An event file being written. Every record is handed to the system before a method returns; readers ignore one that is cut short.
#[derive(Debug)]
pub struct EventWriter {
    path: PathBuf,
    file: File,
    clock: Clock,
}

/// Seconds since 1970.
#[derive(Debug)]
enum Clock {
    System,
    #[cfg(test)]
    Fixed(f64),
}

impl Clock {
    fn now(&self) -> f64 {
        match self {
            Self::System => SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64(),
            #[cfg(test)]
            Self::Fixed(time) => *time,
        }
    }
}

impl EventWriter {
    /// Begins a new file in `folder`; TensorBoard reads all files of a folder as one run. Events that earlier files hold for steps after
    /// `resumed_at` are dropped by it: they will come again.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn create(folder: impl AsRef<Path>, resumed_at: Option<u64>) -> Result<Self> {
        Self::create_at(folder.as_ref(), resumed_at, Clock::System)
    }

    fn create_at(folder: &Path, resumed_at: Option<u64>, clock: Clock) -> Result<Self> {
        let seconds = clock.now() as u64;
        let mut count = 0;
        let (path, file) = loop {
            // Sorted by name, files are in the order of time.
            let path = folder.join(format!("{EVENTS}{seconds:010}.{}.{count}.timburn", std::process::id()));
            match OpenOptions::new().append(true).create_new(true).open(&path) {
                Ok(file) => break (path, file),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => count += 1,
                Err(error) => return Err(Error::io("create", &path)(error)),
            }
        };
        let mut writer = Self { path, file, clock };
        writer.event(None, |event| event.bytes(FILE_VERSION, b"brain.Event:2"))?;
        if let Some(step) = resumed_at {
            // SessionLog { status: START }: everything from this step on is purged.
            writer.event(Some(step + 1), |event| event.message(SESSION_LOG, Message::default().integer(1, 1)))?;
        }
        Ok(writer)
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A point of the curve `tag`; slashes make groups (`train/loss`).
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn scalar(&mut self, tag: &str, step: u64, value: f64) -> Result<()> {
        self.summary(step, Message::default().bytes(1, tag.as_bytes()).float(2, value as f32))
    }

    /// A text, shown as Markdown.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn text(&mut self, tag: &str, step: u64, markdown: &str) -> Result<()> {
        const DT_STRING: u64 = 7;
        let shape = Message::default().message(2, Message::default().integer(1, 1));
        let tensor = Message::default().integer(1, DT_STRING).message(2, shape).bytes(8, markdown.as_bytes());
        let metadata = Message::default().message(1, Message::default().bytes(1, b"text"));
        self.summary(step, Message::default().bytes(1, tag.as_bytes()).message(8, tensor).message(9, metadata))
    }

    /// A picture of `width` × `height` pixels, given as the bytes of a PNG file.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn image(&mut self, tag: &str, step: u64, width: u32, height: u32, png: &[u8]) -> Result<()> {
        const RGB: u64 = 3;
        let image = Message::default().integer(1, height.into()).integer(2, width.into()).integer(3, RGB).bytes(4, png);
        self.summary(step, Message::default().bytes(1, tag.as_bytes()).message(4, image))
    }

    fn summary(&mut self, step: u64, value: Message) -> Result<()> {
        self.event(Some(step), |event| event.message(SUMMARY, Message::default().message(1, value)))
    }

    fn event(&mut self, step: Option<u64>, content: impl FnOnce(Message) -> Message) -> Result<()> {
        let event = Message::default().double(WALL_TIME, self.clock.now());
        let event = content(match step {
            Some(step) => event.integer(STEP, step),
            None => event,
        });
        self.file.write_all(&record(&event.into_bytes())).map_err(Error::io("write", &self.path))
    }
}

/// Length, its checksum, the data, its checksum.
fn record(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    let mut record = Vec::with_capacity(data.len() + 16);
    record.extend(length);
    record.extend(crc32c::masked(&length).to_le_bytes());
    record.extend(data);
    record.extend(crc32c::masked(data).to_le_bytes());
    record
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(folder: &Path) -> Vec<u8> {
        let mut writer = EventWriter::create_at(folder, Some(4), Clock::Fixed(1_700_000_000.5)).unwrap();
        writer.scalar("train/loss", 5, 2.25).unwrap();
        writer.text("recipe", 300, "`epochs = 2`").unwrap();
        writer.image("plot", 7, 3, 2, b"png").unwrap();
        std::fs::read(writer.path()).unwrap()
    }

    #[test]
    fn bytes_are_pinned() {
        let folder = tempfile::tempdir().unwrap();
        let bytes = write(folder.path());
        let hex: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex.join(""), include_str!("tensorboard_golden.txt").trim());
        // A second file in the same second has another name.
        assert_eq!(write(folder.path()), bytes);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
    }
}
