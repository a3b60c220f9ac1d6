use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// Where the bytes of a weight file lie. Every read names its place, so that many threads may read one source.
///
/// Positioned reads instead of a memory map: a file that shrinks while it is mapped kills the process, one that is read gives an error.
#[derive(Debug)]
pub(crate) enum Source {
    /// An open file: it stays readable when its name is replaced.
    File { file: Positioned, len: u64 },
    /// Bytes of the program.
    Static(&'static [u8]),
    /// Bytes at hand.
    Shared(Arc<[u8]>),
}

impl Source {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        // Linux opens folders too.
        if metadata.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        Ok(Self::File { file: Positioned::new(file), len: metadata.len() })
    }

    pub(crate) fn len(&self) -> u64 {
        match self {
            Self::File { len, .. } => *len,
            Self::Static(bytes) => bytes.len() as u64,
            Self::Shared(bytes) => bytes.len() as u64,
        }
    }

    /// The `len` bytes from `offset` on. Nothing is allocated for bytes that the source does not have.
    pub(crate) fn read(&self, offset: u64, len: u64) -> io::Result<Vec<u8>> {
        let end = offset.checked_add(len).filter(|&end| end <= self.len());
        let (Some(end), Ok(start), Ok(count)) = (end, usize::try_from(offset), usize::try_from(len)) else {
            return Err(io::ErrorKind::UnexpectedEof.into());
        };
        match self {
            Self::File { file, .. } => {
                let mut buffer = vec![0; count];
                file.read_exact_at(&mut buffer, offset)?;
                Ok(buffer)
            }
            Self::Static(bytes) => Ok(bytes[start..end as usize].to_vec()),
            Self::Shared(bytes) => Ok(bytes[start..end as usize].to_vec()),
        }
    }
}

#[cfg(unix)]
#[derive(Debug)]
pub(crate) struct Positioned(File);

#[cfg(unix)]
impl Positioned {
    fn new(file: File) -> Self {
        Self(file)
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        std::os::unix::fs::FileExt::read_exact_at(&self.0, buffer, offset)
    }
}

/// Elsewhere the file has one position, which the readers take in turns.
#[cfg(not(unix))]
#[derive(Debug)]
pub(crate) struct Positioned(std::sync::Mutex<File>);

#[cfg(not(unix))]
impl Positioned {
    fn new(file: File) -> Self {
        Self(std::sync::Mutex::new(file))
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        use std::io::{Read, Seek, SeekFrom};
        let mut file = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        file.seek(SeekFrom::Start(offset))?;
        file.read_exact(buffer)
    }
}
