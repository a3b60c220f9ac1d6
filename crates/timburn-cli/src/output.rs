//! What a person or a program reads: errors on stderr, results on stdout.

use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use timburn_core::Error;

/// One error, for people.
pub(crate) fn error(error: impl std::fmt::Display) {
    let (on, off) = if colours(&io::stderr()) { ("\u{1b}[1;31m", "\u{1b}[0m") } else { ("", "") };
    // A closed stderr is nobody's fault and no reason to fail.
    let _ = writeln!(io::stderr(), "{on}error:{off} {error}");
}

/// The error that ends a verb, and what to do about it.
pub(crate) fn failure(failed: &Error) {
    error(failed);
    if let Some(advice) = crate::advice::advice(failed) {
        let _ = writeln!(io::stderr(), "  help: {advice}");
    }
}

/// Whether to colour what goes there: a terminal that can, unless `NO_COLOR` or `CLICOLOR=0` forbid or `CLICOLOR_FORCE` commands it. As
/// clap does it for help and usage.
pub(crate) fn colours(stream: &impl IsTerminal) -> bool {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    if variable("NO_COLOR").is_some() {
        return false;
    }
    if variable("CLICOLOR_FORCE").is_some_and(|value| value != "0") {
        return true;
    }
    let forbidden = variable("CLICOLOR").is_some_and(|value| value == "0") || variable("TERM").is_some_and(|value| value == "dumb");
    !forbidden && stream.is_terminal()
}

/// One remark for people, on stderr.
pub(crate) fn note(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// Sends the libraries' warnings, and on demand their remarks, to stderr.
pub(crate) fn log_to_stderr(verbose: bool) {
    struct Stderr;
    impl log::Log for Stderr {
        fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
            // Burn and wgpu log for their developers.
            metadata.target().starts_with("timburn")
        }
        fn log(&self, record: &log::Record<'_>) {
            if self.enabled(record.metadata()) {
                let level = if record.level() <= log::Level::Warn { "warning" } else { "note" };
                let _ = writeln!(io::stderr(), "{level}: {}", record.args());
            }
        }
        fn flush(&self) {}
    }
    let level = if verbose { log::LevelFilter::Info } else { log::LevelFilter::Warn };
    // Fails only when a logger is set already, which none is.
    let _ = log::set_logger(&Stderr).map(|()| log::set_max_level(level));
}

static READER_IS_GONE: AtomicBool = AtomicBool::new(false);

/// Whether nobody reads the results any more: then there is no reason to compute more of them.
pub(crate) fn reader_is_gone() -> bool {
    READER_IS_GONE.load(Ordering::Relaxed)
}

/// Writes results. A reader that went away (`timburn … | head`) ends the output, and is no error.
pub(crate) fn results(write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), Error> {
    let mut stdout = io::stdout().lock();
    match write(&mut stdout).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
            READER_IS_GONE.store(true, Ordering::Relaxed);
            Ok(())
        }
        outcome => outcome.map_err(Error::io("write to", "stdout")),
    }
}

/// Results as JSON, one line.
pub(crate) fn json(value: &serde_json::Value) -> Result<(), Error> {
    results(|out| writeln!(out, "{value}"))
}

/// A bar on stderr with rate (`{rate}`) and time left; silent off a terminal.
pub(crate) fn bar(total: u64, template: &str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template(template) {
        // indicatif's own rate has four decimals.
        let rate = |state: &ProgressState, out: &mut dyn std::fmt::Write| {
            let _ = write!(out, "{:.0}/s", state.per_sec());
        };
        bar.set_style(style.with_key("rate", rate).progress_chars("━╸─"));
    }
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

/// Draws the bar of a download, if there is one.
#[derive(Default)]
pub(crate) struct DownloadBar {
    bar: std::sync::OnceLock<indicatif::ProgressBar>,
    quiet: bool,
}

impl DownloadBar {
    pub(crate) fn new(quiet: bool) -> Self {
        Self { quiet, ..Self::default() }
    }

    pub(crate) fn clear(&self) {
        if let Some(bar) = self.bar.get() {
            bar.finish_and_clear();
        }
    }
}

impl timburn_weights::Progress for DownloadBar {
    fn start(&self, name: &str, done: u64, total: Option<u64>) {
        let template = "{msg} {bar:30} {bytes}/{total_bytes}, {binary_bytes_per_sec}, {eta} left";
        let bar = self.bar.get_or_init(|| if self.quiet { ProgressBar::hidden() } else { bar(total.unwrap_or(0), template) });
        bar.set_message(name.to_owned());
        bar.set_position(done);
        // The rate is that of this transfer, not of the bytes an earlier one left.
        bar.reset_eta();
    }

    fn advance(&self, bytes: u64) {
        if let Some(bar) = self.bar.get() {
            bar.inc(bytes);
        }
    }
}
