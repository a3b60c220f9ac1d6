//! Clients that take their time.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::client::{Answer, SAMPLE, Server};

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
            loop {
                match stream.read(&mut [0; 4096]) {
                    Ok(count) if count > 0 => {}
                    Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return false,
                    _ => return true,
                }
            }
        };
        self.streams.iter_mut().map(gone).filter(|&gone| gone).count()
    }
}

/// The status of the answer that begins here.
fn status(stream: &mut TcpStream) -> u16 {
    let mut start = [0; 12];
    stream.read_exact(&mut start).expect("the start of an answer");
    std::str::from_utf8(&start[9..]).expect("ASCII").parse().expect("a status")
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
    let head = format!("{REQUEST}Expect: 100-continue\r\nContent-Length: 100000\r\n\r\n");
    let statuses = |dribblers: &mut Dribblers| dribblers.streams.iter_mut().map(status).collect::<Vec<_>>();
    let mut bodies = Dribblers { streams: Vec::new(), tail: b"y" };
    for number in 0..200 {
        let mut next = Dribblers::new(&server, 1, &head, b"y");
        // 64 bodies are asked for; who comes later is refused.
        assert_eq!(statuses(&mut next), [if number < 64 { 100 } else { 503 }], "{number}");
        bodies.streams.append(&mut next.streams);
    }
    assert_lives(&server, "200 dribbling bodies");
    let refused = server.post("/api/classify", "image/jpeg", SAMPLE);
    assert_eq!((refused.status, refused.code().as_str(), refused.header("retry-after")), (503, "overloaded", Some("1")));
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
