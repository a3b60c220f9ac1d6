//! Every container of PyTorch's, written by PyTorch (`parity/containers.py`): read right, cut anywhere, garbled everywhere, hostile.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

#[path = "../../timburn-models/tests/common/mod.rs"]
mod formula;

use std::path::{Path, PathBuf};

use half::{bf16, f16};
use serde_json::Value;
use timburn_core::{Error, WeightsError};
use timburn_weights::read_weights;

fn goldens() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../parity/goldens/containers")
}

fn manifest() -> Value {
    serde_json::from_slice(&std::fs::read(goldens().join("manifest.json")).unwrap()).unwrap()
}

fn files() -> Vec<(String, Value)> {
    manifest()["files"].as_object().unwrap().iter().map(|(name, row)| (name.clone(), row.clone())).collect()
}

#[test]
fn every_container_gives_the_values_that_pytorch_put_in() {
    for (name, row) in files().into_iter().filter(|(_, row)| row["loads"] == true) {
        let dict = read_weights(goldens().join(&name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        for (key, shape) in manifest()["shapes"].as_object().unwrap() {
            let shape: Vec<usize> = shape.as_array().unwrap().iter().map(|x| x.as_u64().unwrap() as usize).collect();
            let Some(tensor) = dict.tensors.get(key) else { continue };
            let exact = formula::tensor(key, &shape, 0.0);
            let expected: Vec<f32> = match row["dtype"].as_str().unwrap() {
                "f16" => exact.iter().map(|&x| f16::from_f32(x).to_f32()).collect(),
                "bf16" => exact.iter().map(|&x| bf16::from_f32(x).to_f32()).collect(),
                _ => exact,
            };
            if name != "strided.pth" {
                assert_eq!(tensor.shape, shape, "{name}: {key}");
                assert_eq!(tensor.values().unwrap(), expected, "{name}: {key}");
            }
        }
        if name != "strided.pth" {
            assert_eq!(
                dict.tensors.keys().map(String::as_str).collect::<Vec<_>>(),
                ["conv1.weight", "fc.bias", "fc.weight", "num"],
                "{name}"
            );
            assert_eq!(dict.tensors["num"].values().unwrap(), [7.0], "{name}");
        }
    }
}

/// A file with `bytes`, read to the last tensor.
fn read_all(folder: &Path, bytes: &[u8]) -> Result<usize, Error> {
    let path = folder.join("mutated");
    std::fs::write(&path, bytes).unwrap();
    let dict = read_weights(&path)?;
    let mut count = 0;
    for (key, tensor) in &dict.tensors {
        let corrupt = |reason| WeightsError::Corrupt { name: key.clone(), reason };
        count += tensor.values().map_err(corrupt)?.len();
    }
    Ok(count)
}

#[test]
fn a_file_cut_anywhere_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    for (name, _) in files().into_iter().filter(|(_, row)| row["loads"] == true) {
        let bytes = std::fs::read(goldens().join(&name)).unwrap();
        for length in (0..bytes.len()).step_by(if bytes.len() > 2000 { 13 } else { 1 }) {
            let outcome = read_all(folder.path(), &bytes[..length]);
            let error = outcome.map(|_| ()).expect_err(&format!("{name} cut to {length} of {} bytes", bytes.len()));
            assert!(matches!(error, Error::Weights(_)), "{name} cut to {length}: {error:?}");
        }
    }
}

#[test]
fn a_garbled_file_never_panics() {
    let folder = tempfile::tempdir().unwrap();
    for (name, _) in files() {
        let bytes = std::fs::read(goldens().join(&name)).unwrap();
        for (position, mask) in (0..bytes.len()).step_by(7).zip([0x01u8, 0x80, 0xFF, 0x10].into_iter().cycle()) {
            let mut garbled = bytes.clone();
            garbled[position] ^= mask;
            // Flipped values may load; nothing may crash, hang or fill the memory.
            let _ = read_all(folder.path(), &garbled);
        }
    }
}

#[test]
fn a_hostile_pickle_runs_nothing() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["evil.pth", "evil_plain.pth"] {
        let bytes = std::fs::read(goldens().join(name)).unwrap();
        assert!(read_all(folder.path(), &bytes).is_err(), "{name}");
    }
    for place in [Path::new("."), folder.path(), &goldens()] {
        assert!(!place.join("pwned").exists(), "code of a pickle ran");
    }
}

#[test]
fn lying_safetensors_headers_are_refused_before_memory_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let with_header = |length: u64, header: &str, data: usize| {
        let mut bytes = length.to_le_bytes().to_vec();
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend(vec![0; data]);
        bytes
    };
    let tensor = |shape: &str, from: u64, to: u64| format!(r#"{{"a":{{"dtype":"F32","shape":{shape},"data_offsets":[{from},{to}]}}}}"#);
    let huge = tensor("[1099511627776,1048576]", 0, 8);
    let overlap = r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}"#;
    for (what, bytes) in [
        ("header longer than the file", with_header(u64::MAX, "{}", 0)),
        ("header of a terabyte", with_header(1 << 40, "{}", 0)),
        ("shape that overflows", with_header(huge.len() as u64, &huge, 8)),
        ("offsets past the end", {
            let h = tensor("[2]", 0, 800);
            with_header(h.len() as u64, &h, 8)
        }),
        ("offsets reversed", {
            let h = tensor("[2]", 8, 0);
            with_header(h.len() as u64, &h, 8)
        }),
        ("shape and offsets disagree", {
            let h = tensor("[3]", 0, 8);
            with_header(h.len() as u64, &h, 8)
        }),
        ("overlapping tensors", with_header(overlap.len() as u64, overlap, 12)),
        ("no JSON", with_header(8, "{{{{{{{{", 8)),
    ] {
        let error = read_all(folder.path(), &bytes).expect_err(what);
        assert!(matches!(error, Error::Weights(_)), "{what}: {error:?}");
    }
    std::fs::write(folder.path().join("text"), "hello world, no weights here").unwrap();
    assert!(matches!(read_weights(folder.path().join("text")), Err(Error::Weights(WeightsError::UnknownFormat { .. }))));
    assert!(matches!(read_weights(folder.path().join("missing")), Err(Error::Weights(WeightsError::Open { .. }))));
}
