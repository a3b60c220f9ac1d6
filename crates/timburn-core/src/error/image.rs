/// A picture that cannot be used, and why.
#[derive(Debug, thiserror::Error)]
#[error("{name}: {fault}")]
pub struct ImageError {
    /// Path of the file, or a description of where the bytes came from.
    pub name: String,
    /// What is wrong.
    pub fault: ImageFault,
}

/// What can be wrong with a picture.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImageFault {
    /// No bytes at all.
    #[error("the file is empty")]
    Empty,
    /// The content is no picture format that timburn reads.
    #[error("not a picture: expected JPEG, PNG, GIF, WebP, BMP or TIFF, found bytes {found}")]
    NotAnImage {
        /// The first bytes, in hexadecimal.
        found: String,
    },
    /// The file ends before its picture does.
    #[error("truncated {format}: {reason}")]
    Truncated {
        /// Format by content.
        format: &'static str,
        /// The decoder's words.
        reason: String,
    },
    /// The decoder rejects the content.
    #[error("corrupt {format}: {reason}")]
    Corrupt {
        /// Format by content.
        format: &'static str,
        /// The decoder's words.
        reason: String,
    },
    /// More pixels than allowed; found in the header, before anything is allocated.
    #[error("{width}×{height} pixels are more than the limit of {limit} (raise it if you trust the file)")]
    TooLarge {
        /// Width in the header.
        width: u64,
        /// Height in the header.
        height: u64,
        /// Largest number of pixels allowed.
        limit: u64,
    },
    /// The decoder panicked; the panic was caught.
    #[error("the {format} decoder failed on this file: {reason}")]
    Panicked {
        /// Format by content.
        format: &'static str,
        /// The panic's message.
        reason: String,
    },
    /// The file could not be read.
    #[error("cannot read: {0}")]
    Io(#[from] std::io::Error),
}
