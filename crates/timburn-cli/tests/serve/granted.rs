//! What is asked rightly is answered.

use serde_json::{Value, json};

use crate::client::{FORM, SAMPLE, Server, base64, form, labels};
use crate::common::{folder, stdout, timburn};

#[test]
fn a_picture_gets_the_same_labels_however_it_comes() {
    let server = Server::start(&[]);
    let answer = server.post("/api/classify", "image/jpeg", SAMPLE);
    answer.assert_headers();
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    let timing = answer.header("server-timing").expect("a timing");
    assert!(timing.contains("queue;dur=") && timing.contains("model;dur="), "{timing}");
    let expected = answer.json();
    let rows = expected.as_array().expect("a list");
    assert_eq!(rows.len(), 5);
    assert!(rows.iter().all(|row| row.as_object().expect("an object").keys().eq(["label", "score"])), "{expected}");
    assert!(rows.windows(2).all(|pair| pair[0]["score"].as_f64() >= pair[1]["score"].as_f64()), "{expected}");

    // What the command line says of the same picture.
    let folder = folder();
    let predicted = timburn(&["predict", "--json"], folder.path());
    let predicted: Value = serde_json::from_str(&stdout(&predicted)).expect("JSON");
    assert_eq!(labels(&predicted[0]["predictions"]), labels(&expected));

    let inputs = base64(SAMPLE);
    let json = |value: Value| serde_json::to_vec(&value).expect("JSON");
    let file = form(&[("file", Some("cat.jpg"), SAMPLE)]);
    for (kind, body) in [
        ("application/octet-stream", SAMPLE.to_vec()),
        ("IMAGE/PNG", SAMPLE.to_vec()),
        ("application/x-www-form-urlencoded", SAMPLE.to_vec()),
        (FORM, file.clone()),
        (FORM, form(&[("a", None, b"1"), ("x", Some("x"), SAMPLE), ("b", None, b"2"), ("c", None, b"3")])),
        (FORM, form(&[("inputs", None, SAMPLE)])),
        ("application/json", json(json!({ "inputs": inputs }))),
        (
            "application/json; charset=utf-8",
            json(json!({ "inputs": format!("data:image/jpeg;base64,{inputs}"), "parameters": { "top_k": 5 } })),
        ),
    ] {
        let answer = server.post("/api/classify", kind, &body);
        assert_eq!((answer.status, answer.json()), (200, expected.clone()), "{kind}");
    }
    let untyped = server.post_with("/api/classify", "", SAMPLE);
    assert_eq!(untyped.json(), expected);
    assert_eq!(server.post("/models/efficientnet_lite0.in1k", "image/jpeg", SAMPLE).json(), expected);

    // Chunked, in pieces of a thousand bytes.
    let mut chunked = Vec::new();
    for piece in SAMPLE.chunks(1000) {
        chunked.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
        chunked.extend_from_slice(piece);
        chunked.extend_from_slice(b"\r\n");
    }
    chunked.extend_from_slice(b"0\r\n\r\n");
    let head = "POST /api/classify HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(server.send(head, &chunked).json(), expected);

    // The number of labels, by query and by Hugging Face's parameters.
    assert_eq!(server.post("/api/classify?top_k=2", "image/jpeg", SAMPLE).labels().len(), 2);
    assert_eq!(server.post("/api/classify?top_k=100000", "image/jpeg", SAMPLE).labels().len(), 1000);
    let asked = json(json!({ "inputs": inputs, "parameters": { "top_k": 1, "function_to_apply": "softmax" } }));
    assert_eq!(server.post("/models/efficientnet_lite0.in1k", "application/json", &asked).labels(), labels(&expected)[..1]);
    server.assert_nothing_written();
}

#[test]
fn a_batch_answers_each_picture_for_itself() {
    let server = Server::start(&[]);
    let (good, cut) = (base64(SAMPLE), base64(&SAMPLE[..SAMPLE.len() / 2]));
    let body = json!({ "inputs": [good, "###", cut, base64(b"no picture at all"), good], "parameters": { "top_k": 3 } });
    let answer = server.post("/api/classify/batch", "application/json", &serde_json::to_vec(&body).expect("JSON"));
    assert_eq!(answer.status, 200, "{}", answer.text());
    let outcomes = answer.json();
    assert_eq!(outcomes.as_array().expect("a list").len(), 5);
    let expected = server.post("/api/classify?top_k=3", "image/jpeg", SAMPLE).labels();
    assert_eq!((labels(&outcomes[0]), labels(&outcomes[4])), (expected.clone(), expected));
    let codes: Vec<&str> = (1..4).map(|index| outcomes[index]["code"].as_str().expect("a code")).collect();
    assert_eq!(codes, ["bad_request", "not_an_image", "not_an_image"]);
    assert!(outcomes[2]["error"].as_str().expect("words").contains("truncated JPEG"), "{outcomes}");

    let many = json!({ "inputs": vec![good; 64] });
    let answer = server.post("/api/classify/batch?top_k=1", "application/json", &serde_json::to_vec(&many).expect("JSON"));
    assert_eq!(answer.json().as_array().expect("a list").len(), 64);
    // Batches were made of them.
    let metrics = server.get("/metrics").text();
    let passes = metrics.lines().find_map(|line| line.strip_prefix("timburn_batch_pictures_count{model=\"efficientnet_lite0.in1k\"} "));
    let passes: usize = passes.expect("a count").parse().expect("a number");
    assert!(passes < 40, "{passes} forward passes for 67 pictures");
}

#[test]
fn grad_cam_is_a_picture_of_what_the_model_sees() {
    let server = Server::start(&[]);
    let best = &server.post("/api/classify", "image/jpeg", SAMPLE).labels()[0];
    let explained = server.post("/api/explain", FORM, &form(&[("file", Some("cat.jpg"), SAMPLE)]));
    assert_eq!((explained.status, explained.header("content-type")), (200, Some("image/png")), "{}", explained.text());
    explained.assert_headers();
    assert_eq!(explained.header("x-label"), Some(best.as_str()));
    let overlay = timburn_data::decode_bytes(&explained.body, "overlay", &timburn_data::DecodeOptions::default()).expect("a PNG");
    assert_eq!((overlay.width, overlay.height), (224, 224));

    for class in ["281", "n02123045", "tabby"] {
        let other = server.post(&format!("/api/explain?class={class}"), "image/jpeg", SAMPLE);
        assert_eq!((other.status, other.header("x-label")), (200, Some("tabby")), "{}", other.text());
        assert_ne!(other.body, explained.body);
    }
    let unknown = server.post("/api/explain?class=Egyptian+cta", "image/jpeg", SAMPLE);
    assert_eq!((unknown.status, unknown.code()), (400, "bad_request".into()));
    assert!(unknown.text().contains("Egyptian cat"), "{}", unknown.text());
    assert_eq!(server.post("/api/explain?class=1000", "image/jpeg", SAMPLE).status, 400);
    assert_eq!(server.post("/api/explain", "image/jpeg", b"nothing").status, 415);

    // More than may wait: some are turned away, and classification goes on beside them.
    let answers = std::thread::scope(|scope| {
        let asking: Vec<_> = (0..12).map(|_| scope.spawn(|| server.post("/api/explain", "image/jpeg", SAMPLE))).collect();
        assert_eq!(server.post("/api/classify", "image/jpeg", SAMPLE).labels()[0], *best);
        asking.into_iter().map(|thread| thread.join().expect("no panic")).collect::<Vec<_>>()
    });
    assert!(answers.iter().any(|answer| answer.status == 200 && answer.body == explained.body), "the same picture, the same map");
    for refused in answers.iter().filter(|answer| answer.status != 200) {
        assert_eq!((refused.status, refused.code(), refused.header("retry-after")), (503, "overloaded".into(), Some("1")));
    }
}

#[test]
fn several_models_answer_to_their_names() {
    let folder = folder();
    let bundle = folder.path().join("flowers.timburn");
    std::fs::copy(concat!(env!("CARGO_MANIFEST_DIR"), "/../timburn-weights/assets/resnet20_cifar10.timburn"), &bundle).expect("copies");
    let server = Server::start(&[bundle.to_str().expect("UTF-8"), "big=efficientnet_lite0"]);
    let models = server.get("/api/models");
    models.assert_headers();
    assert_eq!(
        models.json(),
        json!([
            { "name": "flowers", "architecture": "resnet20", "classes": 10, "input": [32, 32], "default": true, "card": "/api/models/flowers/card" },
            { "name": "big", "architecture": "efficientnet_lite0", "classes": 1000, "input": [224, 224], "default": false, "card": "/api/models/big/card" },
        ])
    );
    let default = server.post("/api/classify?top_k=10", "image/jpeg", SAMPLE).labels();
    assert!(default.len() == 10 && default.contains(&"airplane".into()), "{default:?}");
    let big = server.post("/api/classify?model=big", "image/jpeg", SAMPLE).labels();
    assert!(big[0].contains("cat"), "{big:?}");
    assert_eq!(server.post("/models/big", "image/jpeg", SAMPLE).labels(), big);
    assert_eq!(server.post("/models/flowers?top_k=10", "image/jpeg", SAMPLE).labels(), default);
    assert_eq!(server.post("/api/explain?model=flowers&class=cat", "image/jpeg", SAMPLE).header("x-label"), Some("cat"));

    let card = server.get("/api/models/big/card");
    assert_eq!(card.header("content-type"), Some("text/markdown; charset=utf-8"));
    for words in ["# big", "efficientnet\\_lite0", "224×224", "Egyptian cat"] {
        assert!(card.text().contains(words), "{words} is missing in\n{}", card.text());
    }
    for path in ["/api/classify?model=flower", "/models/flower"] {
        let unknown = server.post(path, "image/jpeg", SAMPLE);
        assert_eq!((unknown.status, unknown.code()), (404, "unknown_model".into()));
        assert!(unknown.text().contains("did you mean `flowers`"), "{}", unknown.text());
    }
    assert_eq!(server.get("/api/models/flower/card").code(), "unknown_model");
}

#[test]
fn the_page_the_description_and_the_figures_are_served() {
    let server = Server::start(&[]);
    let page = server.get("/");
    page.assert_headers();
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    for (path, kind) in [("/page.css", "text/css"), ("/page.js", "text/javascript"), ("/icon.svg", "image/svg+xml")] {
        let asset = server.get(path);
        assert!(asset.status == 200 && asset.header("content-type").expect("a type").starts_with(kind), "{path}");
        asset.assert_headers();
    }
    let document = server.get("/api/openapi.json").json();
    assert_eq!(document["openapi"], "3.1.0");

    server.post("/api/classify?top_k=3&model=efficientnet_lite0.in1k", "image/jpeg", SAMPLE);
    let told = "X-Request-Id: my-id_7\r\nContent-Type: image/jpeg\r\nAuthorization: Bearer geheim\r\n";
    let answer = server.post_with("/api/classify?top_k=1", told, b"no picture");
    assert_eq!((answer.status, answer.header("x-request-id")), (415, Some("my-id_7")));
    let strange = server.post_with("/api/classify", "X-Request-Id: a b\r\n", b"no picture");
    assert_ne!(strange.header("x-request-id"), Some("a b"));

    let metrics = server.get("/metrics");
    assert!(metrics.header("content-type").expect("a type").starts_with("application/openmetrics-text"));
    let metrics = metrics.text();
    for line in [
        "timburn_http_requests_total{path=\"/api/classify\",status=\"200\"} 1",
        "timburn_http_requests_total{path=\"/api/classify\",status=\"415\"} 2",
        "timburn_rejected_total{reason=\"not_an_image\"} 2",
        "timburn_queue_pictures 0",
        "timburn_http_requests_in_flight 1",
        "timburn_ready 1",
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line} is missing in\n{metrics}");
    }
    let resident = metrics.lines().find_map(|line| line.strip_prefix("process_resident_memory_bytes ")).expect("memory");
    assert!(!cfg!(target_os = "linux") || resident.parse::<u64>().expect("a number") > 1 << 20);

    // One line a request: time, id, method, path without query, status, bytes, time taken.
    let log = server.log_with(" my-id_7 ");
    let line = log.lines().find(|line| line.contains(" my-id_7 ")).expect("a line");
    let words: Vec<&str> = line.split(' ').collect();
    assert!(words.len() == 7 && words[0].ends_with('Z') && words[6].ends_with("ms"), "{line}");
    assert_eq!(words[1..5], ["my-id_7", "POST", "/api/classify", "415"]);
    assert_eq!(words[5], answer.body.len().to_string());
    assert!(!log.contains("geheim") && !log.contains("top_k"), "{log}");

    let silent = Server::start(&["--quiet"]);
    silent.get("/livez");
    assert!(!silent.log().contains("livez"));
}
