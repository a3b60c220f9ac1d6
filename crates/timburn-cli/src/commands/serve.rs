#[cfg(unix)]
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use timburn_core::Result;

use crate::serve::{self, Address, Options, Wanted};

/// Serve models over HTTP: a page to drop pictures on, and an API.
///
/// Without MODEL, serves the embedded EfficientNet-Lite0. The first of several models is the one that answers where none is named.
///
/// The API answers as Hugging Face's image-classification does; /api/openapi.json describes it. /livez, /readyz and /metrics are for those who run it. SIGTERM and Ctrl-C finish what is in work, up to 30 s.
///
/// There is no TLS: to the internet, put a proxy in front (nginx, Caddy) and let this server listen on 127.0.0.1 or on a Unix socket.
#[derive(Args)]
#[command(after_help = "\
Examples:
  timburn serve                                    the embedded network, at http://127.0.0.1:8080
  timburn serve flowers.timburn --port 80 --host 0.0.0.0 --token-file token.txt
  timburn serve pets=runs/pets/model.timburn resnet50.tv2_in1k
  timburn serve --unix /run/timburn.sock           for a proxy on the same machine

  curl --data-binary @dog.jpg 'http://127.0.0.1:8080/api/classify?top_k=3'")]
pub(crate) struct Serve {
    /// Bundles, or weights as `arch.tag`; NAME=MODEL gives a name [default: that of the file or of the weights]
    #[arg(value_name = "MODEL")]
    models: Vec<String>,
    /// Address to listen on; 0.0.0.0 is every address of this machine
    #[arg(long, default_value = "127.0.0.1")]
    host: String,
    /// Port to listen on; 0 is any that is free
    #[arg(long, default_value_t = 8080)]
    port: u16,
    /// Listen on a Unix socket instead of a port
    #[cfg(unix)]
    #[arg(long, value_name = "SOCKET", conflicts_with_all = ["host", "port"])]
    unix: Option<PathBuf>,
    /// Ask clients for the bearer token in this file [default: that in TIMBURN_TOKEN; none without either]
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// auto, or a backend with an optional index: flex, cuda:1, wgpu
    #[arg(long, value_name = "NAME", default_value = "auto")]
    device: String,
    /// Pictures per forward pass at most
    #[arg(long, default_value_t = 8, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    max_batch: u16,
    /// How long a picture waits for others that are being decoded, in milliseconds; one alone never waits
    #[arg(long, default_value_t = 5, value_name = "MS", value_parser = clap::value_parser!(u16).range(0..=10_000))]
    latency_budget: u16,
    /// Pictures that may wait; more are refused with 503
    #[arg(long, default_value_t = 256, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    queue: u32,
    /// Open connections; beyond, the one that has been idle for longest is closed
    #[arg(long, default_value_t = 800, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    max_connections: u32,
    /// Print the address as JSON: {"address", "models"}
    #[arg(long)]
    json: bool,
    /// No access log
    #[arg(long, short)]
    quiet: bool,
}

impl Serve {
    pub(crate) fn run(&self) -> Result<u8> {
        serve::run(&Options {
            models: Wanted::parse(&self.models)?,
            address: self.address(),
            token_file: self.token_file.clone(),
            device: self.device.clone(),
            max_batch: usize::from(self.max_batch),
            latency_budget: Duration::from_millis(self.latency_budget.into()),
            queue: self.queue as usize,
            max_connections: self.max_connections as usize,
            json: self.json,
            quiet: self.quiet,
        })
    }

    fn address(&self) -> Address {
        #[cfg(unix)]
        if let Some(path) = self.unix.as_deref().map(Path::to_owned) {
            return Address::Unix(path);
        }
        Address::Tcp(self.host.clone(), self.port)
    }
}
