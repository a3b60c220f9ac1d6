//! What is asked wrongly gets a reason and a next step, and costs little.

use crate::client::{Answer, FORM, SAMPLE, Server, form};
use crate::common::folder;

fn assert_refused(answer: &Answer, status: u16, code: &str, what: &str) {
    assert_eq!((answer.status, answer.code().as_str()), (status, code), "{what}: {}", answer.text());
    answer.assert_headers();
    assert_eq!(answer.header("content-type"), Some("application/json"), "{what}");
    let told = answer.json()["error"].as_str().expect("words").to_owned();
    assert!(told.len() > 20 && !told.contains("panick"), "{what}: {told}");
}

/// A PNG's header that claims so many pixels, and nothing behind it.
fn png_header(width: u32, height: u32) -> Vec<u8> {
    let mut header = b"IHDR".to_vec();
    header.extend(width.to_be_bytes());
    header.extend(height.to_be_bytes());
    header.extend([8, 2, 0, 0, 0]);
    let crc = header
        .iter()
        .fold(!0u32, |crc, &byte| (0..8).fold(crc ^ u32::from(byte), |crc, _| crc >> 1 ^ 0xEDB8_8320 & (crc & 1).wrapping_neg()));
    // A data chunk and the end: the file is whole, only its pixels are not there.
    [b"\x89PNG\r\n\x1a\n\0\0\0\r".as_slice(), &header, &(!crc).to_be_bytes(), b"\0\0\0\0IDAT\x35\xaf\x06\x1e\0\0\0\0IEND\xaeB`\x82"]
        .concat()
}

/// The sample with another size in its frame header.
fn jpeg_header(width: u16, height: u16) -> Vec<u8> {
    let mut bytes = SAMPLE.to_vec();
    let frame = bytes.windows(2).position(|pair| matches!(pair, [0xFF, 0xC0 | 0xC2])).expect("a frame");
    bytes[frame + 5..frame + 7].copy_from_slice(&height.to_be_bytes());
    bytes[frame + 7..frame + 9].copy_from_slice(&width.to_be_bytes());
    bytes
}

#[test]
fn each_refusal_has_its_status_its_code_and_a_next_step() {
    let server = Server::start(&[]);
    let post = |kind: &str, body: &[u8]| server.post("/api/classify", kind, body);
    let jpeg = |body: &[u8]| post("image/jpeg", body);

    assert_refused(&jpeg(b""), 400, "bad_request", "no body");
    assert_refused(&jpeg(b"<html>not a picture</html>"), 415, "not_an_image", "HTML");
    assert_refused(&jpeg(&SAMPLE[..SAMPLE.len() / 2]), 422, "not_an_image", "half a JPEG");
    assert_refused(&jpeg(&SAMPLE[..3]), 422, "not_an_image", "three bytes of a JPEG");
    assert_refused(&jpeg(&png_header(65535, 65535)), 413, "too_large", "65535² PNG");
    assert_refused(&jpeg(&jpeg_header(65535, 65535)), 413, "too_large", "65535² JPEG");
    assert_refused(&jpeg(&jpeg_header(4900, 4900)), 413, "too_large", "just above 24 million pixels");
    assert_refused(&post("text/plain", SAMPLE), 415, "unsupported_media_type", "text/plain");
    assert_refused(&post("multipart/mixed; boundary=XX", SAMPLE), 415, "unsupported_media_type", "another multipart");

    let five: Vec<_> = (0..5).map(|_| ("a", None, &b"1"[..])).collect();
    assert_refused(&post(FORM, &form(&five)), 400, "bad_request", "five parts");
    assert_refused(&post(FORM, &form(&five.repeat(4000))), 400, "bad_request", "twenty thousand parts");
    assert_refused(&post(FORM, &form(&[("a", Some("a"), SAMPLE), ("b", Some("b"), SAMPLE)])), 400, "bad_request", "two files");
    assert_refused(&post(FORM, &form(&[("a", None, b"1"), ("b", None, b"2")])), 400, "bad_request", "no file");
    assert_refused(&post(FORM, b"--XX\r\nno end"), 400, "bad_request", "a broken form");
    assert_refused(&post("multipart/form-data", &form(&[("a", Some("a"), SAMPLE)])), 400, "bad_request", "no boundary");

    for text in ["", "{", "[]", "{\"inputs\": 3}", "{\"inputs\": \"https://example.org/cat.jpg\"}", "{\"inputs\": \"%%%\"}"] {
        assert_refused(&post("application/json", text.as_bytes()), 400, "bad_request", text);
    }
    assert_refused(&post("application/json", "[".repeat(1 << 20).as_bytes()), 400, "bad_request", "a million brackets");
    assert_refused(&post("application/json", b"{\"inputs\": \"\"}"), 400, "bad_request", "an empty picture");
    assert_refused(&server.post("/api/classify/batch", "image/jpeg", SAMPLE), 415, "unsupported_media_type", "a batch of bytes");

    for query in ["top_k=0", "top_k=-1", "top_k=x", "topk=3", "top_k=1&top_k=2"] {
        assert_refused(&server.post(&format!("/api/classify?{query}"), "image/jpeg", SAMPLE), 400, "bad_request", query);
    }
    assert_refused(&server.post("/models/efficientnet_lite0.in1k?model=a", "image/jpeg", SAMPLE), 400, "bad_request", "two models");

    for path in [
        "/nothing",
        "/../../etc/passwd",
        "/examples/../page.css",
        "/examples/%2e%2e/page.css",
        "/examples/..%2fpage.css",
        "//page.css",
        "/page.css/",
    ] {
        assert_refused(&server.get(path), 404, "not_found", path);
    }
    let wrong = server.get("/api/classify");
    assert_refused(&wrong, 405, "method_not_allowed", "GET");
    assert_eq!(wrong.header("allow"), Some("POST"));
    assert_refused(&server.post("/api/models", "image/jpeg", SAMPLE), 405, "method_not_allowed", "POST");
    assert_eq!(jpeg(SAMPLE).status, 200);
    server.assert_nothing_written();
}

#[test]
fn a_body_above_ten_mebibytes_is_refused_by_its_length_and_by_its_bytes() {
    let server = Server::start(&[]);
    const MIB: usize = 1 << 20;
    // Sent in full: the refusal must reach a client that reads only when it has written everything.
    let body = vec![7; 11 * MIB];
    assert_refused(&server.post("/api/classify", "image/jpeg", &body), 413, "too_large", "11 MiB");
    // Announced and never sent.
    let head = format!("POST /api/classify HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", 10 * MIB + 1);
    assert_refused(&server.send(&head, b""), 413, "too_large", "announced");
    let head = format!("POST /api/classify HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: {}\r\n\r\n", 1u64 << 40);
    assert_refused(&server.send(&head, b""), 413, "too_large", "a tebibyte");
    // In chunks, without a length.
    let mut chunked = Vec::new();
    for _ in 0..11 {
        chunked.extend_from_slice(format!("{MIB:x}\r\n").as_bytes());
        chunked.resize(chunked.len() + MIB, 7);
        chunked.extend_from_slice(b"\r\n");
    }
    chunked.extend_from_slice(b"0\r\n\r\n");
    let head = "POST /api/classify HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_refused(&server.send(head, &chunked), 413, "too_large", "chunked");
    // Ten are read to their end.
    assert_refused(&server.post("/api/classify", "image/jpeg", &body[..10 * MIB]), 415, "not_an_image", "10 MiB");
    assert_eq!(server.post("/api/classify", "image/jpeg", SAMPLE).status, 200);
}

#[test]
fn heads_are_bounded() {
    let server = Server::start(&[]);
    let large = format!("GET /livez HTTP/1.1\r\nHost: x\r\nX-Large: {}\r\n\r\n", "x".repeat(64 << 10));
    assert_eq!(server.send(&large, b"").status, 431);
    let many = format!("GET /livez HTTP/1.1\r\nHost: x\r\n{}\r\n", "X-Many: 1\r\n".repeat(100));
    assert_eq!(server.send(&many, b"").status, 431);
    assert_eq!(server.send("NONSENSE\r\n\r\n", b"").status, 400);
    assert_eq!(server.get("/livez").status, 200);
}

#[test]
fn a_token_opens_everything_but_health_and_the_page() {
    let folder = folder();
    let file = folder.path().join("token");
    std::fs::write(&file, "geheim-7\n").expect("writes");
    let server = Server::start(&["--token-file", file.to_str().expect("UTF-8")]);
    let from_environment = Server::start_with(&[], |command| {
        command.env("TIMBURN_TOKEN", "geheim-7");
    });
    for server in [&server, &from_environment] {
        for path in ["/livez", "/readyz", "/", "/page.css", "/page.js", "/icon.svg"] {
            assert_eq!(server.get(path).status, 200, "{path}");
        }
        for path in ["/metrics", "/api/models", "/api/openapi.json", "/nothing"] {
            let refused = server.get(path);
            assert_refused(&refused, 401, "unauthorized", path);
            assert!(refused.header("www-authenticate").expect("a challenge").starts_with("Bearer"));
        }
        for token in ["geheim", "geheim-8", "geheim-77", "Geheim-7"] {
            let refused = server.post_with("/api/classify", &format!("Authorization: Bearer {token}\r\n"), SAMPLE);
            assert_refused(&refused, 401, "unauthorized", token);
        }
        // A large body that is refused unread.
        assert_refused(&server.post_with("/api/classify", "", &vec![7; 9 << 20]), 401, "unauthorized", "9 MiB");
        assert_eq!(server.post_with("/api/classify", "authorization: bearer geheim-7\r\n", SAMPLE).status, 200);
        assert!(!server.log().contains("geheim"));
    }
}
