//! Files of the catalogue: found in the caches of this machine, or downloaded once and verified.
//!
//! A direct file is checked against the row's pinned SHA-256 (or the eight digits of it in its name, as PyTorch does). A file of the
//! Hugging Face hub is checked against the SHA-256 that the hub states for it over TLS (`X-Linked-Etag`): that finds damage on the way,
//! not a repository that was changed.

mod cache;
#[cfg(feature = "pretrained")]
mod download;
#[cfg(feature = "pretrained")]
mod http;

use std::env;
use std::path::PathBuf;

use timburn_core::{Result, WeightsError};

use crate::catalogue::Row;
use cache::Place;

/// Hugging Face's own server.
const ENDPOINT: &str = "https://huggingface.co";

/// Where to look and whether to download.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubOptions {
    /// Cache folder, laid out as the Hugging Face hub does, and shared with it.
    pub cache: PathBuf,
    /// Folder of `torch.hub`, where torchvision keeps its files. They are used where they lie, once their hash is right.
    pub torch_checkpoints: Option<PathBuf>,
    /// Address of the hub or a mirror of it. Another than the default is asked first, before the direct address of a file.
    pub endpoint: String,
    /// Sent to the endpoint alone.
    pub token: Option<String>,
    /// What turned downloads off.
    pub offline: Option<&'static str>,
    /// Whether to honour `ALL_PROXY`, `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY`.
    pub proxies: bool,
}

impl HubOptions {
    /// As the environment says: `HF_HUB_CACHE`, else `HF_HOME/hub`, else `XDG_CACHE_HOME/huggingface/hub`, else
    /// `~/.cache/huggingface/hub`; `TORCH_HOME`; `HF_ENDPOINT`; `HF_TOKEN`; `HF_HUB_OFFLINE` and `TIMBURN_OFFLINE`.
    pub fn from_env() -> Self {
        Self::from_variables(|name| env::var(name).ok().filter(|value| !value.is_empty()))
    }

    fn from_variables(get: impl Fn(&str) -> Option<String>) -> Self {
        let home = get("HOME").or_else(|| get("USERPROFILE")).map_or_else(env::temp_dir, PathBuf::from);
        let caches = get("XDG_CACHE_HOME").map_or_else(|| home.join(".cache"), PathBuf::from);
        let path = |name| get(name).map(PathBuf::from);
        let hugging_face = path("HF_HOME").unwrap_or_else(|| caches.join("huggingface"));
        let torch = path("TORCH_HOME").unwrap_or_else(|| caches.join("torch"));
        let set = |name| get(name).is_some_and(|value| !["0", "false", "no", "off"].contains(&value.to_lowercase().as_str()));
        Self {
            cache: path("HF_HUB_CACHE").unwrap_or_else(|| hugging_face.join("hub")),
            torch_checkpoints: Some(torch.join("hub").join("checkpoints")),
            endpoint: get("HF_ENDPOINT").map_or_else(|| ENDPOINT.into(), |endpoint| endpoint.trim_end_matches('/').into()),
            token: get("HF_TOKEN"),
            offline: ["TIMBURN_OFFLINE", "HF_HUB_OFFLINE"].into_iter().find(|name| set(name)),
            proxies: true,
        }
    }
}

/// Follows a download. `()` follows none.
pub trait Progress {
    /// A file is on its way: `done` bytes of it were here already, `total` is its size where the server says so.
    fn start(&mut self, name: &str, total: Option<u64>, done: u64);
    /// This many bytes more.
    fn advance(&mut self, bytes: u64);
    /// The transfer is over; the file is verified next.
    fn finish(&mut self);
}

impl Progress for () {
    fn start(&mut self, _name: &str, _total: Option<u64>, _done: u64) {}
    fn advance(&mut self, _bytes: u64) {}
    fn finish(&mut self) {}
}

/// The file of `row`: from the cache, from torchvision's own, else downloaded into the cache.
///
/// A row with two addresses is tried at both, unless what the first sent is wrong. Two processes that want one file download it once.
///
/// # Errors
/// [`WeightsError::Offline`] naming the path where the file can be put by hand; [`WeightsError::Download`], after which trying again
/// resumes; [`WeightsError::Hash`]; [`Error::Io`](timburn_core::Error::Io) for a cache that cannot be written.
pub fn fetch(row: &Row, options: &HubOptions, progress: &mut dyn Progress) -> Result<PathBuf> {
    let places = Place::of(row, options);
    for place in &places {
        if let Some(path) = place.find(options)? {
            return Ok(path);
        }
    }
    let offline = |why| {
        let place = places.first();
        let url = place.map_or_else(String::new, |place| place.url.clone());
        let path = place.map_or_else(PathBuf::new, Place::path);
        WeightsError::Offline { name: row.name.clone(), why, url, path }
    };
    if row.file().is_some_and(|file| file.ends_with(".h5")) {
        return Err(offline("Keras' file is HDF5: export its tensors to safetensors under Keras' own names").into());
    }
    if let Some(variable) = options.offline {
        return Err(offline(variable).into());
    }
    download(&places, options, progress, offline)
}

#[cfg(feature = "pretrained")]
fn download(
    places: &[Place],
    options: &HubOptions,
    progress: &mut dyn Progress,
    offline: impl Fn(&'static str) -> WeightsError,
) -> Result<PathBuf> {
    use timburn_core::Error;
    let mut first = None;
    for place in places {
        match download::download(place, options, progress) {
            // Elsewhere it may be reachable. Wrong content is no reason to look further: someone should know.
            Err(Error::Weights(error @ WeightsError::Download { .. })) => first = first.or(Some(error)),
            other => return other,
        }
    }
    Err(first.unwrap_or_else(|| offline("no address is known")).into())
}

#[cfg(not(feature = "pretrained"))]
fn download(
    _places: &[Place],
    _options: &HubOptions,
    _progress: &mut dyn Progress,
    offline: impl Fn(&'static str) -> WeightsError,
) -> Result<PathBuf> {
    Err(offline("built without the feature `pretrained`").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(variables: &[(&str, &str)]) -> HubOptions {
        HubOptions::from_variables(|name| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned()))
    }

    #[test]
    fn folders_in_order_of_precedence() {
        let all = [("HF_HUB_CACHE", "/a"), ("HF_HOME", "/b"), ("XDG_CACHE_HOME", "/c"), ("HOME", "/d")];
        assert_eq!(options(&all).cache, PathBuf::from("/a"));
        assert_eq!(options(&all[1..]).cache, PathBuf::from("/b/hub"));
        assert_eq!(options(&all[2..]).cache, PathBuf::from("/c/huggingface/hub"));
        assert_eq!(options(&all[3..]).cache, PathBuf::from("/d/.cache/huggingface/hub"));
        assert_eq!(options(&all).torch_checkpoints, Some(PathBuf::from("/c/torch/hub/checkpoints")));
        assert_eq!(options(&[("TORCH_HOME", "/t")]).torch_checkpoints, Some(PathBuf::from("/t/hub/checkpoints")));
    }

    #[test]
    fn offline_by_either_variable_unless_it_says_no() {
        assert_eq!(options(&[("HF_HUB_OFFLINE", "1")]).offline, Some("HF_HUB_OFFLINE"));
        assert_eq!(options(&[("TIMBURN_OFFLINE", "true")]).offline, Some("TIMBURN_OFFLINE"));
        assert_eq!(options(&[("HF_HUB_OFFLINE", "0")]).offline, None);
    }
}
