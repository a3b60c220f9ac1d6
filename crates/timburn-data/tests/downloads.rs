//! Data sets fetched from a server on loopback that serves, breaks off, lies, or is not there.
#![cfg(feature = "download")]
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "tests")]

#[path = "../../timburn-weights/tests/common/mod.rs"]
mod server;

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use server::{Server, file, reply};
use sha2::{Digest, Sha256};
use timburn_core::Error;
use timburn_core::error::DataError;
use timburn_data::dataset::download::{CacheOptions, PublicSet, PublishedFile, download, fetch_file};

fn body() -> Vec<u8> {
    (0..200_000u32).map(|i| (i * 31 % 251) as u8).collect()
}

fn sha256() -> String {
    Sha256::digest(body()).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn options(cache: &Path) -> CacheOptions {
    CacheOptions { cache: cache.to_owned(), offline: None }
}

fn data_error<T: std::fmt::Debug>(outcome: timburn_core::Result<T>) -> DataError {
    match outcome {
        Err(Error::Data(error)) => error,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_broken_transfer_is_continued_and_the_file_kept() {
    let cache = tempfile::tempdir().unwrap();
    let folder = cache.path().join("set");
    let first = AtomicUsize::new(0);
    let server = Server::start(move |request| match first.fetch_add(1, Ordering::SeqCst) {
        0 => reply("200 OK", &[("etag", "\"v1\""), ("content-length", "200000")], &body()[..70_000]),
        _ => file(request, &body()),
    });
    let (url, sha256) = (format!("{}/set.gz", server.url), sha256());
    let published = PublishedFile { file: "set.gz", url: &url, sha256: &sha256, length: Some(200_000) };
    let DataError::NotDownloaded { path, url: named, .. } = data_error(fetch_file(&published, &folder, &options(cache.path()), &())) else {
        panic!()
    };
    assert_eq!((path, named), (folder.join("set.gz"), url.clone()));
    assert!(!folder.join("set.gz").exists(), "nothing unverified is visible");
    let path = fetch_file(&published, &folder, &options(cache.path()), &()).unwrap();
    assert_eq!(fs::read(&path).unwrap(), body());
    assert_eq!(server.requests()[1].range(), Some(70_000));
    let offline = CacheOptions { offline: Some("TIMBURN_OFFLINE"), ..options(cache.path()) };
    assert_eq!(fetch_file(&published, &folder, &offline, &()).unwrap(), path);
    assert_eq!(server.requests().len(), 2);
    // What changes later is hashed again.
    fs::write(&path, b"garbled").unwrap();
    assert!(matches!(data_error(fetch_file(&published, &folder, &offline, &())), DataError::HashMismatch { .. }));
}

#[test]
fn other_content_than_the_published_is_refused() {
    let cache = tempfile::tempdir().unwrap();
    let server = Server::start(|request| file(request, &body()));
    let url = format!("{}/set.gz", server.url);
    let wrong = "0".repeat(64);
    let published = PublishedFile { file: "set.gz", url: &url, sha256: &wrong, length: None };
    let DataError::HashMismatch { found, .. } = data_error(fetch_file(&published, cache.path(), &options(cache.path()), &())) else {
        panic!()
    };
    assert_eq!(found, sha256());
    assert!(!cache.path().join("set.gz").exists() && !cache.path().join(".set.gz.incomplete").exists());
    // A server that does not stop.
    let sha256 = sha256();
    let published = PublishedFile { file: "set.gz", url: &url, sha256: &sha256, length: Some(100_000) };
    let error = data_error(fetch_file(&published, cache.path(), &options(cache.path()), &())).to_string();
    assert!(error.contains("more than the 100000 bytes"), "{error}");
    assert!(!cache.path().join(".set.gz.incomplete").exists());
}

#[test]
fn offline_names_the_file_the_url_and_the_place() {
    let cache = tempfile::tempdir().unwrap();
    let options = CacheOptions { cache: cache.path().to_owned(), offline: Some("HF_HUB_OFFLINE") };
    for set in PublicSet::ALL {
        let first = set.files()[0][0];
        let DataError::NotDownloaded { file, url, path, reason } = data_error(download(set, &options, &())) else { panic!() };
        assert_eq!((file.as_str(), url.as_str()), (first.file, first.url));
        assert_eq!(path, cache.path().join(set.name()).join(first.file));
        assert!(reason.contains("HF_HUB_OFFLINE"));
    }
    // A file put there by hand is found, and is not taken for what it is not.
    let path = cache.path().join("cifar10/cifar-10-python.tar.gz");
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, b"not CIFAR").unwrap();
    let DataError::HashMismatch { path: named, .. } = data_error(download(PublicSet::Cifar10, &options, &())) else { panic!() };
    assert_eq!(named, path);
}

#[test]
fn nobody_answers() {
    let cache = tempfile::tempdir().unwrap();
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (url, sha256) = (format!("http://{closed}/set.gz"), sha256());
    let published = PublishedFile { file: "set.gz", url: &url, sha256: &sha256, length: None };
    let error = data_error(fetch_file(&published, cache.path(), &options(cache.path()), &())).to_string();
    assert!(error.contains(&url) && error.contains("put it at"), "{error}");
}
