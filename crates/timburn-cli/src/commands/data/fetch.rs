use clap::Args;
use serde_json::json;
use timburn_core::Result;
use timburn_data::dataset::download::{CacheOptions, PublicSet, download};

use crate::output::{self, DownloadBar};

/// Download a small public data set, verify it, and print where it is.
#[derive(Args)]
#[command(after_help = "\
Examples:
  timburn data fetch cifar10
  timburn data inspect \"$(timburn data fetch fashion-mnist)\"
  timburn data fetch mnist --json | jq -r .path

It is kept in TIMBURN_CACHE, else the user's cache folder, and not fetched again. With TIMBURN_OFFLINE=1 nothing is downloaded: \
the error then says where to put the file.")]
pub(crate) struct Fetch {
    /// cifar10, cifar100, mnist, fashion-mnist or kmnist
    #[arg(value_name = "NAME")]
    name: String,
    /// Print JSON: {"name", "path"}
    #[arg(long)]
    json: bool,
    /// No bar
    #[arg(long, short)]
    quiet: bool,
}

impl Fetch {
    pub(super) fn run(&self) -> Result<u8> {
        let set: PublicSet = self.name.parse()?;
        let bar = DownloadBar::new(self.quiet);
        let path = download(set, &CacheOptions::from_env(), &bar)?;
        bar.clear();
        if self.json {
            output::json(&json!({ "name": set.name(), "path": path }))?;
            return Ok(0);
        }
        output::results(|out| writeln!(out, "{}", path.display()))?;
        Ok(0)
    }
}
