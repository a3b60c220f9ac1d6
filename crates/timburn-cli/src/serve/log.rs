//! The access log: one line a request on stderr, written by a thread of its own, so that a reader of the log that stops reading stops
//! nothing else.

use std::io::Write;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Lines that wait for the terminal or pipe; more are counted and left out.
const WAITING: usize = 4096;

/// The way to the thread that writes, for faults that have no request at hand.
static LOG: OnceLock<Log> = OnceLock::new();

/// Where lines go.
#[derive(Debug)]
pub(super) struct Log {
    lines: SyncSender<Line>,
    lost: AtomicU64,
    access: bool,
}

#[derive(Debug)]
enum Line {
    Text(String),
    /// Asks for a word when all before it is written.
    Flush(SyncSender<()>),
}

/// What is said of one request.
#[derive(Debug)]
pub(super) struct Access<'a> {
    pub(super) id: &'a str,
    pub(super) method: &'a str,
    /// Without the query, which may hold what is nobody's business.
    pub(super) path: &'a str,
    pub(super) status: u16,
    /// Length of the answer's body.
    pub(super) bytes: u64,
    /// Until the answer was ready to be sent.
    pub(super) took: Duration,
}

/// Starts the thread that writes. `access`: whether requests are logged; faults always are.
pub(super) fn start(access: bool) -> &'static Log {
    LOG.get_or_init(|| {
        let (lines, received) = sync_channel::<Line>(WAITING);
        let write = move || {
            let mut stderr = std::io::stderr();
            for line in received {
                match line {
                    // A closed stderr is nobody's fault and no reason to stop.
                    Line::Text(text) => drop(stderr.write_all(text.as_bytes())),
                    Line::Flush(done) => drop(done.send(())),
                }
            }
        };
        // Without the thread nothing is logged; what is served is worth more.
        let _ = std::thread::Builder::new().name("log".into()).spawn(write);
        Log { lines, lost: AtomicU64::new(0), access }
    })
}

/// One fault of the server's own.
pub(super) fn fault(error: impl std::fmt::Display) {
    note(&format!("error: {error}"));
}

/// One remark.
pub(super) fn note(text: &str) {
    if let Some(log) = LOG.get() {
        log.send(format!("{} {text}\n", timestamp(SystemTime::now())));
    }
}

impl Log {
    pub(super) fn access(&self, access: &Access<'_>) {
        if !self.access {
            return;
        }
        let Access { id, method, path, status, bytes, took } = access;
        let path: String = path.chars().take(256).flat_map(char::escape_default).collect();
        let time = timestamp(SystemTime::now());
        self.send(format!("{time} {id} {method} {path} {status} {bytes} {:.1}ms\n", took.as_secs_f64() * 1e3));
    }

    /// Waits until what was logged is written, a second at most.
    pub(super) fn flush(&self) {
        let (done, written) = sync_channel(1);
        if self.lines.try_send(Line::Flush(done)).is_ok() {
            let _ = written.recv_timeout(Duration::from_secs(1));
        }
    }

    fn send(&self, line: String) {
        let lost = self.lost.swap(0, Ordering::Relaxed);
        let line = if lost > 0 { format!("({lost} lines of the log were lost)\n{line}") } else { line };
        if let Err(TrySendError::Full(_)) = self.lines.try_send(Line::Text(line)) {
            self.lost.fetch_add(lost + 1, Ordering::Relaxed);
        }
    }
}

/// RFC 3339 in UTC with milliseconds.
fn timestamp(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, seconds) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let (year, month, day) = date(days);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", since.subsec_millis())
}

/// Year, month and day of the proleptic Gregorian calendar, `days` after 1970-01-01.
///
/// Hinnant, "chrono-Compatible Low-Level Date Algorithms": years begin in March, so that the leap day comes last.
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (400 * era + year_of_era + u64::from(month <= 2), month, day_of_year - (153 * shifted + 2) / 5 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_are_rfc_3339() {
        let at = |seconds, milliseconds| timestamp(UNIX_EPOCH + Duration::from_secs(seconds) + Duration::from_millis(milliseconds));
        assert_eq!(at(0, 0), "1970-01-01T00:00:00.000Z");
        // Both from `date -u -d @N`.
        assert_eq!(at(951_782_399, 7), "2000-02-28T23:59:59.007Z");
        assert_eq!(at(951_782_400, 0), "2000-02-29T00:00:00.000Z");
        assert_eq!(at(1_795_352_561, 999), "2026-11-22T13:02:41.999Z");
    }
}
