use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ureq::Agent;
use ureq::http::{Response, StatusCode};

use super::Progress;
use crate::digest::Hasher;
use crate::{Error, Result};

/// More hops than any honest host needs.
const MAX_REDIRECTS: usize = 8;
/// A server that says nothing for so long is gone.
const SILENCE: Duration = Duration::from_secs(60);

/// Waits until no other process holds `path`; the lock goes with the returned file, however the process ends.
///
/// # Errors
/// [`Error::Io`] naming the file.
pub fn lock(path: &Path) -> Result<File> {
    let file = File::create(path).map_err(Error::io("create", path))?;
    file.lock().map_err(Error::io("lock", path))?;
    Ok(file)
}

/// Why a transfer did not end well.
#[derive(Debug)]
pub enum TransferError {
    /// The network or the server; what has arrived stays for the next try.
    Network(String),
    /// This machine.
    Local(Error),
}

impl From<Error> for TransferError {
    fn from(error: Error) -> Self {
        Self::Local(error)
    }
}

/// An answer of a server on the way to the file, redirects included.
#[derive(Debug)]
pub struct Answer<'a>(&'a Response<ureq::Body>);

impl Answer<'_> {
    /// Value of a header line, empty where there is none.
    pub fn header(&self, name: &str) -> String {
        header(self.0, name)
    }
}

/// One file on its way to `incomplete`.
#[derive(Debug)]
pub struct Transfer<'a> {
    /// What [`Progress`] calls the file.
    pub name: &'a str,
    /// Where it is.
    pub url: &'a str,
    /// Value of `Authorization` for the URL's own host; redirects do not get it.
    pub authorization: Option<String>,
    /// Where its bytes go. What an earlier try left there is continued when the server still has the same file.
    pub incomplete: &'a Path,
    /// More bytes than this are refused.
    pub limit: u64,
}

impl Transfer<'_> {
    /// Fetches the file; returns the SHA-256 of `incomplete` in hexadecimal. The caller compares it, then calls
    /// [`finish`](Self::finish) or [`discard`](Self::discard). `hear` is told of every answer.
    ///
    /// # Errors
    /// [`TransferError`].
    pub fn run(&self, progress: &dyn Progress, hear: &mut dyn FnMut(&Answer<'_>)) -> Result<String, TransferError> {
        let io = |action| Error::io(action, self.incomplete);
        let mut file = OpenOptions::new().create(true).read(true).append(true).open(self.incomplete).map_err(io("create"))?;
        let mut hash = Hasher::default();
        file.seek(SeekFrom::Start(0)).map_err(io("read"))?;
        let mut done = hash.update_from(&mut file).map_err(io("read"))?;
        let validator = fs::read_to_string(self.validator()).unwrap_or_default();

        let mut response = self.request(done, &validator, hear)?;
        if response.status() == StatusCode::RANGE_NOT_SATISFIABLE && done > 0 {
            response = self.request(0, "", &mut |_| ())?;
        }
        if !response.status().is_success() {
            // What is there stays there for the next try.
            return Err(TransferError::Network(format!("the server answers {}", response.status())));
        }
        if response.status() != StatusCode::PARTIAL_CONTENT && done > 0 {
            // The server sends the whole file: it has changed, or ranges are not served.
            file.set_len(0).map_err(io("truncate"))?;
            (hash, done) = (Hasher::default(), 0);
        }
        let _ = fs::write(self.validator(), header(&response, "etag"));
        let length = header(&response, "content-length").parse::<u64>().ok();
        let total = length.map(|length| done.saturating_add(length));
        progress.start(self.name, done, total);

        let mut body = response.into_body().into_reader();
        let mut buffer = vec![0; 1 << 16];
        loop {
            let broken = |error| TransferError::Network(format!("the connection broke after {done} bytes: {error}"));
            let count = body.read(&mut buffer).map_err(broken)?;
            if count == 0 {
                break;
            }
            done += count as u64;
            if done > self.limit {
                self.discard()?;
                return Err(TransferError::Network(format!("the server sends more than the {} bytes of the published file", self.limit)));
            }
            file.write_all(&buffer[..count]).map_err(io("write"))?;
            hash.update(&buffer[..count]);
            progress.advance(count as u64);
        }
        if let Some(total) = total.filter(|total| *total != done) {
            return Err(TransferError::Network(format!("{done} bytes arrived of {total}")));
        }
        file.sync_all().map_err(io("write"))?;
        Ok(hash.finish())
    }

    /// Moves the verified file to its place, on the same file system.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn finish(&self, path: &Path) -> Result<()> {
        fs::rename(self.incomplete, path).map_err(Error::io("rename", self.incomplete))?;
        self.forget_validator();
        Ok(())
    }

    /// Removes what arrived: wrong bytes are no start for the next try.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn discard(&self) -> Result<()> {
        fs::remove_file(self.incomplete).map_err(Error::io("remove", self.incomplete))?;
        self.forget_validator();
        Ok(())
    }

    /// File with the validator (`ETag`) of the bytes received so far.
    fn validator(&self) -> PathBuf {
        self.incomplete.with_extension("etag")
    }

    fn forget_validator(&self) {
        let _ = fs::remove_file(self.validator());
    }

    /// Asks for the file from byte `from` on, following redirects by hand: every answer is heard, and the authorization must not follow
    /// to another host.
    fn request(&self, from: u64, validator: &str, hear: &mut dyn FnMut(&Answer<'_>)) -> Result<Response<ureq::Body>, TransferError> {
        let config = Agent::config_builder()
            .max_redirects(0)
            .max_redirects_will_error(false)
            .http_status_as_error(false)
            .timeout_connect(Some(SILENCE))
            .timeout_recv_response(Some(SILENCE))
            .timeout_per_read(Some(SILENCE))
            .user_agent(concat!("timburn/", env!("CARGO_PKG_VERSION")));
        let agent: Agent = config.build().into();
        let mut url = self.url.to_owned();
        for hop in 0..=MAX_REDIRECTS {
            let mut request = agent.get(&url).header("accept-encoding", "identity");
            if from > 0 {
                request = request.header("range", format!("bytes={from}-"));
                if !validator.is_empty() {
                    request = request.header("if-range", validator);
                }
            }
            if let Some(authorization) = self.authorization.as_ref().filter(|_| hop == 0) {
                request = request.header("authorization", authorization);
            }
            let response = request.call().map_err(|error| TransferError::Network(error.to_string()))?;
            hear(&Answer(&response));
            if !response.status().is_redirection() {
                return Ok(response);
            }
            let location = header(&response, "location");
            url = absolute(&url, &location).ok_or_else(|| TransferError::Network(format!("it redirects to `{location}`")))?;
        }
        Err(TransferError::Network(format!("more than {MAX_REDIRECTS} redirects")))
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
