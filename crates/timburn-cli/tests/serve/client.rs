//! A server of the built binary, and a client made of a plain socket: it sends what no library would.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

pub(crate) const SAMPLE: &[u8] = include_bytes!("../../../timburn-data/assets/chelsea.jpg");

/// A running server; killed when dropped.
pub(crate) struct Server {
    child: Child,
    pub(crate) address: String,
    folder: tempfile::TempDir,
}

/// A command for a server in a folder of its own: what it writes to its working or temporary folder is seen.
pub(crate) fn command(arguments: &[&str], folder: &Path) -> Command {
    let mut command = super::common::command(&[&["serve"], arguments].concat(), folder);
    for name in ["cwd", "tmp"] {
        std::fs::create_dir_all(folder.join(name)).expect("a folder");
    }
    let log = std::fs::File::create(folder.join("log")).expect("a log");
    command.current_dir(folder.join("cwd")).env("TMPDIR", folder.join("tmp")).env_remove("TIMBURN_TOKEN");
    command.stdout(Stdio::piped()).stderr(log);
    command
}

impl Server {
    pub(crate) fn start(arguments: &[&str]) -> Self {
        Self::start_with(arguments, |_| {})
    }

    pub(crate) fn start_with(arguments: &[&str], prepare: impl FnOnce(&mut Command)) -> Self {
        let folder = super::common::folder();
        let mut command = command(&[&["--port", "0", "--json"], arguments].concat(), folder.path());
        prepare(&mut command);
        let mut child = command.spawn().expect("the binary runs");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("stdout")).read_line(&mut line).expect("reads");
        let log = || std::fs::read_to_string(folder.path().join("log")).unwrap_or_default();
        let announced: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}\n{}", log()));
        let address = announced["address"].as_str().expect("an address").strip_prefix("http://").expect("http").to_owned();
        Self { child, address, folder }
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.send(&format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"), b"")
    }

    pub(crate) fn post(&self, path: &str, kind: &str, body: &[u8]) -> Answer {
        self.post_with(path, &format!("Content-Type: {kind}\r\n"), body)
    }

    /// `headers` are lines that end in CRLF.
    pub(crate) fn post_with(&self, path: &str, headers: &str, body: &[u8]) -> Answer {
        let length = body.len();
        self.send(&format!("POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}Content-Length: {length}\r\n\r\n"), body)
    }

    /// Sends bytes and reads the answer.
    pub(crate) fn send(&self, head: &str, body: &[u8]) -> Answer {
        try_send(&self.address, head.as_bytes(), body).unwrap_or_else(|| panic!("no answer to {head}\n{}", self.log()))
    }

    pub(crate) fn connect(&self) -> TcpStream {
        connect(&self.address)
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).expect("a log")
    }

    /// The log, as soon as it holds a whole line with `words`: a line is written after its answer is on its way.
    pub(crate) fn log_with(&self, words: &str) -> String {
        let started = Instant::now();
        loop {
            let log = self.log();
            let whole = log.rsplit_once('\n').is_some_and(|(lines, _)| lines.contains(words));
            if whole || started.elapsed() > Duration::from_secs(20) {
                return log;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub(crate) fn signal(&self, name: &str) {
        let status = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status().expect("kill");
        assert!(status.success());
    }

    /// Waits for the end; its exit code.
    pub(crate) fn wait(&mut self, patience: Duration) -> Option<i32> {
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("a child") {
                return status.code();
            }
            assert!(started.elapsed() < patience, "the server does not end\n{}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// A line of `/proc/PID/status` in MiB: `VmRSS`, `VmHWM`.
    #[cfg(target_os = "linux")]
    pub(crate) fn memory(&self, line: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("a process");
        let value = status.lines().find_map(|found| found.strip_prefix(line)?.strip_prefix(':')).expect("a line");
        value.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") / 1024
    }

    /// The server has left nothing in its working and its temporary folder, and holds no file there that has lost its name.
    pub(crate) fn assert_nothing_written(&self) {
        for name in ["cwd", "tmp"] {
            let path = self.folder.path().join(name);
            let left: Vec<PathBuf> = std::fs::read_dir(path).expect("a folder").map(|entry| entry.expect("an entry").path()).collect();
            assert!(left.is_empty(), "{left:?}");
        }
        #[cfg(target_os = "linux")]
        for entry in std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).expect("a process").flatten() {
            let target = std::fs::read_link(entry.path()).unwrap_or_default();
            assert!(!target.to_string_lossy().ends_with("(deleted)"), "{target:?}");
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn connect(address: &str) -> TcpStream {
    let stream = TcpStream::connect(address).expect("connects");
    stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a timeout");
    stream
}

/// Sends bytes, ignoring that the server may not want all of them, and reads an answer; none where the server closes without one.
pub(crate) fn try_send(address: &str, head: &[u8], body: &[u8]) -> Option<Answer> {
    let mut stream = connect(address);
    stream.write_all(head).ok()?;
    let _ = stream.write_all(body);
    Answer::read(&mut stream)
}

/// Reads something; none at the end or where the connection breaks.
fn some(stream: &mut impl Read, buffer: &mut [u8]) -> Option<usize> {
    loop {
        match stream.read(buffer) {
            // A read with a time limit ends so when the process was stopped meanwhile.
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            outcome => return outcome.ok().filter(|&count| count > 0),
        }
    }
}

/// What a server says.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn read(stream: &mut impl Read) -> Option<Self> {
        let (mut bytes, mut buffer) = (Vec::new(), [0; 8192]);
        loop {
            let end = bytes.windows(4).position(|window| window == b"\r\n\r\n");
            if let Some(end) = end {
                let head = String::from_utf8(bytes[..end].to_vec()).expect("ASCII");
                let status = head.split(' ').nth(1).expect("a status").parse().expect("a number");
                let mut answer = Self { status, head, body: bytes[end + 4..].to_vec() };
                if status == 100 {
                    bytes.drain(..end + 4);
                    continue;
                }
                let length: usize = answer.header("content-length").map_or(0, |length| length.parse().expect("a number"));
                while answer.body.len() < length {
                    let count = some(stream, &mut buffer)?;
                    answer.body.extend_from_slice(&buffer[..count]);
                }
                return Some(answer);
            }
            let count = some(stream, &mut buffer)?;
            bytes.extend_from_slice(&buffer[..count]);
        }
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        lines.filter(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value).next()
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// The code of a refusal.
    pub(crate) fn code(&self) -> String {
        self.json()["code"].as_str().unwrap_or_else(|| panic!("no code: {}", self.text())).to_owned()
    }

    /// Labels, best first.
    pub(crate) fn labels(&self) -> Vec<String> {
        assert_eq!(self.status, 200, "{}", self.text());
        labels(&self.json())
    }

    /// What every answer carries.
    pub(crate) fn assert_headers(&self) {
        assert_eq!(self.header("x-content-type-options"), Some("nosniff"), "{}", self.head);
        assert_eq!(self.header("referrer-policy"), Some("no-referrer"));
        let policy = self.header("content-security-policy").expect("a policy");
        assert!(policy.starts_with("default-src 'none'; script-src 'self';") && policy.contains("frame-ancestors 'none'"), "{policy}");
        assert!(self.header("x-request-id").is_some_and(|id| (1..=64).contains(&id.len())));
        assert!(self.header("access-control-allow-origin").is_none());
    }
}

pub(crate) fn labels(list: &Value) -> Vec<String> {
    list.as_array().expect("a list").iter().map(|row| row["label"].as_str().expect("a label").to_owned()).collect()
}

/// A form of fields: name, file name, content.
pub(crate) fn form(fields: &[(&str, Option<&str>, &[u8])]) -> Vec<u8> {
    let mut body = Vec::new();
    for (name, file, content) in fields {
        let file = file.map(|file| format!("; filename=\"{file}\"")).unwrap_or_default();
        body.extend_from_slice(format!("--XX\r\nContent-Disposition: form-data; name=\"{name}\"{file}\r\n\r\n").as_bytes());
        body.extend_from_slice(content);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"--XX--\r\n");
    body
}

pub(crate) const FORM: &str = "multipart/form-data; boundary=XX";

pub(crate) fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().fold(0u32, |word, &byte| word << 8 | u32::from(byte)) << (8 * (3 - chunk.len()));
        for place in 0..4 {
            let letter = char::from(LETTERS[(word >> (18 - 6 * place)) as usize & 63]);
            text.push(if place <= chunk.len() { letter } else { '=' });
        }
    }
    text
}
