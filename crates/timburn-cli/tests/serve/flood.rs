//! Many clients at once.

use std::sync::Barrier;

use crate::client::{Answer, SAMPLE, Server, try_send};

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
