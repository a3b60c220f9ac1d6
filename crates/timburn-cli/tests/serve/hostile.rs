//! Uploads made to break decoders, parsers and memory.

use std::io::Write;
use std::net::Shutdown;

use crate::client::{Answer, FORM, SAMPLE, Server, base64, form, try_send};

/// Small files of each kind, with their peculiarities.
const SEEDS: [&[u8]; 8] = [
    include_bytes!("../../../../parity/goldens/images/files/interlaced.png"),
    include_bytes!("../../../../parity/goldens/images/files/gray16.png"),
    include_bytes!("../../../../parity/goldens/images/files/lossy.webp"),
    include_bytes!("../../../../parity/goldens/images/files/lossless.webp"),
    include_bytes!("../../../../parity/goldens/images/files/animated.webp"),
    include_bytes!("../../../../parity/goldens/images/files/animated.gif"),
    include_bytes!("../../../../parity/goldens/images/files/gray.tiff"),
    include_bytes!("../../../../parity/goldens/images/files/bilevel.bmp"),
];

/// SplitMix64: the same uploads in every run.
struct Draws(u64);

impl Draws {
    fn next(&mut self, below: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((mixed ^ mixed >> 31) % below.max(1) as u64) as usize
    }

    /// A picture with bytes changed, cut out, doubled or put in.
    fn picture(&mut self) -> Vec<u8> {
        // Half of them JPEG, of which there are most in the world.
        let mut bytes = match self.next(2) {
            0 => SAMPLE.to_vec(),
            _ => SEEDS[self.next(SEEDS.len())].to_vec(),
        };
        for _ in 0..1 + self.next(12) {
            // Mostly near the start, where sizes and tables are.
            let reach = if self.next(3) > 0 { bytes.len().min(700) } else { bytes.len() };
            let at = self.next(reach);
            match self.next(8) {
                0 => bytes.truncate(at),
                1 => {
                    let end = (at + self.next(64)).min(bytes.len());
                    drop(bytes.drain(at..end));
                }
                2 => {
                    let end = (at + self.next(64)).min(bytes.len());
                    let copy = bytes[at..end].to_vec();
                    drop(bytes.splice(at..at, copy));
                }
                3 if at < bytes.len() => bytes[at] = [0, 0xFF, 0x7F, 0x80][self.next(4)],
                _ if at < bytes.len() => bytes[at] = self.next(256) as u8,
                _ => {}
            }
        }
        bytes
    }
}

const REQUEST: &str = "POST /api/classify?top_k=1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n";

/// One upload; its status, 0 where the server closed without an answer.
fn upload(address: &str, draws: &mut Draws) -> u16 {
    let picture = draws.picture();
    let send = |headers: &str, body: &[u8]| try_send(address, format!("{REQUEST}{headers}\r\n\r\n").as_bytes(), body);
    let sized = |kind: &str, body: &[u8]| send(&format!("Content-Type: {kind}\r\nContent-Length: {}", body.len()), body);
    let send_and_end = |headers: &str, body: &[u8]| {
        let mut stream = crate::client::connect(address);
        let _ = write!(stream, "{REQUEST}{headers}\r\n\r\n");
        let _ = stream.write_all(body);
        let _ = stream.shutdown(Shutdown::Write);
        Answer::read(&mut stream)
    };
    let answer = match draws.next(12) {
        // A length that promises more than comes, and chunks that do.
        0 => send_and_end(&format!("Content-Length: {}", picture.len() + 1 + draws.next(5000)), &picture),
        5 => send_and_end(
            "Transfer-Encoding: chunked",
            &[format!("{:x}\r\n", draws.next(1 << 30)).as_bytes(), &picture, b"\r\n0\r\n\r\n"].concat(),
        ),
        // One that promises less, one that is none, two that differ, one beside chunks.
        1 => send(&format!("Content-Length: {}", draws.next(picture.len())), &picture),
        2 => send(["Content-Length: -1", "Content-Length: 99999999999999999999999", "Content-Length: 1e3"][draws.next(3)], &picture),
        3 => send(&format!("Content-Length: {}\r\nContent-Length: 1", picture.len()), &picture),
        4 => send_and_end(&format!("Transfer-Encoding: chunked\r\nContent-Length: {}", picture.len()), &picture),
        // Forms with many parts, or broken ones.
        6 => {
            let parts: Vec<_> =
                (0..draws.next(3000)).map(|_| ("a", (draws.next(2) == 0).then_some("a"), &picture[..picture.len().min(16)])).collect();
            sized(FORM, &form(&parts))
        }
        7 => {
            let mut body = form(&[("file", Some("x"), &picture)]);
            let (from, to) = (draws.next(body.len()), draws.next(120));
            body.drain(from..(from + to).min(body.len()));
            sized(FORM, &body)
        }
        8 => sized("application/json", format!("{{\"inputs\":\"{}\"}}", base64(&picture)).as_bytes()),
        _ => sized("image/jpeg", &picture),
    };
    answer.map_or(0, |answer| answer.status)
}

#[test]
fn hostile_uploads_cost_neither_life_nor_memory() {
    let count: usize = std::env::var("TIMBURN_UPLOADS").ok().and_then(|text| text.parse().ok()).unwrap_or(400);
    let server = Server::start(&["--quiet"]);
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let (address, clients) = (&server.address, 4);
        let client = |number: usize| {
            move || {
                let upload = |index: usize| upload(address, &mut Draws(index as u64));
                (number..count).step_by(clients).map(upload).collect::<Vec<_>>()
            }
        };
        let clients: Vec<_> = (0..clients).map(|number| scope.spawn(client(number))).collect();
        clients.into_iter().flat_map(|thread| thread.join().expect("no panic")).collect()
    });
    let mut counts = std::collections::BTreeMap::new();
    statuses.iter().for_each(|status| *counts.entry(*status).or_insert(0) += 1);
    // 0: a body that broke off has nobody to answer to.
    assert!(counts.keys().all(|status| [0, 200, 400, 413, 415, 422].contains(status)), "{counts:?}\n{}", server.log());
    for status in [200, 400, 415, 422] {
        assert!(counts.contains_key(&status), "no {status}: {counts:?}");
    }
    // A decoder of others may panic, which is caught; own code may not.
    assert!(!server.log().contains("panicked at crates/"), "{}", server.log());
    assert_eq!(server.post("/api/classify", "image/jpeg", SAMPLE).status, 200);
    server.assert_nothing_written();
    #[cfg(target_os = "linux")]
    {
        let (now, most) = (server.memory("VmRSS"), server.memory("VmHWM"));
        println!("{count} uploads: {counts:?}, {now} MiB resident, {most} MiB at most");
        assert!(most < 1200 && now < 700, "{now} MiB, {most} MiB at most");
    }
}

/// Two dozen pictures of 24 million pixels at once: decoded one after the other, they fit.
#[test]
#[ignore = "a minute of a core's time"]
#[cfg(target_os = "linux")]
fn large_pictures_at_once_fit_into_memory() {
    let (width, height) = (6000, 4000);
    let pixels = (0..width * height * 3).map(|index| (index % 251) as u8).collect();
    let picture = timburn_data::Rgb8Image::new(width, height, pixels).expect("a picture");
    let png = timburn_data::picture::encode_png(&picture).expect("a PNG");
    let jpeg = timburn_data::picture::encode_jpeg(&picture, 50).expect("a JPEG");
    drop(picture);
    assert!(png.len() < 10 << 20 && jpeg.len() < 10 << 20, "{} and {} bytes", png.len(), jpeg.len());
    let server = Server::start(&["--quiet"]);
    std::thread::scope(|scope| {
        for number in 0..24 {
            let (server, body) = (&server, if number % 2 == 0 { &png } else { &jpeg });
            scope.spawn(move || {
                let status = server.post("/api/classify", "image/jpeg", body).status;
                assert!([200, 503].contains(&status), "{status}");
            });
        }
    });
    let (now, most) = (server.memory("VmRSS"), server.memory("VmHWM"));
    println!("24 pictures of 24 million pixels: {now} MiB resident, {most} MiB at most");
    assert!(most < 1400, "{most} MiB");
}
