use clap::Args;
use timburn_core::Result;
use timburn_data::dataset::download::{CacheOptions, PublicSet, download};

use crate::output::{self, DownloadBar};

/// Download a small public data set, verify it, and print where it is.
#[derive(Args)]
#[command(after_help = "\
Examples:
  timburn data fetch cifar10
  timburn data inspect \"$(timburn data fetch fashion-mnist)\"

It is kept in TIMBURN_CACHE, else the user's cache folder, and not fetched again. With TIMBURN_OFFLINE=1 nothing is downloaded: the error then
says where to put the file.")]
pub(crate) struct Fetch {
    /// cifar10, cifar100, mnist, fashion-mnist or kmnist
    name: String,
}

impl Fetch {
    pub(super) fn run(&self) -> Result<u8> {
        let set: PublicSet = self.name.parse()?;
        let bar = DownloadBar::default();
        let path = download(set, &CacheOptions::from_env(), &bar)?;
        bar.clear();
        output::results(|out| writeln!(out, "{}", path.display()))?;
        Ok(0)
    }
}
