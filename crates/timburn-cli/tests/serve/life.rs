//! From the start to the end of a server: addresses, readiness, signals.

use std::io::Write;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use crate::client::{Answer, SAMPLE, Server, command, connect, try_send};
use crate::common::{folder, stderr};

const HEALTH: [&str; 2] = ["/livez", "/readyz"];

fn head(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
}

/// Exit code and stderr of a server that does not start.
fn fails(arguments: &[&str], prepare: impl FnOnce(&std::path::Path)) -> (Option<i32>, String) {
    let folder = folder();
    prepare(folder.path());
    let mut command = command(arguments, folder.path());
    let output = command.stderr(std::process::Stdio::piped()).current_dir(folder.path()).output().expect("the binary runs");
    assert!(output.stdout.is_empty());
    (output.status.code(), stderr(&output))
}

#[test]
fn what_the_command_line_gets_wrong_is_said_and_nothing_is_served() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("an address").port().to_string();
    for (arguments, code, words) in [
        (&["--port", &port][..], 2, "a port that no other program listens on"),
        (&["--host", "192.0.2.1", "--port", "0"], 2, "an address of this machine"),
        (&["--host", "no such host", "--port", "0"], 2, "an address of this machine"),
        (&["--port", "0", "missing.timburn"], 4, "missing.timburn"),
        (&["--port", "0", "garbage.timburn"], 4, "garbage.timburn"),
        (&["--port", "0", "resnet5"], 4, "did you mean `resnet50"),
        (&["--port", "0", "resnet50"], 4, "put it at"),
        (&["--port", "0", "a=resnet20.cifar10", "a=efficientnet_lite0"], 2, "another name than `a`"),
        (&["--port", "0", "--device", "cuda:0"], 2, "--features cuda"),
        (&["--port", "0", "--token-file", "missing"], 1, "missing"),
        (&["--port", "0", "--token-file", "empty"], 2, "visible ASCII"),
        (&["--port", "0", "--max-batch", "0"], 2, "--max-batch"),
        (&["--unix", "socket", "--port", "1"], 2, "--unix"),
        (&["--unix", "empty"], 2, "a path that nothing is at"),
    ] {
        let (found, text) = fails(arguments, |folder| {
            std::fs::write(folder.join("empty"), "\n").expect("writes");
            std::fs::write(folder.join("garbage.timburn"), [7; 100]).expect("writes");
        });
        assert_eq!(found, Some(code), "{arguments:?}: {text}");
        assert!(text.contains(words), "{arguments:?}: {text}");
    }
}

#[test]
fn it_lives_before_it_is_ready() {
    let port = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address").port();
    let (folder, address) = (folder(), format!("127.0.0.1:{port}"));
    let mut child = command(&["--port", &port.to_string()], folder.path()).spawn().expect("the binary runs");
    let started = Instant::now();
    let mut before = 0;
    loop {
        assert!(started.elapsed() < Duration::from_secs(60), "never ready");
        if std::net::TcpStream::connect(&address).is_err() {
            std::thread::sleep(Duration::from_millis(1));
            continue;
        }
        let [lives, ready] = HEALTH.map(|path| try_send(&address, head(path).as_bytes(), b"").expect("an answer"));
        assert_eq!((lives.status, lives.text().as_str()), (200, "ok"));
        if ready.status == 200 {
            assert_eq!(ready.text(), "ready");
            break;
        }
        assert_eq!((ready.status, ready.code().as_str(), ready.header("retry-after")), (503, "not_ready", Some("1")));
        before += 1;
    }
    child.kill().expect("ends");
    child.wait().expect("ends");
    assert!(before > 0, "it was ready before it was asked");
}

/// Sends the head of a request and half of its body; the rest goes later.
fn half(server: &Server) -> std::net::TcpStream {
    let mut stream = server.connect();
    let head = format!("POST /api/classify?top_k=1 HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", SAMPLE.len());
    stream.write_all(head.as_bytes()).expect("sends");
    stream.write_all(&SAMPLE[..SAMPLE.len() / 2]).expect("sends");
    // Until the server counts it.
    let started = Instant::now();
    while !server.get("/metrics").text().contains("timburn_http_requests_in_flight 2") {
        assert!(started.elapsed() < Duration::from_secs(20), "the request does not begin");
        std::thread::sleep(Duration::from_millis(5));
    }
    stream
}

#[test]
fn a_signal_lets_what_is_in_work_finish_and_turns_new_work_away() {
    for (signal, code) in [("TERM", 143), ("INT", 130)] {
        let mut server = Server::start(&[]);
        // A connection that is kept open and does nothing holds up nothing.
        let mut idle = server.connect();
        idle.write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n").expect("sends");
        assert_eq!(Answer::read(&mut idle).expect("an answer").status, 200);
        let mut working = half(&server);
        server.signal(signal);
        let started = Instant::now();
        while server.get("/readyz").status == 200 {
            assert!(started.elapsed() < Duration::from_secs(10), "the signal is not heard");
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(server.get("/livez").status, 200);
        let refused = server.post("/api/classify", "image/jpeg", SAMPLE);
        assert_eq!((refused.status, refused.code().as_str(), refused.header("retry-after")), (503, "not_ready", Some("1")));
        working.write_all(&SAMPLE[SAMPLE.len() / 2..]).expect("sends");
        let answer = Answer::read(&mut working).expect("an answer");
        assert!(answer.labels()[0].contains("cat"));
        assert_eq!(answer.header("connection"), Some("close"));
        let finished = Instant::now();
        assert_eq!(server.wait(Duration::from_secs(10)), Some(code));
        assert!(finished.elapsed() < Duration::from_secs(3), "{:?}", finished.elapsed());
        server_is_gone(&server);
    }
}

fn server_is_gone(server: &Server) {
    assert!(std::net::TcpStream::connect(&server.address).is_err());
}

#[test]
fn a_second_signal_ends_at_once() {
    let mut server = Server::start(&[]);
    let _working = half(&server);
    server.signal("TERM");
    while server.get("/readyz").status == 200 {
        std::thread::sleep(Duration::from_millis(5));
    }
    server.signal("TERM");
    let started = Instant::now();
    assert_eq!(server.wait(Duration::from_secs(10)), Some(143));
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
}

#[test]
fn a_connection_serves_many_requests() {
    let server = Server::start(&[]);
    let mut stream = connect(&server.address);
    for _ in 0..3 {
        let head = format!("POST /api/classify?top_k=1 HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", SAMPLE.len());
        stream.write_all(&[head.as_bytes(), SAMPLE].concat()).expect("sends");
        assert!(Answer::read(&mut stream).expect("an answer").labels()[0].contains("cat"));
        stream.write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n").expect("sends");
        assert_eq!(Answer::read(&mut stream).expect("an answer").text(), "ok");
    }
}

#[test]
#[cfg(unix)]
fn a_unix_socket_is_made_taken_over_and_removed() {
    use std::os::unix::net::UnixStream;
    use std::process::Child;

    let folder = folder();
    let socket = folder.path().join("socket");
    let path = socket.to_str().expect("UTF-8");
    let start = || -> Child {
        let mut child = command(&["--unix", path], folder.path()).spawn().expect("the binary runs");
        let mut line = String::new();
        let stdout = child.stdout.as_mut().expect("stdout");
        std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut line).expect("reads");
        assert_eq!(line, format!("serving efficientnet_lite0.in1k at unix:{path}\n"));
        child
    };
    let classify = || {
        let mut stream = UnixStream::connect(&socket).expect("connects");
        let head = format!("POST /api/classify HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", SAMPLE.len());
        stream.write_all(&[head.as_bytes(), SAMPLE].concat()).expect("sends");
        assert!(Answer::read(&mut stream).expect("an answer").labels()[0].contains("cat"));
    };
    let mut killed = start();
    classify();
    let (code, text) = fails(&["--unix", path], |_| {});
    assert!(code == Some(2) && text.contains("a server listens on this socket"), "{text}");
    killed.kill().expect("ends");
    killed.wait().expect("ends");
    assert!(socket.exists());

    let mut second = start();
    classify();
    std::process::Command::new("kill").args(["-TERM", &second.id().to_string()]).status().expect("kill");
    assert_eq!(second.wait().expect("ends").code(), Some(143));
    assert!(!socket.exists());
}
