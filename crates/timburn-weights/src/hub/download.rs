use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest, Sha256};
use timburn_core::{Error, Result, WeightsError};
use ureq::Agent;
use ureq::http::{Response, StatusCode};

use super::cache::{Repository, hexadecimal, update};
use super::{HubOptions, Progress, Source, check};

/// More hops than any honest host needs.
const MAX_REDIRECTS: usize = 8;
/// A server that says nothing for so long is gone.
const SILENCE: Duration = Duration::from_secs(60);

/// Fetches `source` into `repository` and returns its path there.
pub(super) fn download(source: &Source, repository: &Repository, options: &HubOptions, progress: &dyn Progress) -> Result<PathBuf> {
    let blobs = repository.root.join("blobs");
    for folder in [&blobs, &repository.locks] {
        fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
    }
    // One process at a time per file; the lock goes with the process, however it ends.
    let lock = repository.locks.join(format!("{}.lock", source.file));
    let lock_file = File::create(&lock).map_err(Error::io("create", &lock))?;
    lock_file.lock().map_err(Error::io("lock", &lock))?;
    if let Some(path) = repository.find(&source.file) {
        return Ok(path);
    }

    let incomplete = blobs.join(format!("{}.incomplete", source.file));
    let transfer = Transfer { source, options, incomplete: &incomplete, place: repository.place(&source.file) };
    let received = transfer.run(progress)?;
    let expected = if source.sha256.is_empty() { &received.stated } else { &source.sha256 };
    let verdict = if expected.is_empty() {
        Err(transfer.failed("the server states no SHA-256 and none is known"))
    } else {
        check(Path::new(&source.url), &received.sha256, expected)
    };
    if let Err(error) = verdict {
        // What is wrong stays wrong: the next try starts afresh.
        fs::remove_file(&incomplete).map_err(Error::io("remove", &incomplete))?;
        transfer.forget_validator();
        return Err(error.into());
    }
    let blob = blobs.join(&received.sha256);
    fs::rename(&incomplete, &blob).map_err(Error::io("rename", &incomplete))?;
    transfer.forget_validator();
    publish(repository, &source.file, &blob, &received.revision)
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

/// A finished transfer.
struct Received {
    /// Of the bytes on the disk.
    sha256: String,
    /// By the server; empty when it states none.
    stated: String,
    /// Commit of the hub's repository, `main` elsewhere.
    revision: String,
}

/// What a first answer says of the file.
struct Headers {
    stated: String,
    revision: String,
}

struct Transfer<'a> {
    source: &'a Source,
    options: &'a HubOptions,
    incomplete: &'a Path,
    place: PathBuf,
}

impl Transfer<'_> {
    fn failed(&self, reason: impl ToString) -> WeightsError {
        WeightsError::Download { url: self.source.url.clone(), reason: reason.to_string(), path: self.place.clone() }
    }

    /// File with the validator (`ETag`) of the bytes received so far.
    fn validator(&self) -> PathBuf {
        self.incomplete.with_extension("etag")
    }

    fn forget_validator(&self) {
        let _ = fs::remove_file(self.validator());
    }

    fn run(&self, progress: &dyn Progress) -> Result<Received> {
        let io = |action| Error::io(action, self.incomplete);
        let mut file = OpenOptions::new().create(true).read(true).append(true).open(self.incomplete).map_err(io("create"))?;
        let mut hash = Sha256::new();
        file.seek(SeekFrom::Start(0)).map_err(io("read"))?;
        let mut done = update(&mut hash, &mut file).map_err(io("read"))?;
        let validator = fs::read_to_string(self.validator()).unwrap_or_default();

        let (headers, mut response) = self.request(done, &validator)?;
        if response.status() == StatusCode::RANGE_NOT_SATISFIABLE && done > 0 {
            response = self.request(0, "")?.1;
        }
        if !response.status().is_success() {
            // What is there stays there for the next try.
            return Err(self.failed(format!("the server answers {}", response.status())).into());
        }
        if response.status() != StatusCode::PARTIAL_CONTENT && done > 0 {
            // The server sends the whole file: it has changed, or ranges are not served.
            file.set_len(0).map_err(io("truncate"))?;
            (hash, done) = (Sha256::new(), 0);
        }
        let _ = fs::write(self.validator(), header(&response, "etag"));
        let length = header(&response, "content-length").parse::<u64>().ok();
        let total = length.map(|length| done + length);
        progress.start(&self.source.name, done, total);

        let mut body = response.into_body().into_reader();
        let mut buffer = vec![0; 1 << 16];
        loop {
            let count = body.read(&mut buffer).map_err(|error| self.failed(format!("the connection broke after {done} bytes: {error}")))?;
            if count == 0 {
                break;
            }
            file.write_all(&buffer[..count]).map_err(io("write"))?;
            hash.update(&buffer[..count]);
            done += count as u64;
            progress.advance(count as u64);
        }
        if total.is_some_and(|total| total != done) {
            return Err(self.failed(format!("{done} bytes arrived of {}", total.unwrap_or_default())).into());
        }
        file.sync_all().map_err(io("write"))?;
        Ok(Received { sha256: hexadecimal(hash), stated: headers.stated, revision: headers.revision })
    }

    /// Asks for the file from byte `from` on, following redirects by hand: the hub states digest and commit in its first answer only, and
    /// the token must not follow to another host.
    fn request(&self, from: u64, validator: &str) -> Result<(Headers, Response<ureq::Body>), WeightsError> {
        let config = Agent::config_builder()
            .max_redirects(0)
            .max_redirects_will_error(false)
            .http_status_as_error(false)
            .timeout_connect(Some(SILENCE))
            .timeout_recv_response(Some(SILENCE))
            .timeout_per_read(Some(SILENCE))
            .user_agent(concat!("timburn/", env!("CARGO_PKG_VERSION")));
        let agent: Agent = config.build().into();
        let mut headers = Headers { stated: String::new(), revision: "main".into() };
        let mut url = self.source.url.clone();
        for hop in 0..=MAX_REDIRECTS {
            let mut request = agent.get(&url).header("accept-encoding", "identity");
            if from > 0 {
                request = request.header("range", format!("bytes={from}-"));
                if !validator.is_empty() {
                    request = request.header("if-range", validator);
                }
            }
            if let Some(token) = self.options.token.as_ref().filter(|_| self.source.is_hub && hop == 0) {
                request = request.header("authorization", format!("Bearer {token}"));
            }
            let response = request.call().map_err(|error| self.failed(error))?;
            if self.source.is_hub {
                for name in ["x-linked-etag", "etag"] {
                    let digest = header(&response, name).trim_start_matches("W/").trim_matches('"').to_lowercase();
                    if headers.stated.is_empty() && digest.len() == 64 && digest.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                        headers.stated = digest;
                    }
                }
                let revision = header(&response, "x-repo-commit");
                if !revision.is_empty() && revision.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
                    headers.revision = revision;
                }
            }
            if !response.status().is_redirection() {
                return Ok((headers, response));
            }
            let location = header(&response, "location");
            url = absolute(&url, &location).ok_or_else(|| self.failed(format!("it redirects to `{location}`")))?;
        }
        Err(self.failed(format!("more than {MAX_REDIRECTS} redirects")))
    }
}

fn header<T>(response: &Response<T>, name: &str) -> String {
    response.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
}

/// `location` seen from `base`: absolute, or a path on the same host. HTTPS is never left for HTTP.
fn absolute(base: &str, location: &str) -> Option<String> {
    let (scheme, rest) = base.split_once("://")?;
    if location.starts_with("https://") || (scheme == "http" && location.starts_with("http://")) {
        Some(location.to_owned())
    } else if location.starts_with('/') && !location.starts_with("//") {
        let host = rest.split('/').next()?;
        Some(format!("{scheme}://{host}{location}"))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::absolute;

    #[test]
    fn redirects_stay_encrypted() {
        assert_eq!(absolute("https://a/b", "https://c/d").as_deref(), Some("https://c/d"));
        assert_eq!(absolute("https://a/b/c", "/d").as_deref(), Some("https://a/d"));
        assert_eq!(absolute("https://a/b", "http://c/d"), None);
        assert_eq!(absolute("http://a/b", "http://c/d").as_deref(), Some("http://c/d"));
        assert_eq!(absolute("https://a/b", "file:///etc/passwd"), None);
        assert_eq!(absolute("https://a/b", "//c/d"), None);
    }
}
