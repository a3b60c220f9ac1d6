//! `timburn doctor`: what it sees, and that it tells what is wrong.
#![allow(clippy::expect_used, reason = "helpers of tests")]

mod common;

use std::collections::BTreeMap;
use std::path::Path;

use common::{command, folder, stderr, stdout};
use serde_json::Value;

fn doctor(folder: &Path, variables: &[(&str, &str)]) -> (i32, BTreeMap<String, Value>) {
    let mut command = command(&["doctor", "--json"], folder);
    command.env_remove("TIMBURN_DATA").env_remove("RAYON_NUM_THREADS").env_remove("TIMBURN_CPU").envs(variables.iter().copied());
    let output = command.output().expect("the binary runs");
    assert!(output.stderr.is_empty(), "{}", stderr(&output));
    let value: Value = serde_json::from_slice(&output.stdout).expect("one value");
    assert_eq!(value["version"], env!("CARGO_PKG_VERSION"));
    let checks = value["checks"].as_array().expect("a list").iter();
    let checks = checks.map(|check| (check["name"].as_str().expect("a name").to_owned(), check.clone())).collect();
    (output.status.code().expect("a code"), checks)
}

#[test]
fn a_machine_that_works_is_described() {
    let folder = folder();
    let hub = folder.path().join("hub");
    std::fs::create_dir_all(hub.join("models--timm--resnet50/blobs")).expect("a folder");
    std::fs::write(hub.join("models--timm--resnet50/blobs/a"), [0; 1000]).expect("writes");
    let mnist = folder.path().join("cache/datasets/cifar10");
    std::fs::create_dir_all(&mnist).expect("a folder");
    std::fs::write(mnist.join("cifar-10-binary.tar.gz"), "by hand").expect("writes");
    let before = std::fs::read_dir(folder.path()).expect("lists").count();
    let variables = [("HF_HUB_CACHE", hub.to_str().expect("UTF-8")), ("HF_TOKEN", "hf_secret"), ("TIMBURN_SERVE_TOKEN", "sesame")];
    let (code, checks) = doctor(folder.path(), &variables);
    assert_eq!(code, 0, "{checks:?}");
    assert_eq!(std::fs::read_dir(folder.path()).expect("lists").count(), before, "it leaves nothing");
    assert_eq!((&checks["device flex"]["status"], &checks["device flex"]["details"]["opens"]), (&"ok".into(), &true.into()));
    assert_eq!(checks["self-test"]["status"], "ok", "{}", checks["self-test"]);
    assert!(checks["self-test"]["details"]["milliseconds"].as_f64().expect("a time") > 0.0);
    let processor = &checks["processor"]["details"];
    assert!(processor["threads"].as_u64().expect("threads") > 0);
    #[cfg(target_arch = "x86_64")]
    {
        let has = |name: &str| processor["features"].as_array().expect("a list").contains(&name.into());
        let expected = if has("avx512f") {
            "avx512"
        } else if has("avx2") {
            "avx2"
        } else {
            "sse4.2"
        };
        assert_eq!(processor["kernels"], expected, "{processor}");
        assert_eq!(has("avx2"), std::arch::is_x86_feature_detected!("avx2"));
    }
    let cache = &checks["weights cache"]["details"];
    assert_eq!((&cache["models"][0], &cache["bytes"]), (&"models--timm--resnet50".into(), &1000.into()));
    assert_eq!(checks["data sets"]["details"]["sets"], serde_json::json!(["cifar10"]));
    assert_eq!((&checks["downloads"]["status"], &checks["downloads"]["details"]["why"]), (&"warn".into(), &"HF_HUB_OFFLINE".into()));
    let all = serde_json::to_string(&checks).expect("JSON");
    assert!(all.contains("HF_TOKEN") && !all.contains("hf_secret") && !all.contains("sesame"), "secrets stay secret");

    let text = stdout(&command(&["doctor"], folder.path()).output().expect("the binary runs"));
    assert!(text.lines().any(|line| line.starts_with("ok    device flex")), "{text}");
    assert!(text.contains("warn  downloads") && text.contains("→ unset it"), "{text}");
}

#[test]
fn what_is_wrong_is_told_with_the_next_step() {
    let folder = folder();
    let file = folder.path().join("file");
    std::fs::write(&file, "").expect("writes");
    let below = file.join("cache");
    let below = below.to_str().expect("UTF-8");
    let variables = [("HF_HUB_CACHE", below), ("TIMBURN_CACHE", below), ("TIMBURN_DATA", below), ("RAYON_NUM_THREADS", "many")];
    let (code, checks) = doctor(folder.path(), &variables);
    assert_eq!(code, 0, "all of it can be lived with: {checks:?}");
    for name in ["weights cache", "data sets", "TIMBURN_DATA", "threads"] {
        assert_eq!(checks[name]["status"], "warn", "{}", checks[name]);
        assert!(checks[name]["next"].as_str().expect("a next step").len() > 10);
    }
}

#[test]
fn kernels_run_on_the_level_that_is_named() {
    let folder = folder();
    let details = |name: &str| doctor(folder.path(), &[("TIMBURN_CPU", name)]).1.remove("processor").expect("a check");
    let best = details("");
    let levels = best["details"]["levels"].as_array().expect("a list").clone();
    assert_eq!(best["details"]["kernels"], levels[levels.len() - 1]);
    for level in &levels {
        let check = details(level.as_str().expect("a name"));
        assert_eq!(check["details"]["kernels"], *level);
        // Also the best one, named, does without the instructions that are in no level.
        assert!(check["status"] == "warn" && check["found"].as_str().expect("text").contains("TIMBURN_CPU"), "{check}");
    }
    let check = details("mmx");
    assert_eq!((&check["status"], &check["details"]["kernels"]), (&"warn".into(), &best["details"]["kernels"]), "{check}");
    assert!(check["found"].as_str().expect("text").contains("TIMBURN_CPU=mmx has no effect"), "{check}");
    assert!(check["next"].as_str().expect("a next step").contains("portable"), "{check}");
}
