//! The protocol of the contestants, as `timburn bench --turns` and `turns.py` speak it: a line `{"ready": …}` when all is warm, then for each line
//! `measure SECONDS` on stdin a line of JSON with the times of the runs.

use std::io::{BufRead, Write};
use std::time::Instant;

/// Speaks the protocol until stdin ends; `work` is one run.
pub fn serve(version: &str, mut work: impl FnMut()) {
    let start = Instant::now();
    work();
    let first = start.elapsed().as_secs_f64();
    work();
    println!(r#"{{"ready": true, "version": "{version}", "first_ms": {}}}"#, first * 1e3);
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        let Some(seconds) = line.strip_prefix("measure ").and_then(|text| text.parse::<f64>().ok()) else { continue };
        work();
        let (begin, mut times) = (Instant::now(), Vec::new());
        while times.len() < 3 || begin.elapsed().as_secs_f64() < seconds {
            let start = Instant::now();
            work();
            times.push(format!("{:.4}", start.elapsed().as_secs_f64() * 1e3));
        }
        println!(r#"{{"milliseconds": [{}], "peak_memory": {}}}"#, times.join(", "), peak_memory());
        let _ = std::io::stdout().flush();
    }
}

/// The most memory this process has held, in bytes.
fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    1024 * line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse::<u64>().ok()).unwrap_or(0)
}

/// Argument `index` as a number.
pub fn number(index: usize) -> usize {
    std::env::args().nth(index).and_then(|text| text.parse().ok()).expect("a number")
}
