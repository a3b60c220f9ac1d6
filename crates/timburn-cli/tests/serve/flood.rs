//! Many clients at once, and clients that take their time.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use crate::client::{Answer, SAMPLE, Server, try_send};

/// How long a health check may take, whatever else goes on.
const HEALTH: Duration = Duration::from_millis(100);

fn assert_lives(server: &Server, what: &str) {
    let mut times: Vec<Duration> = (0..20)
        .map(|_| {
            let started = Instant::now();
            assert_eq!(server.get("/livez").status, 200, "{what}");
            started.elapsed()
        })
        .collect();
    times.sort();
    // One of twenty may be the machine's fault, which runs other tests beside this one.
    assert!(times[18] < HEALTH, "{what}: {times:?}");
}

#[test]
fn five_hundred_clients_are_answered_or_turned_away() {
    let server = Server::start(&["--queue", "64", "--quiet"]);
    let all_here = Barrier::new(501);
    let head = format!("POST /api/classify?top_k=1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", SAMPLE.len());
    let answers: Vec<Option<Answer>> = std::thread::scope(|scope| {
        let client = || {
            all_here.wait();
            try_send(&server.address, head.as_bytes(), SAMPLE)
        };
        let clients: Vec<_> =
            (0..500).map(|_| std::thread::Builder::new().stack_size(256 << 10).spawn_scoped(scope, client).expect("a thread")).collect();
        all_here.wait();
        clients.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    });
    let answers: Vec<Answer> = answers.into_iter().map(|answer| answer.expect("every client gets an answer")).collect();
    let (good, refused): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.status == 200);
    assert!(good.len() >= 64, "{} answers", good.len());
    assert!(good.iter().all(|answer| answer.labels()[0].contains("cat")));
    for answer in &refused {
        assert_eq!((answer.status, answer.code().as_str(), answer.header("retry-after")), (503, "overloaded", Some("1")));
    }
    let metrics = server.get("/metrics").text();
    for line in ["timburn_queue_pictures 0", "timburn_http_requests_in_flight 1"] {
        assert!(metrics.lines().any(|found| found == line), "{line} is missing in\n{metrics}");
    }
    assert_eq!(server.post("/api/classify", "image/jpeg", SAMPLE).status, 200);
    #[cfg(target_os = "linux")]
    assert!(server.memory("VmHWM") < 700, "{} MiB", server.memory("VmHWM"));
    server.assert_nothing_written();
}

/// Clients that have sent `head` and send a byte of `tail` now and then.
struct Dribblers {
    streams: Vec<TcpStream>,
    tail: &'static [u8],
}

impl Dribblers {
    fn new(server: &Server, count: usize, head: &str, tail: &'static [u8]) -> Self {
        let dribbler = || {
            let mut stream = TcpStream::connect(&server.address).expect("connects");
            let _ = stream.write_all(head.as_bytes());
            stream
        };
        Self { streams: (0..count).map(|_| dribbler()).collect(), tail }
    }

    fn dribble(&mut self) {
        for stream in &mut self.streams {
            let _ = stream.write_all(self.tail);
        }
    }

    /// How many the server has closed.
    fn closed(&mut self) -> usize {
        let gone = |stream: &mut TcpStream| {
            stream.set_nonblocking(true).expect("a socket");
            !matches!(stream.read(&mut [0; 4096]), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
        };
        self.streams.iter_mut().map(gone).filter(|&gone| gone).count()
    }
}

#[test]
fn two_hundred_dribbling_clients_keep_nobody_out() {
    const REQUEST: &str = "POST /api/classify HTTP/1.1\r\nHost: x\r\n";
    // Few places, so that the dribblers would take them all.
    let server = Server::start(&["--max-connections", "64", "--quiet"]);
    let mut heads = Dribblers::new(&server, 200, REQUEST, b"X: y\r\n");
    assert_lives(&server, "200 dribbling heads");
    heads.dribble();
    assert_eq!(server.post("/api/classify", "image/jpeg", SAMPLE).status, 200, "heads that dribble give way to whole ones");
    drop(heads);

    // With a body on its way a connection is at work and stays: health is all that is left.
    let started = Instant::now();
    let mut bodies = Dribblers::new(&server, 200, &format!("{REQUEST}Content-Length: 100000\r\n\r\n"), b"y");
    assert_lives(&server, "200 dribbling bodies");
    let refused = server.post("/api/classify", "image/jpeg", SAMPLE);
    assert_eq!((refused.status, refused.code().as_str(), refused.header("retry-after")), (503, "overloaded", Some("1")));
    // Those beyond the cap have been refused already.
    assert!(bodies.closed() >= 100, "{}", bodies.closed());

    // Ten seconds for a head, on a server with room; thirty for a body.
    let roomy = Server::start(&["--quiet"]);
    let mut heads = Dribblers::new(&roomy, 20, REQUEST, b"X: y\r\n");
    let mut one = roomy.connect();
    one.write_all(format!("{REQUEST}Content-Length: 100000\r\n\r\n").as_bytes()).expect("sends");
    let asked = Instant::now();
    while asked.elapsed() < Duration::from_millis(8500) {
        heads.dribble();
        let _ = one.write_all(b"y");
        std::thread::sleep(Duration::from_millis(500));
        assert_lives(&roomy, "dribbling");
    }
    assert_eq!(heads.closed(), 0, "before their time");
    while heads.closed() < 20 {
        assert!(asked.elapsed() < Duration::from_secs(14), "heads dribble on: {} closed", heads.closed());
        heads.dribble();
        std::thread::sleep(Duration::from_millis(200));
    }
    assert!(asked.elapsed() >= Duration::from_secs(9));
    let late = Answer::read(&mut one).unwrap_or_else(|| panic!("no answer after {:?}", asked.elapsed()));
    assert_eq!((late.status, late.code().as_str(), late.header("connection")), (408, "timeout", Some("close")));
    assert!((29..34).contains(&asked.elapsed().as_secs()), "{:?}", asked.elapsed());

    // The dribbling bodies are done with, too.
    std::thread::sleep(Duration::from_secs(33).saturating_sub(started.elapsed()));
    assert_eq!(server.post("/api/classify", "image/jpeg", SAMPLE).status, 200);
    assert_eq!(bodies.closed(), 200);
}
