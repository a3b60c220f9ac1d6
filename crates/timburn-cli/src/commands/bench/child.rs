//! The parent's side: a process for each cell, which may crash without taking the others along.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use timburn_core::{Error, Result};
use timburn_train::StopFlag;

use super::turns::Message;

/// Why a child did not answer.
#[derive(Debug, PartialEq)]
pub(super) enum Fault {
    /// The user does not want to wait any longer.
    Interrupted,
    /// It said why, or how it ended.
    Failed(String),
}

/// A child that measures; killed when it is dropped.
pub(super) struct Turns<'a> {
    process: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    /// What it wrote to stderr, once it has ended.
    complaints: Option<JoinHandle<String>>,
    stop: &'a StopFlag,
}

impl<'a> Turns<'a> {
    /// Starts `command`.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub(super) fn start(mut command: Command, stop: &'a StopFlag) -> Result<Self> {
        let program = command.get_program().to_owned();
        let mut process = command
            // A backtrace would end up as the reason.
            .env("RUST_BACKTRACE", "0")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(Error::io("start", std::path::Path::new(&program)))?;
        let (sender, lines) = channel();
        if let Some(stdout) = process.stdout.take() {
            std::thread::spawn(move || {
                for line in BufReader::new(stdout).lines().map_while(std::io::Result::ok) {
                    if sender.send(line).is_err() {
                        break;
                    }
                }
            });
        }
        let complaints = process.stderr.take().map(|mut stderr| {
            std::thread::spawn(move || {
                let mut bytes = Vec::new();
                let _ = stderr.read_to_end(&mut bytes);
                String::from_utf8_lossy(&bytes).into_owned()
            })
        });
        let stdin = process.stdin.take();
        Ok(Self { process, stdin, lines, complaints, stop })
    }

    /// The next message. Lines that are none are a driver's chatter.
    pub(super) fn hear(&mut self) -> std::result::Result<Message, Fault> {
        loop {
            if self.stop.is_requested() {
                return Err(Fault::Interrupted);
            }
            match self.lines.recv_timeout(Duration::from_millis(50)) {
                Ok(line) => match serde_json::from_str(&line) {
                    Ok(Message::Failed { error, .. }) => return Err(Fault::Failed(error)),
                    Ok(message) => return Ok(message),
                    Err(_) => {}
                },
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Err(self.obituary()),
            }
        }
    }

    /// Says `line` and hears the answer.
    pub(super) fn ask(&mut self, line: &str) -> std::result::Result<Message, Fault> {
        // A child that is gone is heard of by its silence.
        let _ = self.stdin.as_mut().map(|stdin| writeln!(stdin, "{line}"));
        self.hear()
    }

    /// How it ended without a word.
    fn obituary(&mut self) -> Fault {
        let status = self.process.wait();
        // Ctrl-C reaches both, and this process may learn of it second.
        if status.as_ref().is_ok_and(|status| signal(status) == Some(2)) || self.stop.is_requested() {
            return Fault::Interrupted;
        }
        let how = status.map_or_else(|error| error.to_string(), |status| ending(&status));
        let complaints = self.complaints.take().and_then(|reader| reader.join().ok()).unwrap_or_default();
        let last = complaints.lines().rev().map(str::trim).find(|line| !line.is_empty());
        Fault::Failed(last.map_or(how.clone(), |last| format!("{how}: {last}")))
    }
}

impl Drop for Turns<'_> {
    fn drop(&mut self) {
        // Without stdin it ends by itself; killed, it does so at once, whatever its driver is at.
        self.stdin = None;
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[cfg(unix)]
fn signal(status: &ExitStatus) -> Option<i32> {
    std::os::unix::process::ExitStatusExt::signal(status)
}

#[cfg(not(unix))]
fn signal(_status: &ExitStatus) -> Option<i32> {
    None
}

fn ending(status: &ExitStatus) -> String {
    let Some(signal) = signal(status) else { return format!("its process ended with {status}") };
    let names = [(4, "SIGILL"), (6, "SIGABRT"), (7, "SIGBUS"), (8, "SIGFPE"), (9, "SIGKILL, out of memory?"), (11, "SIGSEGV")];
    let name = names.iter().find(|row| row.0 == signal).map_or_else(String::new, |row| format!(" ({})", row.1));
    format!("its process crashed with signal {signal}{name}")
}

#[cfg(unix)]
#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    fn first(script: &str) -> std::result::Result<Message, Fault> {
        Turns::start(shell(script), &StopFlag::default()).expect("a shell").hear()
    }

    #[test]
    fn a_crash_is_an_answer() {
        let why = |script: &str| match first(script) {
            Err(Fault::Failed(why)) => why,
            other => panic!("{script}: {other:?}"),
        };
        let text = why("echo no such driver >&2; kill -SEGV $$");
        assert_eq!(text, "its process crashed with signal 11 (SIGSEGV): no such driver");
        assert!(why("kill -KILL $$").contains("out of memory?"));
        assert_eq!(why("exit 3"), "its process ended with exit status: 3");
        assert_eq!(why(r#"echo '{"error": "no device", "exit_code": 2}'; exit 2"#), "no device");
        // In the background of a script SIGINT is ignored, and no shell can change that.
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let ignored = status.lines().find_map(|line| u64::from_str_radix(line.strip_prefix("SigIgn:")?.trim(), 16).ok());
        if ignored.is_some_and(|signals| signals & 0b10 != 0) {
            println!("skipped: SIGINT, which whoever started this test ignores");
        } else {
            assert_eq!(first("kill -INT $$"), Err(Fault::Interrupted));
        }
    }

    #[test]
    fn chatter_is_not_listened_to() {
        let script = r#"echo 'WARNING: lavapipe'; read line; echo "{\"milliseconds\": [2, ${line#measure }], \"peak_memory\": null}""#;
        let stop = StopFlag::default();
        let mut child = Turns::start(shell(script), &stop).expect("a shell");
        assert_eq!(child.ask("measure 1.5"), Ok(Message::Times { milliseconds: vec![2.0, 1.5], peak_memory: None }));
        assert!(matches!(child.ask("measure 1"), Err(Fault::Failed(_))), "it is gone");
    }

    #[test]
    fn a_stop_ends_the_wait_and_the_child() {
        let stop = StopFlag::default();
        let mut child = Turns::start(shell("sleep 60"), &stop).expect("a shell");
        stop.request();
        assert_eq!(child.hear(), Err(Fault::Interrupted));
        let begin = std::time::Instant::now();
        drop(child);
        assert!(begin.elapsed() < Duration::from_secs(10));
    }
}
