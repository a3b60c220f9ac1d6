//! Downloads from a real server on loopback that sends wrong bytes, too few, in circles, or twice at once.
#![cfg(feature = "pretrained")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use common::{Server, file, reply};
use sha2::{Digest, Sha256};
use timburn_core::{Error, WeightsError};
use timburn_weights::hub::{HubOptions, Progress, Source, fetch};

fn body() -> Vec<u8> {
    (0..300_000u32).map(|i| (i * 31 % 251) as u8).collect()
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn options(cache: &Path) -> HubOptions {
    HubOptions {
        cache: cache.join("hub"),
        torch: cache.join("torch"),
        endpoint: String::new(),
        token: Some("secret".into()),
        offline: None,
    }
}

fn source(url: String, sha256: &str) -> Source {
    Source {
        name: "net.tag".into(),
        repository: "timburn/published".into(),
        file: "net.pth".into(),
        url,
        sha256: sha256.into(),
        is_hub: false,
    }
}

fn repository(cache: &Path) -> PathBuf {
    cache.join("hub/models--timburn--published")
}

/// Everything a failed download may leave: no blob, no snapshot.
fn assert_nothing_published(cache: &Path) {
    assert!(!repository(cache).join("snapshots").exists(), "a snapshot of an unverified file");
    let blobs = std::fs::read_dir(repository(cache).join("blobs")).unwrap().flatten().map(|entry| entry.file_name().into_string().unwrap());
    let finished: Vec<String> = blobs.filter(|name| !name.ends_with(".incomplete") && !name.ends_with(".etag")).collect();
    assert!(finished.is_empty(), "{finished:?}");
}

fn weights_error(outcome: timburn_core::Result<PathBuf>) -> WeightsError {
    match outcome {
        Err(Error::Weights(error)) => error,
        other => panic!("{other:?}"),
    }
}

#[derive(Default)]
struct Counter {
    done: AtomicU64,
    total: AtomicU64,
    advanced: AtomicU64,
}

impl Progress for Counter {
    fn start(&self, name: &str, done: u64, total: Option<u64>) {
        assert_eq!(name, "net.tag");
        self.done.store(done, Ordering::Relaxed);
        self.total.store(total.unwrap_or(0), Ordering::Relaxed);
    }
    fn advance(&self, bytes: u64) {
        self.advanced.fetch_add(bytes, Ordering::Relaxed);
    }
}

#[test]
fn a_good_file_is_fetched_once_and_lies_as_the_hub_lays_it() {
    let cache = tempfile::tempdir().unwrap();
    let server = Server::start(|request| file(request, &body()));
    let source = source(format!("{}/net.pth", server.url), &sha256(&body())[..8]);
    let progress = Counter::default();
    let path = fetch(&source, &options(cache.path()), &progress).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), body());
    assert_eq!(path, repository(cache.path()).join("snapshots/main/net.pth"));
    assert_eq!(std::fs::read_to_string(repository(cache.path()).join("refs/main")).unwrap(), "main");
    assert_eq!(std::fs::read(repository(cache.path()).join("blobs").join(sha256(&body()))).unwrap(), body());
    assert_eq!((progress.total.into_inner(), progress.advanced.into_inner()), (300_000, 300_000));
    assert_eq!(server.requests()[0].header("authorization"), None, "the token is the hub's alone");
    assert_eq!(fetch(&source, &options(cache.path()), &()).unwrap(), path);
    assert_eq!(server.requests().len(), 1, "the cache answers the second time");
}

#[test]
fn wrong_bytes_are_refused_and_forgotten() {
    let cache = tempfile::tempdir().unwrap();
    let server = Server::start(|request| file(request, b"not what was asked for"));
    let source = source(format!("{}/net.pth", server.url), &sha256(&body()));
    let WeightsError::Hash { expected, found, .. } = weights_error(fetch(&source, &options(cache.path()), &())) else { panic!() };
    assert_eq!((expected, found), (sha256(&body()), sha256(b"not what was asked for")));
    assert_nothing_published(cache.path());
    assert!(!repository(cache.path()).join("blobs/net.pth.incomplete").exists(), "wrong bytes are no start for a resume");
}

#[test]
fn a_short_body_is_an_error_and_the_next_try_continues() {
    let cache = tempfile::tempdir().unwrap();
    let first = AtomicUsize::new(0);
    let server = Server::start(move |request| {
        if first.fetch_add(1, Ordering::SeqCst) == 0 {
            // Announces everything, sends a third.
            return reply("200 OK", &[("etag", "\"v1\""), ("content-length", "300000")], &body()[..100_000]);
        }
        file(request, &body())
    });
    let source = source(format!("{}/net.pth", server.url), &sha256(&body()));
    let error = weights_error(fetch(&source, &options(cache.path()), &()));
    assert!(matches!(&error, WeightsError::Download { .. }), "{error}");
    assert_nothing_published(cache.path());
    let progress = Counter::default();
    let path = fetch(&source, &options(cache.path()), &progress).unwrap();
    assert_eq!(std::fs::read(path).unwrap(), body());
    let resumed = &server.requests()[1];
    assert_eq!((resumed.range(), resumed.header("if-range")), (Some(100_000), Some("\"v1\"")));
    assert_eq!((progress.done.into_inner(), progress.total.into_inner(), progress.advanced.into_inner()), (100_000, 300_000, 200_000));
}

#[test]
fn a_server_without_ranges_starts_again() {
    for answer in [
        |_: &common::Request| reply("200 OK", &[], &body()),
        |request: &common::Request| {
            if request.range().is_some() { reply("416 Range Not Satisfiable", &[], b"") } else { reply("200 OK", &[], &body()) }
        },
    ] {
        let cache = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(repository(cache.path()).join("blobs")).unwrap();
        std::fs::write(repository(cache.path()).join("blobs/net.pth.incomplete"), vec![9; 5000]).unwrap();
        let server = Server::start(answer);
        let path = fetch(&source(format!("{}/net.pth", server.url), &sha256(&body())), &options(cache.path()), &()).unwrap();
        assert_eq!(std::fs::read(path).unwrap(), body());
    }
}

#[test]
fn redirects_are_followed_but_not_for_ever() {
    let cache = tempfile::tempdir().unwrap();
    let server = Server::start(|request| match request.path.as_str() {
        "/a" => reply("302 Found", &[("location", "/b")], b""),
        "/b" => file(request, &body()),
        _ => reply("302 Found", &[("location", "/loop")], b""),
    });
    fetch(&source(format!("{}/a", server.url), &sha256(&body())), &options(cache.path()), &()).unwrap();
    let cache = tempfile::tempdir().unwrap();
    let error = weights_error(fetch(&source(format!("{}/loop", server.url), ""), &options(cache.path()), &()));
    assert!(error.to_string().contains("redirects"), "{error}");
    assert_nothing_published(cache.path());
    assert!(server.requests().len() < 15);
}

#[test]
fn refusals_name_the_url_and_the_place_for_the_file() {
    let cache = tempfile::tempdir().unwrap();
    let server = Server::start(|_| reply("404 Not Found", &[], b"no"));
    let url = format!("{}/net.pth", server.url);
    let text = weights_error(fetch(&source(url.clone(), ""), &options(cache.path()), &())).to_string();
    assert!(text.contains(&url) && text.contains("404") && text.contains("snapshots/main/net.pth"), "{text}");
    // Nobody listens on a port that was just closed.
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = weights_error(fetch(&source(format!("http://{closed}/x"), ""), &options(cache.path()), &()));
    assert!(matches!(error, WeightsError::Download { .. }), "{error}");
    let offline = HubOptions { offline: Some("HF_HUB_OFFLINE"), ..options(cache.path()) };
    let WeightsError::Offline { path, why, .. } = weights_error(fetch(&source(url.clone(), ""), &offline, &())) else { panic!() };
    assert_eq!(why, "HF_HUB_OFFLINE");
    // The named place works.
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, b"put there by hand").unwrap();
    assert_eq!(fetch(&source(url, ""), &offline, &()).unwrap(), path);
}

#[test]
fn the_hubs_own_digest_and_commit_are_used() {
    let cache = tempfile::tempdir().unwrap();
    let answer = |digest: String| {
        move |request: &common::Request| match request.path.as_str() {
            "/m/resolve/main/model.safetensors" => {
                let etag = format!("\"{digest}\"");
                reply("302 Found", &[("x-linked-etag", &etag), ("x-repo-commit", "0123abcd"), ("location", "/cdn")], b"")
            }
            _ => file(request, &body()),
        }
    };
    let hub = |server: &Server| Source {
        repository: "timm/net.tag".into(),
        file: "model.safetensors".into(),
        url: format!("{}/m/resolve/main/model.safetensors", server.url),
        is_hub: true,
        ..source(String::new(), "")
    };
    let bad = Server::start(answer(sha256(b"other")));
    assert!(matches!(weights_error(fetch(&hub(&bad), &options(cache.path()), &())), WeightsError::Hash { .. }));
    let good = Server::start(answer(sha256(&body())));
    let path = fetch(&hub(&good), &options(cache.path()), &()).unwrap();
    assert!(path.ends_with("models--timm--net.tag/snapshots/0123abcd/model.safetensors"), "{path:?}");
    let requests = good.requests();
    assert_eq!(requests[0].header("authorization"), Some("Bearer secret"));
    assert_eq!(requests[1].header("authorization"), None, "the token does not follow a redirect");
    // A server that states nothing cannot be trusted with an unknown file.
    let silent = Server::start(|_| reply("200 OK", &[], &body()));
    let other = tempfile::tempdir().unwrap();
    assert!(weights_error(fetch(&hub(&silent), &options(other.path()), &())).to_string().contains("SHA-256"));
}

#[test]
fn torchvisions_cache_is_used_after_its_digest_is_checked() {
    let cache = tempfile::tempdir().unwrap();
    let options = HubOptions { offline: Some("TIMBURN_OFFLINE"), ..options(cache.path()) };
    std::fs::create_dir_all(&options.torch).unwrap();
    let at_hand = options.torch.join("net.pth");
    std::fs::write(&at_hand, body()).unwrap();
    assert_eq!(fetch(&source("http://unused".into(), &sha256(&body())[..8]), &options, &()).unwrap(), at_hand);
    std::fs::write(&at_hand, b"garbled").unwrap();
    let error = weights_error(fetch(&source("http://unused".into(), &sha256(&body())[..8]), &options, &()));
    assert!(matches!(error, WeightsError::Hash { .. }), "{error}");
}

#[test]
fn a_server_that_is_busy_costs_nothing_that_was_received() {
    let cache = tempfile::tempdir().unwrap();
    let incomplete = repository(cache.path()).join("blobs/net.pth.incomplete");
    std::fs::create_dir_all(incomplete.parent().unwrap()).unwrap();
    std::fs::write(&incomplete, &body()[..200_000]).unwrap();
    let first = AtomicUsize::new(0);
    let server = Server::start(move |request| match first.fetch_add(1, Ordering::SeqCst) {
        0 => reply("503 Service Unavailable", &[], b"later"),
        _ => file(request, &body()),
    });
    let source = source(format!("{}/net.pth", server.url), &sha256(&body()));
    let error = weights_error(fetch(&source, &options(cache.path()), &()));
    assert!(error.to_string().contains("503"), "{error}");
    assert_eq!(incomplete.metadata().unwrap().len(), 200_000);
    fetch(&source, &options(cache.path()), &()).unwrap();
    assert_eq!(server.requests()[1].range(), Some(200_000));
}

#[test]
fn files_put_there_by_hand_are_verified_and_a_garbled_torch_cache_is_replaced() {
    let cache = tempfile::tempdir().unwrap();
    let server = Server::start(|request| file(request, &body()));
    let source = source(format!("{}/net.pth", server.url), &sha256(&body())[..8]);
    let options = options(cache.path());
    std::fs::create_dir_all(&options.torch).unwrap();
    std::fs::write(options.torch.join("net.pth"), b"garbled").unwrap();
    assert_eq!(std::fs::read(fetch(&source, &options, &()).unwrap()).unwrap(), body(), "downloaded in spite of it");
    let place = repository(cache.path()).join("snapshots/main/net.pth");
    std::fs::remove_file(&place).unwrap();
    std::fs::write(&place, b"another model").unwrap();
    assert!(matches!(weights_error(fetch(&source, &options, &())), WeightsError::Hash { .. }));
}

#[test]
fn the_token_is_in_no_log() {
    let text = format!("{:?}", options(Path::new("/")));
    assert!(!text.contains("secret"), "{text}");
}

/// Not a test of its own: the second process of the one below.
#[test]
fn second_process() {
    let (Ok(url), Ok(cache)) = (std::env::var("TIMBURN_TEST_URL"), std::env::var("TIMBURN_TEST_CACHE")) else { return };
    let path = fetch(&source(url, &sha256(&body())), &options(Path::new(&cache)), &()).unwrap();
    assert_eq!(std::fs::read(path).unwrap(), body());
}

#[test]
fn of_two_processes_at_once_one_downloads() {
    let cache = tempfile::tempdir().unwrap();
    let gate = Mutex::new(());
    let server = Server::start(move |request| {
        let _one_at_a_time = gate.lock().unwrap();
        // Long enough for the other process to come and wait.
        std::thread::sleep(std::time::Duration::from_millis(700));
        file(request, &body())
    });
    let url = format!("{}/net.pth", server.url);
    let spawn = || {
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "second_process"])
            .env("TIMBURN_TEST_URL", &url)
            .env("TIMBURN_TEST_CACHE", cache.path())
            .spawn()
            .unwrap()
    };
    let mut children = [spawn(), spawn()];
    for child in &mut children {
        assert!(child.wait().unwrap().success());
    }
    assert_eq!(server.requests().len(), 1);
}
