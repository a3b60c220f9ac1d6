//! The cache of published files, laid out as the Hugging Face hub lays it out, and its only way in: verified, then renamed.
//!
//! `models--timm--resnet50.a1_in1k/{blobs,refs,snapshots}` for files of the hub, shared with Python; the same layout under
//! `models--timburn--published` for files with a plain URL. torchvision's own cache (`TORCH_HOME/hub/checkpoints`) is used where it
//! has the file and the digest fits.

mod cache;
#[cfg(feature = "pretrained")]
mod download;

use std::fmt;
use std::path::{Path, PathBuf};

use timburn_core::digest::sha256_of_file;
use timburn_core::fetch::{Environment, environment, offline, user_caches};
use timburn_core::{Error, Result, WeightsError};

use crate::catalogue::Published;
use cache::Repository;

pub use timburn_core::fetch::Progress;

/// Where files are kept and whether the network may be used.
#[derive(Clone)]
pub struct HubOptions {
    /// The hub's cache.
    pub cache: PathBuf,
    /// torchvision's cache.
    pub torch: PathBuf,
    /// Base URL of the hub.
    pub endpoint: String,
    /// Sent to the hub, never anywhere else.
    pub token: Option<String>,
    /// What forbids downloads, if anything does.
    pub offline: Option<&'static str>,
}

impl fmt::Debug for HubOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cache, torch, endpoint, token, offline } = self;
        // Logs are read by others than the token's owner.
        let token = token.as_ref().map(|_| "…");
        f.debug_struct("HubOptions")
            .field("cache", cache)
            .field("torch", torch)
            .field("endpoint", endpoint)
            .field("token", &token)
            .field("offline", offline)
            .finish()
    }
}

impl HubOptions {
    /// As the environment says: `HF_HUB_CACHE` > `HF_HOME/hub` > `XDG_CACHE_HOME/huggingface/hub` > `~/.cache/huggingface/hub`;
    /// `TORCH_HOME`; `HF_ENDPOINT`; `HF_TOKEN`; `HF_HUB_OFFLINE` and `TIMBURN_OFFLINE` (anything but empty, `0`, `false`). Proxies are
    /// taken from `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` when a connection is made.
    pub fn from_env() -> Self {
        Self::from(&environment)
    }

    fn from(variable: Environment<'_>) -> Self {
        let path = |name| variable(name).map(PathBuf::from);
        let caches = user_caches(variable);
        let hub_home = path("HF_HOME").unwrap_or_else(|| caches.join("huggingface"));
        let without_feature = (!cfg!(feature = "pretrained")).then_some("built without the feature `pretrained`");
        Self {
            cache: path("HF_HUB_CACHE").unwrap_or_else(|| hub_home.join("hub")),
            torch: path("TORCH_HOME").unwrap_or_else(|| caches.join("torch")).join("hub/checkpoints"),
            endpoint: variable("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".into()).trim_end_matches('/').into(),
            token: variable("HF_TOKEN"),
            offline: without_feature.or_else(|| offline(variable)),
        }
    }
}

/// A file to fetch.
#[derive(Debug, Clone)]
pub struct Source {
    /// What messages call it.
    pub name: String,
    /// Its repository in the cache, `owner/name`.
    pub repository: String,
    /// Its name there.
    pub file: String,
    /// Where it is.
    pub url: String,
    /// SHA-256 in hexadecimal, or its first digits; empty to trust the digest that the server states.
    pub sha256: String,
    /// Whether the server is the hub, which gets the token and states digests.
    pub is_hub: bool,
}

/// The file of a catalogue row: from the cache, from torchvision's, or downloaded.
///
/// # Errors
/// As [`fetch`].
pub fn fetch_published(row: &Published, options: &HubOptions, progress: &dyn Progress) -> Result<PathBuf> {
    let from_hub = row.hub.map(|repository| Source {
        name: row.name(),
        repository: repository.into(),
        file: "model.safetensors".into(),
        url: format!("{}/{repository}/resolve/main/model.safetensors", options.endpoint),
        sha256: String::new(),
        is_hub: true,
    });
    let from_url = Source {
        name: row.name(),
        repository: "timburn/published".into(),
        file: row.file().into(),
        url: row.url.into(),
        sha256: row.sha256.into(),
        is_hub: false,
    };
    // What Python has fetched already need not be fetched again.
    if let Some(path) = from_hub.as_ref().and_then(|source| Repository::new(source, options).find(&source.file)) {
        return Ok(path);
    }
    if row.url.ends_with(".h5") {
        let reason = "HDF5 is not read: save its tensors as safetensors under Keras' names and pass `--weights FILE`".into();
        return Err(WeightsError::Corrupt { name: row.name(), reason }.into());
    }
    // Digits known beforehand also catch a server that changes file and digest together; 8 of them are no defence against an attacker.
    match from_hub {
        Some(source) if row.sha256.is_empty() => fetch(&source, options, progress),
        _ => fetch(&from_url, options, progress),
    }
}

/// The path of `source`'s file, verified: from the cache, from torchvision's cache, or downloaded.
///
/// Any number of processes may ask at once: one downloads, the others wait. What an interrupted download left is continued.
///
/// # Errors
/// [`WeightsError::Offline`] naming the path where the file belongs, [`WeightsError::Download`], [`WeightsError::Hash`], [`Error::Io`].
/// Nothing that was downloaded is found in the cache before it is verified; a file put there by hand is verified when its digest is known.
pub fn fetch(source: &Source, options: &HubOptions, progress: &dyn Progress) -> Result<PathBuf> {
    let repository = Repository::new(source, options);
    if let Some(path) = repository.find(&source.file) {
        // Links lead to what was verified when it came; a plain file was put there by somebody.
        let is_link = path.symlink_metadata().is_ok_and(|metadata| metadata.is_symlink());
        if !is_link && !source.sha256.is_empty() {
            check(&path, &sha256_of_file(&path)?, &source.sha256)?;
        }
        return Ok(path);
    }
    let at_hand = options.torch.join(&source.file);
    if !source.sha256.is_empty() && at_hand.is_file() {
        let verdict = sha256_of_file(&at_hand).and_then(|found| Ok(check(&at_hand, &found, &source.sha256)?));
        match verdict {
            Ok(()) => return Ok(at_hand),
            Err(error) if options.offline.is_some() => return Err(error),
            // Another program's cache is no reason to fail where a download can mend it.
            Err(error) => log::warn!("{error}; downloading it instead"),
        }
    }
    let refusal = |why| {
        let path = repository.place(&source.file);
        Error::from(WeightsError::Offline { name: source.name.clone(), why, url: source.url.clone(), path })
    };
    if let Some(why) = options.offline {
        return Err(refusal(why));
    }
    #[cfg(feature = "pretrained")]
    return download::download(source, &repository, options, progress);
    #[cfg(not(feature = "pretrained"))]
    {
        let _ = progress;
        Err(refusal("built without the feature `pretrained`"))
    }
}

/// Compares a digest with the digits known of it.
fn check(path: &Path, found: &str, expected: &str) -> Result<(), WeightsError> {
    if found.starts_with(&expected.to_lowercase()) {
        return Ok(());
    }
    Err(WeightsError::Hash { name: path.display().to_string(), expected: expected.into(), found: found.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(variables: &[(&str, &str)]) -> HubOptions {
        HubOptions::from(&|name| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned()))
    }

    #[test]
    fn the_environment_decides_as_it_does_in_python() {
        let cache = |variables: &[(&str, &str)]| options(variables).cache;
        let home = ("HOME", "/home/me");
        assert_eq!(cache(&[home]), Path::new("/home/me/.cache/huggingface/hub"));
        assert_eq!(cache(&[home, ("XDG_CACHE_HOME", "/x")]), Path::new("/x/huggingface/hub"));
        assert_eq!(cache(&[home, ("XDG_CACHE_HOME", "/x"), ("HF_HOME", "/h")]), Path::new("/h/hub"));
        assert_eq!(cache(&[home, ("HF_HOME", "/h"), ("HF_HUB_CACHE", "/c")]), Path::new("/c"));
        assert_eq!(options(&[home]).torch, Path::new("/home/me/.cache/torch/hub/checkpoints"));
        assert_eq!(options(&[("HF_ENDPOINT", "http://mirror/")]).endpoint, "http://mirror");
        if cfg!(feature = "pretrained") {
            assert_eq!(options(&[("HF_HUB_OFFLINE", "1")]).offline, Some("HF_HUB_OFFLINE"));
            assert_eq!(options(&[("TIMBURN_OFFLINE", "yes"), ("HF_HUB_OFFLINE", "0")]).offline, Some("TIMBURN_OFFLINE"));
            assert_eq!(options(&[]).offline, None);
        }
    }
}
