//! `timburn serve`: the page and its API over HTTP/1.1.
//!
//! | module | what |
//! |---|---|
//! | `listen`, `stream`, `connections`, `attend` | sockets, their number and their patience |
//! | `entry`, `router`, `input`, `body`, `error` | a request's way to its handler, and what it is refused with |
//! | `models`, `pictures`, `batcher`, `explain` | bytes to labels, off the threads that talk to clients |
//! | `app`, `budget`, `metrics`, `log`, `token` | what all requests share |
//! | `page`, `card`, `openapi` | what is read rather than computed |
//!
//! Memory is bounded: above what the models take, 3 × 128 MiB of bodies (read, copied out of a form, decoded from base64), 16 bytes for each of
//! 32 million pixels being decoded, 3 × input² bytes for each picture in the queue, 64 KiB for each connection.

mod app;
mod attend;
mod batcher;
mod body;
mod budget;
mod card;
mod connections;
mod entry;
mod error;
mod explain;
mod input;
mod listen;
mod log;
mod metrics;
mod models;
mod openapi;
mod page;
mod pictures;
mod router;
mod stream;
mod token;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use timburn_core::device::Device;
use timburn_core::{Error, Result, open_device};
use tokio::sync::watch;

use crate::output::{self, DownloadBar};
use app::App;
use connections::Connections;
use explain::Explainer;
pub(crate) use listen::Address;
use listen::Listener;
use models::Models;
pub(crate) use models::Wanted;
use pictures::Pipeline;
use token::Token;

/// How long requests in work may take once the server is told to end.
const DRAIN: Duration = Duration::from_secs(30);
/// How long the last answers may take to be sent.
const FLUSH: Duration = Duration::from_secs(1);

/// What the command line says.
#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) models: Vec<Wanted>,
    pub(crate) address: Address,
    pub(crate) token_file: Option<PathBuf>,
    pub(crate) device: String,
    /// Pictures in a batch.
    pub(crate) max_batch: usize,
    /// How long a batch waits for pictures that are on their way.
    pub(crate) latency_budget: Duration,
    /// Pictures between admission and answer.
    pub(crate) queue: usize,
    pub(crate) max_connections: usize,
    pub(crate) json: bool,
    /// No access log.
    pub(crate) quiet: bool,
}

/// Serves until a signal ends it; 128 + the signal's number.
pub(crate) fn run(options: &Options) -> Result<u8> {
    let token = Token::find(options.token_file.as_deref())?;
    let device = open_device(&options.device)?;
    let log = log::start(!options.quiet);
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    let decoders = cores.min(8);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(cores.clamp(2, 4))
        .max_blocking_threads(decoders + 2)
        .enable_all()
        .build()
        .map_err(Error::io("start", "the threads of the server"))?;
    let pipeline = Pipeline::new(options.queue, decoders);
    let app = Arc::new(App::new(pipeline, Connections::new(options.max_connections), token, log));
    let outcome = runtime.block_on(serve(options, &device, &app));
    // What still runs is a decoder whose client has gone.
    runtime.shutdown_timeout(Duration::from_millis(100));
    log.flush();
    outcome
}

async fn serve(options: &Options, device: &Device, app: &Arc<App>) -> Result<u8> {
    let mut signals = Signals::new()?;
    let listener = Listener::bind(&options.address)?;
    let url = listener.url();
    let (end, ending) = watch::channel(false);
    let accepting = tokio::spawn(attend::accept(listener, Arc::clone(app), router::router(Arc::clone(app)), ending));

    let started = Instant::now();
    let load = {
        let (wanted, device, app) = (options.models.clone(), device.clone(), Arc::clone(app));
        let limits = batcher::Limits { pictures: options.max_batch, budget: options.latency_budget };
        tokio::task::spawn_blocking(move || load(&wanted, &device, limits, &app))
    };
    tokio::select! {
        // Nothing has been asked yet that could be finished.
        signal = signals.next() => return Ok(128 + signal),
        loaded = load => loaded.unwrap_or_else(|error| Err(Error::io("load", "the models")(error.into())))?,
    }
    announce(options, &url, app)?;
    log::note(&format!("ready after {:.1} s", started.elapsed().as_secs_f64()));

    let signal = signals.next().await;
    app.drain();
    log::note("ending: requests in work are finished, new ones are refused");
    // Fails when no connection listens, which is fine.
    let _ = end.send(true);
    let again = async {
        signals.next().await;
    };
    let drained = async {
        let finished = tokio::time::timeout(DRAIN, app.work.finished()).await;
        accepting.abort();
        let _ = tokio::time::timeout(FLUSH, app.connections.closed()).await;
        if finished.is_err() {
            log::note("ended with requests in work");
        }
    };
    tokio::select! {
        () = drained => {}
        () = again => log::note("ended at once"),
    }
    // The listener goes with its task, and a Unix socket's file with the listener.
    accepting.abort();
    let _ = accepting.await;
    Ok(128 + signal)
}

/// Loads and warms all models, and opens the server for them.
fn load(wanted: &[Wanted], device: &Device, limits: batcher::Limits, app: &App) -> Result<()> {
    let progress = DownloadBar::new(false);
    let load = |wanted: &Wanted| wanted.load(device, limits, &app.metrics, &progress).map(Arc::new);
    let models = wanted.iter().map(load).collect::<Result<Vec<_>>>()?;
    progress.clear();
    app.set_ready(Models(models), Explainer::start(device.clone())?);
    Ok(())
}

/// Says where the server is, on stdout.
fn announce(options: &Options, url: &str, app: &App) -> Result<()> {
    let models: Vec<&str> = app.models().map(|models| models.0.iter().map(|model| model.name.as_str()).collect()).unwrap_or_default();
    output::results(|out| {
        if options.json {
            writeln!(out, "{}", serde_json::json!({ "address": url, "models": models }))
        } else {
            writeln!(out, "serving {} at {url}", models.join(", "))
        }
    })?;
    if let (Address::Tcp(host, _), None) = (&options.address, &app.token)
        && !matches!(host.as_str(), "127.0.0.1" | "::1" | "localhost")
    {
        output::note("warning: whoever reaches this address may use the server; --token-file FILE asks for a token");
    }
    Ok(())
}

/// SIGINT and SIGTERM.
struct Signals {
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
}

impl Signals {
    #[cfg(unix)]
    fn new() -> Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        let listen = |kind| signal(kind).map_err(Error::io("listen for signals of", "this process"));
        Ok(Self { interrupt: listen(SignalKind::interrupt())?, terminate: listen(SignalKind::terminate())? })
    }

    /// The number of the next signal.
    #[cfg(unix)]
    async fn next(&mut self) -> u8 {
        tokio::select! {
            _ = self.interrupt.recv() => 2,
            _ = self.terminate.recv() => 15,
        }
    }

    #[cfg(not(unix))]
    fn new() -> Result<Self> {
        Ok(Self {})
    }

    #[cfg(not(unix))]
    async fn next(&mut self) -> u8 {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
        2
    }
}
