use std::io;
use std::path::PathBuf;

use crate::suggest::did_you_mean;

/// A data set that cannot be used as it is, and why.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// The data set cannot be opened.
    #[error("cannot open {path}: {source}", path = path.display())]
    Open {
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// Nothing at this path looks like a data set.
    #[error("{path}: no data set found; expected {expected}", path = path.display())]
    Unrecognised {
        /// What was opened.
        path: PathBuf,
        /// The layouts or files looked for.
        expected: String,
    },
    /// A folder without class folders.
    #[error("{path}: no class folder with pictures in it (looked for {extensions})", path = path.display())]
    NoClasses {
        /// The folder.
        path: PathBuf,
        /// The extensions looked for.
        extensions: String,
    },
    /// A single class cannot be told apart from anything.
    #[error("{path}: only one class, `{class}`; a classifier needs two", path = path.display())]
    OneClass {
        /// The data set.
        path: PathBuf,
        /// Its class.
        class: String,
    },
    /// A class without pictures.
    #[error("{path}: class `{class}` has no pictures (looked for {extensions}); remove that folder, or put pictures there", path = path.display())]
    EmptyClass {
        /// The class folder or list.
        path: PathBuf,
        /// The class.
        class: String,
        /// The extensions looked for.
        extensions: String,
    },
    /// A class that the training set, or the model, does not have.
    #[error("{name}: unknown class `{class}`{}", did_you_mean(nearest))]
    UnknownClass {
        /// The split, file or line that names the class.
        name: String,
        /// The class.
        class: String,
        /// The nearest known classes.
        nearest: Vec<String>,
    },
    /// A symbolic link that leads back to a folder it lies in.
    #[error("{path}: this link leads back to {target}, which contains it; remove the link", path = path.display(), target = target.display())]
    LinkLoop {
        /// The link.
        path: PathBuf,
        /// The folder it leads back to.
        target: PathBuf,
    },
    /// Two class lists that have to be one.
    #[error("the class lists differ: {}", differences(missing, unknown, moved))]
    ClassesDiffer {
        /// Classes that only the expected list has.
        missing: Vec<String>,
        /// Classes that only the list found has.
        unknown: Vec<String>,
        /// Classes that both have, at different indices.
        moved: Vec<String>,
    },
    /// Pictures that a list names and nobody has.
    #[error("{path}: {missing} of {listed} listed pictures are not there; the first: {}", first.join(", "), path = path.display())]
    MissingFiles {
        /// The list.
        path: PathBuf,
        /// How many are missing.
        missing: usize,
        /// How many are listed.
        listed: usize,
        /// The first few, with their lines.
        first: Vec<String>,
    },
    /// A file that does not say what its format promises.
    #[error("{path}{at}: expected {expected}, found {found}", path = path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Where in it: `, line 3`, `, record 17`, `: member.bin`; empty for the file as a whole.
        at: String,
        /// What the format asks for.
        expected: String,
        /// What is there.
        found: String,
    },
    /// An archive member that would leave its folder or point elsewhere.
    #[error("{path}: refused member `{member}`: {reason}", path = path.display())]
    HostileArchive {
        /// The archive.
        path: PathBuf,
        /// Name of the member.
        member: String,
        /// Why it is refused.
        reason: &'static str,
    },
    /// A file that has to be fetched first, and may not or cannot be.
    #[error("{file} is not there and cannot be downloaded ({reason}); get it from {url} and put it at {path}", path = path.display())]
    NotDownloaded {
        /// Name of the file.
        file: String,
        /// Where it is published.
        url: String,
        /// Where timburn looks for it.
        path: PathBuf,
        /// Offline mode, or the network's error.
        reason: String,
    },
    /// A file whose content is not the published one.
    #[error("{path}: SHA-256 {found}, expected {expected}; remove the file and fetch it again", path = path.display())]
    HashMismatch {
        /// The file.
        path: PathBuf,
        /// The pinned hash, hexadecimal.
        expected: String,
        /// The file's, hexadecimal.
        found: String,
    },
    /// More unreadable pictures than allowed.
    #[error("{bad} of {seen} pictures cannot be read, more than the {allowed} allowed; the first: {first}")]
    TooManyBadFiles {
        /// Unreadable pictures so far.
        bad: usize,
        /// Pictures tried so far.
        seen: usize,
        /// How many may be bad.
        allowed: usize,
        /// The first error.
        first: String,
    },
    /// A thread that prepares samples died; the panic was caught.
    #[error("preparing sample {name} failed: {reason}")]
    Worker {
        /// The sample.
        name: String,
        /// The panic's message.
        reason: String,
    },
}

/// The three lists as one sentence, a few names of each.
fn differences(missing: &[String], unknown: &[String], moved: &[String]) -> String {
    let few = |(what, names): (&str, &[String])| {
        let shown = names.iter().take(5).map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        let rest = if names.len() > 5 { format!(" and {} more", names.len() - 5) } else { String::new() };
        (!names.is_empty()).then(|| format!("{what} {shown}{rest}"))
    };
    [("missing", missing), ("unknown", unknown), ("at another index", moved)].into_iter().filter_map(few).collect::<Vec<_>>().join("; ")
}
