//! What a person or a program reads: errors on stderr, results on stdout.

use std::io::{self, Write};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use timburn_core::Error;

/// One error, for people.
pub(crate) fn error(error: impl std::fmt::Display) {
    // A closed stderr is nobody's fault and no reason to fail.
    let _ = writeln!(io::stderr(), "error: {error}");
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

/// Writes results. A reader that went away (`timburn … | head`) ends the output, not the program.
pub(crate) fn results(write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), Error> {
    let mut stdout = io::stdout().lock();
    match write(&mut stdout).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Error::io("write to", "stdout")(error)),
        _ => Ok(()),
    }
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
pub(crate) struct DownloadBar(std::sync::OnceLock<indicatif::ProgressBar>);

impl DownloadBar {
    pub(crate) fn clear(&self) {
        if let Some(bar) = self.0.get() {
            bar.finish_and_clear();
        }
    }
}

impl timburn_weights::Progress for DownloadBar {
    fn start(&self, name: &str, done: u64, total: Option<u64>) {
        let bar =
            self.0.get_or_init(|| bar(total.unwrap_or(0), "{msg} {bar:30} {bytes}/{total_bytes}, {binary_bytes_per_sec}, {eta} left"));
        bar.set_message(name.to_owned());
        bar.set_position(done);
        // The rate is that of this transfer, not of the bytes an earlier one left.
        bar.reset_eta();
    }

    fn advance(&self, bytes: u64) {
        if let Some(bar) = self.0.get() {
            bar.inc(bytes);
        }
    }
}
