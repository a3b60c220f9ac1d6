//! Folders that timburn reads and writes.

use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::json;
use timburn_data::dataset::download::{CacheOptions, PublicSet};
use timburn_weights::HubOptions;

use super::Check;

/// Sizes are added up for so long, then they are a lower bound.
const PATIENCE: Duration = Duration::from_secs(2);

pub(super) fn checks() -> Vec<Check> {
    let mut checks = weights_cache();
    checks.push(data_cache());
    checks.push(own_data());
    checks.push(working_folder());
    checks
}

fn weights_cache() -> Vec<Check> {
    let HubOptions { cache, offline, endpoint, .. } = HubOptions::from_env();
    let entries = names(&cache, |name| name.starts_with("models--"));
    let (bytes, whole) = size(&cache);
    let least = if whole { "" } else { "at least " };
    let state = format!("{} with {} models, {least}{:.1} MB", cache.display(), entries.len(), bytes as f64 / 1e6);
    let details = json!({ "path": cache, "models": entries, "bytes": bytes, "complete": whole });
    let check = match writable(&cache) {
        Ok(()) => Check::ok("weights cache", state),
        Err(reason) => {
            Check::warn("weights cache", format!("{state}; cannot be written: {reason}"), "point HF_HUB_CACHE to a folder of yours")
        }
    };
    let downloads = match offline {
        None => Check::ok("downloads", format!("on, from {endpoint}")),
        Some(why) => {
            let next =
                if why.starts_with("HF_") || why.starts_with("TIMBURN_") { "unset it" } else { "build with the feature `pretrained`" };
            Check::warn("downloads", format!("off ({why}): only the cache and the embedded weights are used"), next)
        }
    };
    vec![check.with(details), downloads.with(json!({ "on": offline.is_none(), "why": offline, "endpoint": endpoint }))]
}

fn data_cache() -> Check {
    let cache = CacheOptions::from_env().cache;
    let complete =
        |set: &PublicSet| set.files().iter().any(|form| form.iter().all(|file| cache.join(set.name()).join(file.file).is_file()));
    let found: Vec<&str> = PublicSet::ALL.iter().filter(|set| complete(set)).map(|set| set.name()).collect();
    let all = PublicSet::ALL.map(PublicSet::name).join(", ");
    let text = if found.is_empty() { format!("none of {all} yet (timburn data fetch)") } else { found.join(", ") };
    let details = json!({ "path": cache, "sets": found });
    match writable(&cache) {
        Ok(()) => Check::ok("data sets", format!("{}: {text}", cache.display())),
        Err(reason) => {
            Check::warn("data sets", format!("{} cannot be written: {reason}", cache.display()), "point TIMBURN_CACHE to a folder of yours")
        }
    }
    .with(details)
}

/// The folder that tests, benchmarks and examples take their data from.
fn own_data() -> Check {
    let Some(folder) = std::env::var_os("TIMBURN_DATA").map(PathBuf::from) else {
        return Check::ok("TIMBURN_DATA", "not set; only timburn's own tests and benchmarks use it");
    };
    let found = names(&folder, |name| !name.starts_with('.'));
    let details = json!({ "path": folder, "entries": found });
    if found.is_empty() {
        let next = "point it to the folder that holds the data sets, or unset it";
        return Check::warn("TIMBURN_DATA", format!("{} holds nothing or cannot be read", folder.display()), next).with(details);
    }
    let shown = found.iter().take(8).cloned().collect::<Vec<_>>().join(", ");
    let more = if found.len() > 8 { format!(" and {} more", found.len() - 8) } else { String::new() };
    Check::ok("TIMBURN_DATA", format!("{}: {shown}{more}", folder.display())).with(details)
}

fn working_folder() -> Check {
    let folder = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("."));
    let details = json!({ "path": folder });
    match writable(&folder) {
        Ok(()) => Check::ok("working folder", format!("{}: results go to runs/ in it", folder.display())),
        Err(reason) => Check::warn(
            "working folder",
            format!("{} cannot be written: {reason}", folder.display()),
            "go elsewhere, or choose folders with --output",
        ),
    }
    .with(details)
}

fn names(folder: &Path, wanted: impl Fn(&str) -> bool) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> =
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).filter(|name| wanted(name)).collect();
    names.sort_unstable();
    names
}

/// Whether a file can be made there, or in the nearest folder above that exists; it is removed again.
fn writable(folder: &Path) -> Result<(), String> {
    let absolute = std::path::absolute(folder).map_err(|error| error.to_string())?;
    let nearest = absolute.ancestors().find(|ancestor| ancestor.exists()).ok_or("no folder above it exists")?;
    if !nearest.is_dir() {
        return Err(format!("{} is no folder", nearest.display()));
    }
    let probe = nearest.join(format!(".timburn-doctor-{}", std::process::id()));
    OpenOptions::new().write(true).create_new(true).open(&probe).map_err(|error| error.to_string())?;
    fs::remove_file(&probe).map_err(|error| error.to_string())
}

/// Bytes of all files below, links not followed; and whether all were counted.
fn size(folder: &Path) -> (u64, bool) {
    let deadline = Instant::now() + PATIENCE;
    let (mut bytes, mut folders) = (0, vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            if Instant::now() > deadline {
                return (bytes, false);
            }
            let Ok(metadata) = entry.metadata() else { continue };
            if metadata.is_dir() {
                folders.push(entry.path());
            } else if metadata.is_file() {
                bytes += metadata.len();
            }
        }
    }
    (bytes, true)
}
