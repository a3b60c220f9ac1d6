//! A download: into a file of its own, resumed where it stopped, verified, and only then renamed into the cache.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use timburn_core::{Error, Result, WeightsError};
use ureq::http::Response;

use super::cache::{Place, hash_into, hexadecimal};
use super::http::{Client, header, join};
use super::{HubOptions, Progress};
use crate::write::sync_folder;

/// No published weights are larger; a server that sends without end is cut off.
const MAX_SIZE: u64 = 16 << 30;

/// What is known about a file before its first byte.
struct Wanted {
    url: String,
    /// SHA-256 or the beginning of it.
    sha256: String,
    /// Snapshot of the file.
    revision: String,
}

pub(super) fn download(place: &Place, options: &HubOptions, progress: &mut dyn Progress) -> Result<PathBuf> {
    let client = Client::new(options);
    let failed = |reason: String| Error::from(WeightsError::Download { url: place.url.clone(), reason, path: place.path() });
    let wanted = match &place.sha256 {
        Some(sha256) => Wanted { url: place.url.clone(), sha256: sha256.clone(), revision: "main".into() },
        None => ask_hub(&client, &place.url).map_err(failed)?,
    };
    let blobs = place.folder.join("blobs");
    fs::create_dir_all(&blobs).map_err(Error::io("create", &blobs))?;
    // A full hash is the blob's name to be; a prefix alone is too little to tell files apart.
    let name = if place.is_hub() { wanted.sha256.clone() } else { place.file.clone() };
    let _lock = lock(place, options, &name)?;
    if let Some(path) = place.find(options)? {
        // Another process was faster.
        return Ok(path);
    }
    let transfer = Transfer {
        part: blobs.join(format!("{name}.incomplete")),
        validator: blobs.join(format!("{name}.incomplete.etag")),
        title: &place.file,
        wanted: &wanted,
    };
    let blob = blobs.join(&wanted.sha256);
    let sha256 = if blob.is_file() {
        // Downloaded for another snapshot.
        wanted.sha256.clone()
    } else {
        let sha256 = transfer.run(&client, progress, &failed)?;
        let blob = blobs.join(&sha256);
        fs::rename(&transfer.part, &blob).map_err(Error::io("rename", &transfer.part))?;
        let _ = fs::remove_file(&transfer.validator);
        sync_folder(&blobs);
        sha256
    };
    place.install(&sha256, &wanted.revision)
}

/// Commit and SHA-256 of a file on the hub. For large files it states them on the way to the server that has the bytes.
fn ask_hub(client: &Client<'_>, url: &str) -> Result<Wanted, String> {
    let mut at = url.to_owned();
    let mut commit = None;
    for _ in 0..5 {
        let reply = client.head(&at)?;
        let headers = reply.headers();
        commit = commit.or_else(|| header(headers, "x-repo-commit").map(str::to_owned));
        let etag = header(headers, "x-linked-etag").or_else(|| header(headers, "etag").filter(|_| reply.status().is_success()));
        if let Some(etag) = etag {
            let sha256 = etag.trim_start_matches("W/").trim_matches('"').to_lowercase();
            let commit = commit.ok_or("the hub does not say which commit it is")?;
            if sha256.len() != 64 || !is_hexadecimal(&sha256) || !is_hexadecimal(&commit) {
                return Err(format!("the hub states no SHA-256 for it (`{sha256}`)"));
            }
            return Ok(Wanted { url: url.replace("/resolve/main/", &format!("/resolve/{commit}/")), sha256, revision: commit });
        }
        if !reply.status().is_redirection() {
            return Err(status_reason(&reply));
        }
        let location = header(headers, "location").and_then(|location| join(&at, location));
        at = location.ok_or_else(|| format!("{} without an address", reply.status()))?;
    }
    Err("too many redirects".into())
}

fn is_hexadecimal(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn status_reason<B>(reply: &Response<B>) -> String {
    match reply.status().as_u16() {
        401 | 403 => format!("HTTP {}; set HF_TOKEN if you have access", reply.status()),
        _ => format!("HTTP {}", reply.status()),
    }
}

/// Holds others off this file until it is dropped. A file system without locks costs a second download at worst: every process writes the
/// same bytes and verifies them.
fn lock(place: &Place, options: &HubOptions, name: &str) -> Result<File> {
    let folder = options.cache.join(".locks").join(place.folder.file_name().unwrap_or_default());
    fs::create_dir_all(&folder).map_err(Error::io("create", &folder))?;
    let path = folder.join(format!("{name}.lock"));
    let file = OpenOptions::new().create(true).write(true).truncate(false).open(&path).map_err(Error::io("create", &path))?;
    match file.lock() {
        Err(error) if error.kind() != std::io::ErrorKind::Unsupported => Err(Error::io("lock", &path)(error)),
        _ => Ok(file),
    }
}

struct Transfer<'a> {
    /// The bytes so far.
    part: PathBuf,
    /// The server's name for the version that they belong to.
    validator: PathBuf,
    title: &'a str,
    wanted: &'a Wanted,
}

impl Transfer<'_> {
    /// Completes [`part`](Self::part) and returns its SHA-256. A transfer that breaks off leaves it for the next attempt, a wrong one
    /// removes it.
    fn run(&self, client: &Client<'_>, progress: &mut dyn Progress, failed: &dyn Fn(String) -> Error) -> Result<String> {
        let mut reply = None;
        let mut done = 0;
        if let Some((length, validator)) = self.resumable() {
            let resume = [("Range", format!("bytes={length}-")), ("If-Range", validator)];
            let resumed = client.get(&self.wanted.url, &resume).map_err(failed)?;
            match resumed.status().as_u16() {
                206 if header(resumed.headers(), "content-range").and_then(range_start) == Some(length) => {
                    done = length;
                    reply = Some(resumed);
                }
                // The server does not resume, or has another version: from the beginning.
                200 => reply = Some(resumed),
                206 | 416 => {}
                _ => return Err(failed(status_reason(&resumed))),
            }
        }
        let reply = match reply {
            Some(reply) => reply,
            None => client.get(&self.wanted.url, &[]).map_err(failed)?,
        };
        if !reply.status().is_success() {
            return Err(failed(status_reason(&reply)));
        }

        let mut hash = Sha256::new();
        if done > 0 {
            done = hash_into(&mut hash, &self.part)?;
        } else {
            self.restart(header(reply.headers(), "etag"))?;
        }
        let length = header(reply.headers(), "content-length").and_then(|length| length.parse::<u64>().ok());
        let total = length.and_then(|length| length.checked_add(done));
        progress.start(self.title, total, done);
        let received = self.receive(reply, &mut hash, done, progress);
        progress.finish();
        let received = received?.map_err(failed)?;
        if let Some(total) = total.filter(|&total| total != received) {
            return Err(failed(format!("{received} of {total} bytes")));
        }

        let found = hexadecimal(hash);
        if !found.starts_with(&self.wanted.sha256) {
            let _ = fs::remove_file(&self.part);
            let _ = fs::remove_file(&self.validator);
            return Err(WeightsError::Hash { name: self.wanted.url.clone(), expected: self.wanted.sha256.clone(), found }.into());
        }
        Ok(found)
    }

    /// Bytes that are here and the strong validator that they can be resumed with.
    fn resumable(&self) -> Option<(u64, String)> {
        let length = fs::metadata(&self.part).ok()?.len();
        let validator = fs::read_to_string(&self.validator).ok()?;
        (length > 0 && validator.starts_with('"')).then_some((length, validator))
    }

    fn restart(&self, etag: Option<&str>) -> Result<()> {
        // In this order: a validator never stands beside the bytes of another version.
        let _ = fs::remove_file(&self.validator);
        File::create(&self.part).map_err(Error::io("create", &self.part))?;
        match etag {
            Some(etag) => fs::write(&self.validator, etag).map_err(Error::io("write", &self.validator)),
            None => Ok(()),
        }
    }

    /// Appends the body and returns the length of the whole. The outer error is this machine's, the inner one the network's.
    fn receive(&self, reply: Response<ureq::Body>, hash: &mut Sha256, mut done: u64, progress: &mut dyn Progress) -> Result<Result<u64, String>> {
        let write_failed = |path: &Path| Error::io("write", path);
        let mut file = OpenOptions::new().append(true).open(&self.part).map_err(write_failed(&self.part))?;
        let mut body = reply.into_body().into_reader();
        let mut buffer = vec![0; 1 << 18];
        let ended = loop {
            match body.read(&mut buffer) {
                Ok(0) => break Ok(done),
                Ok(count) => {
                    hash.update(&buffer[..count]);
                    file.write_all(&buffer[..count]).map_err(write_failed(&self.part))?;
                    done += count as u64;
                    progress.advance(count as u64);
                    if done > MAX_SIZE {
                        break Err(format!("more than {MAX_SIZE} bytes"));
                    }
                }
                Err(error) => break Err(format!("after {done} bytes: {error}")),
            }
        };
        file.sync_all().map_err(write_failed(&self.part))?;
        Ok(ended)
    }
}

/// First position of a `Content-Range: bytes 100-199/200`.
fn range_start(value: &str) -> Option<u64> {
    value.strip_prefix("bytes ")?.split('-').next()?.trim().parse().ok()
}
