//! Load on `timburn serve`: requests a second, latencies and memory at 1, 8 and 64 clients.
//!
//! `cargo bench --workspace --bench serve_load`, or with the seconds of each run and the server's arguments behind `--`:
//! `cargo bench --workspace --bench serve_load -- 10 resnet50 --max-batch 16`. Clients and server share the machine: each client is a thread
//! with a connection that it keeps, sends the same photograph (451×300 pixels, JPEG) and waits for the answer.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, dead_code, reason = "a benchmark, with the helpers of tests")]

#[path = "../tests/serve/client.rs"]
mod client;
#[path = "../tests/common/mod.rs"]
mod common;

use std::io::Write;
use std::time::{Duration, Instant};

use client::{Answer, SAMPLE, Server};

const REPEATS: usize = 3;

/// What one run of so many clients gave.
struct Outcome {
    per_second: f64,
    refused: usize,
    /// Sorted.
    latencies: Vec<Duration>,
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let (seconds, arguments) = match arguments.split_first() {
        Some((first, rest)) if first.parse::<f64>().is_ok() => (first.parse().unwrap(), rest.to_vec()),
        _ => (4.0, arguments),
    };
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).chain(["--quiet"]).collect();
    let server = Server::start(&arguments);
    let model = server.get("/api/models").json()[0]["name"].clone();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    println!("{model}, {cores} cores for server and clients, {} bytes of JPEG, {REPEATS} runs of {seconds} s", SAMPLE.len());
    println!("clients  requests/s (spread)      n  refused   p50 ms   p99 ms   RSS MiB");
    run(&server, 8, 1.0);
    for clients in [1, 8, 64] {
        let outcomes: Vec<Outcome> = (0..REPEATS).map(|_| run(&server, clients, seconds)).collect();
        let mut rates: Vec<f64> = outcomes.iter().map(|outcome| outcome.per_second).collect();
        rates.sort_by(f64::total_cmp);
        let mut latencies: Vec<Duration> = outcomes.iter().flat_map(|outcome| outcome.latencies.iter().copied()).collect();
        latencies.sort();
        let at = |share: f64| latencies[((latencies.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
        println!(
            "{clients:7} {:11.1} ({:.1}-{:.1}) {:6} {:8} {:8.1} {:8.1} {:>9}",
            rates[REPEATS / 2],
            rates[0],
            rates[REPEATS - 1],
            latencies.len(),
            outcomes.iter().map(|outcome| outcome.refused).sum::<usize>(),
            at(0.5),
            at(0.99),
            resident(&server)
        );
    }
}

fn run(server: &Server, clients: usize, seconds: f64) -> Outcome {
    let started = Instant::now();
    let end = started + Duration::from_secs_f64(seconds);
    let head = format!("POST /api/classify HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\nContent-Length: {}\r\n\r\n", SAMPLE.len());
    let request = [head.as_bytes(), SAMPLE].concat();
    let client = || {
        let (mut stream, mut latencies, mut refused) = (server.connect(), Vec::new(), 0);
        stream.set_nodelay(true).expect("a socket");
        while Instant::now() < end {
            let asked = Instant::now();
            stream.write_all(&request).expect("sends");
            let answer = Answer::read(&mut stream).expect("an answer");
            match answer.status {
                200 => latencies.push(asked.elapsed()),
                503 => {
                    refused += 1;
                    std::thread::sleep(Duration::from_millis(100));
                }
                status => panic!("{status}: {}", answer.text()),
            }
        }
        (latencies, refused)
    };
    let answers: Vec<(Vec<Duration>, usize)> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..clients).map(|_| scope.spawn(client)).collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    });
    let elapsed = started.elapsed().as_secs_f64();
    let refused = answers.iter().map(|(_, refused)| refused).sum();
    let latencies: Vec<Duration> = answers.into_iter().flat_map(|(latencies, _)| latencies).collect();
    Outcome { per_second: latencies.len() as f64 / elapsed, refused, latencies }
}

#[cfg(target_os = "linux")]
fn resident(server: &Server) -> String {
    server.memory("VmRSS").to_string()
}

#[cfg(not(target_os = "linux"))]
fn resident(_: &Server) -> String {
    "-".into()
}
