use std::fs;
use std::path::{Path, PathBuf};

use timburn_core::fetch::{Answer, Transfer, TransferError, lock};
use timburn_core::{Error, Result, WeightsError};

use super::cache::Repository;
use super::{HubOptions, Progress, Source, check};

/// Fetches `source` into `repository` and returns its path there.
pub(super) fn download(source: &Source, repository: &Repository, options: &HubOptions, progress: &dyn Progress) -> Result<PathBuf> {
    let blobs = repository.root.join("blobs");
    for folder in [&blobs, &repository.locks] {
        fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
    }
    // One process at a time per file.
    let _locked = lock(&repository.locks.join(format!("{}.lock", source.file)))?;
    if let Some(path) = repository.find(&source.file) {
        return Ok(path);
    }

    let failed = |reason| WeightsError::Download { url: source.url.clone(), reason, path: repository.place(&source.file) };
    let transfer = Transfer {
        name: &source.name,
        url: &source.url,
        authorization: options.token.as_ref().filter(|_| source.is_hub).map(|token| format!("Bearer {token}")),
        incomplete: &blobs.join(format!("{}.incomplete", source.file)),
        limit: u64::MAX,
    };
    let mut headers = Headers { stated: String::new(), revision: "main".into() };
    let mut hear = |answer: &Answer<'_>| {
        if source.is_hub {
            headers.hear(answer);
        }
    };
    let sha256 = transfer.run(progress, &mut hear).map_err(|error| match error {
        TransferError::Network(reason) => failed(reason).into(),
        TransferError::Local(error) => error,
    })?;
    let expected = if source.sha256.is_empty() { &headers.stated } else { &source.sha256 };
    let verdict = if expected.is_empty() {
        Err(failed("the server states no SHA-256 and none is known".into()))
    } else {
        check(Path::new(&source.url), &sha256, expected)
    };
    if let Err(error) = verdict {
        // What is wrong stays wrong: the next try starts afresh.
        transfer.discard()?;
        return Err(error.into());
    }
    let blob = blobs.join(&sha256);
    transfer.finish(&blob)?;
    publish(repository, &source.file, &blob, &headers.revision)
}

/// What the hub's answers say of the file; it states digest and commit before it redirects.
struct Headers {
    /// SHA-256; empty when none is stated.
    stated: String,
    /// Commit of the hub's repository, `main` elsewhere.
    revision: String,
}

impl Headers {
    fn hear(&mut self, answer: &Answer<'_>) {
        for name in ["x-linked-etag", "etag"] {
            let digest = answer.header(name).trim_start_matches("W/").trim_matches('"').to_lowercase();
            if self.stated.is_empty() && digest.len() == 64 && digest.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                self.stated = digest;
            }
        }
        let revision = answer.header("x-repo-commit");
        if !revision.is_empty() && revision.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            self.revision = revision;
        }
    }
}

/// Makes the blob visible in a snapshot, as the hub's clients do: a link, or a copy where there are no links.
fn publish(repository: &Repository, file: &str, blob: &Path, revision: &str) -> Result<PathBuf> {
    let snapshot = repository.root.join("snapshots").join(revision);
    fs::create_dir_all(&snapshot).map_err(Error::io("create", &snapshot))?;
    let path = snapshot.join(file);
    let temporary = snapshot.join(format!(".{file}.new"));
    let _ = fs::remove_file(&temporary);
    link(blob, &temporary).map_err(Error::io("create", &temporary))?;
    fs::rename(&temporary, &path).map_err(Error::io("rename", &temporary))?;
    let refs = repository.root.join("refs");
    fs::create_dir_all(&refs).map_err(Error::io("create", &refs))?;
    let reference = refs.join("main");
    fs::write(&reference, revision).map_err(Error::io("write", &reference))?;
    Ok(path)
}

fn link(blob: &Path, path: &Path) -> std::io::Result<()> {
    #[cfg(unix)]
    if let Some(name) = blob.file_name()
        && std::os::unix::fs::symlink(Path::new("../../blobs").join(name), path).is_ok()
    {
        return Ok(());
    }
    fs::hard_link(blob, path).or_else(|_| fs::copy(blob, path).map(|_| ()))
}
