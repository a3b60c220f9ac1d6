//! What the Rust contenders share: threads, clocks, output, and the steps that are nobody's library.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

/// One picture, by its index and bytes, into `3 * 224 * 224` numbers.
pub(crate) type Step = fn(usize, &[u8], &mut [f32]);

/// `(x / 255 - mean) / std` with ImageNet's statistics, channel by channel, mirrored if asked.
pub(crate) fn normalize(pixels: &[u8], side: usize, mirrored: bool, out: &mut [f32]) {
    const MEAN: [f32; 3] = [0.485, 0.456, 0.406];
    const STD: [f32; 3] = [0.229, 0.224, 0.225];
    assert_eq!(pixels.len(), side * side * 3);
    let pixels = pixels.as_chunks::<3>().0;
    for (channel, plane) in out.chunks_exact_mut(side * side).enumerate() {
        let (scale, bias) = (1.0 / 255.0 / STD[channel], -MEAN[channel] / STD[channel]);
        for (row, out) in pixels.chunks_exact(side).zip(plane.chunks_exact_mut(side)) {
            if mirrored {
                out.iter_mut().zip(row.iter().rev()).for_each(|(out, pixel)| *out = f32::from(pixel[channel]) * scale + bias);
            } else {
                out.iter_mut().zip(row).for_each(|(out, pixel)| *out = f32::from(pixel[channel]) * scale + bias);
            }
        }
    }
    std::hint::black_box(out);
}

/// Wall seconds and CPU seconds of one pass over all files.
fn pass(files: &[Vec<u8>], step: Step, threads: usize) -> (f64, f64) {
    let next = AtomicUsize::new(0);
    let begin = Instant::now();
    let cpu = std::thread::scope(|scope| {
        let worker = || {
            let mut out = vec![0.0; 3 * 224 * 224];
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                let Some(bytes) = files.get(index) else { return cpu_seconds() };
                step(index, bytes, &mut out);
            }
        };
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().map(|worker| worker.join().expect("a worker panicked")).sum()
    });
    (begin.elapsed().as_secs_f64(), cpu)
}

/// CPU time of this thread (Linux; elsewhere not a number).
fn cpu_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split(' ').next().and_then(|text| text.parse::<f64>().ok()).map_or(f64::NAN, |nanoseconds| nanoseconds * 1e-9)
}

/// Measures every step with 1 and 2 threads and prints the results.
pub(crate) fn run(files: &[Vec<u8>], steps: &[(&str, &str, Step)]) {
    let arguments: Vec<_> = std::env::args().collect();
    // `cargo test` runs benches too, with `--test`: there is nothing to test here.
    if files.is_empty() || arguments.iter().any(|argument| argument == "--test") {
        return;
    }
    let rows = arguments.iter().position(|argument| argument == "--rows");
    let repeats = rows.map_or(7, |at| arguments.get(at + 1).and_then(|text| text.parse().ok()).unwrap_or(1));
    if rows.is_none() {
        let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model =
            info.lines().find_map(|line| line.strip_prefix("model name")).map_or("unknown", |line| line.trim_matches(['\t', ':', ' ']));
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        println!("CPU {model}, {cores} cores, n = {} photographs, {repeats} repeats, first pass not counted", files.len());
    }
    for &(task, name, step) in steps {
        for threads in [1, 2] {
            pass(&files[..files.len() / 4], step, threads);
            let mut passes: Vec<_> = (0..repeats).map(|_| pass(files, step, threads)).collect();
            passes.sort_by(|a, b| a.0.total_cmp(&b.0));
            let n = files.len() as f64;
            let rate = |at: usize| n / passes[at].0;
            let cpu = passes.iter().map(|pass| pass.1).fold(f64::INFINITY, f64::min) * 1e3 / n;
            if rows.is_some() {
                passes.iter().for_each(|(wall, cpu)| println!("{task}\t{name}\t{threads}\t{:.2}\t{:.4}", n / wall, cpu * 1e3 / n));
            } else {
                let (least, middle, most) = (rate(repeats - 1), rate(repeats / 2), rate(0));
                println!("{task:10} {name:26} {threads} threads {middle:7.0} img/s ({least:.0}-{most:.0})  {cpu:6.3} ms CPU/img");
            }
        }
    }
}
