//! Goldens of `parity/images.py` and the ImageNet sample.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::path::{Path, PathBuf};

use serde_json::Value;

pub(crate) fn goldens() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../parity/goldens/images")
}

pub(crate) fn read(name: &str) -> Vec<u8> {
    let path = goldens().join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

pub(crate) fn fixture(name: &str) -> Vec<u8> {
    read(&format!("files/{name}"))
}

pub(crate) fn manifest() -> Value {
    serde_json::from_slice(&read("manifest.json")).unwrap()
}

pub(crate) fn number(row: &Value, key: &str) -> usize {
    row[key].as_u64().unwrap_or_else(|| panic!("{key} in {row}")) as usize
}

/// `noise` of the generator: bytes from a name.
pub(crate) fn noise(name: &str, count: usize) -> Vec<u8> {
    let hash = name.bytes().fold(0xCBF2_9CE4_8422_2325u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3));
    let draw = |index: u64| {
        let mut z = hash.wrapping_add(index.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 56) as u8
    };
    (1..=count as u64).map(draw).collect()
}

/// `hash_of` of the generator: FNV-1a over 64-bit words.
pub(crate) fn hash(bytes: &[u8]) -> u64 {
    bytes.chunks(8).fold(0xCBF2_9CE4_8422_2325, |hash, chunk| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        (hash ^ u64::from_le_bytes(word)).wrapping_mul(0x0100_0000_01B3)
    })
}

/// Largest absolute difference.
pub(crate) fn difference(a: &[u8], b: &[u8]) -> u8 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| a.abs_diff(*b)).max().unwrap_or(0)
}

/// The photographs of the ImageNet sample, `(wnid/file, bytes)` sorted by path, at most `limit`; none where the data is missing.
pub(crate) fn photographs(limit: usize) -> Vec<(String, Vec<u8>)> {
    let folder =
        std::env::var_os("TIMBURN_DATA").map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data"), PathBuf::from);
    let archive = folder.join("imagenet-sample.tar");
    let Ok(bytes) = std::fs::read(&archive) else {
        // Past the harness, which swallows what a passing test prints.
        let why = format!("skipped: {} is not there (set TIMBURN_DATA to the folder that has it)\n", archive.display());
        let _ = std::io::Write::write_all(&mut std::io::stderr(), why.as_bytes());
        return Vec::new();
    };
    let mut files = Vec::new();
    let mut rest = bytes.as_slice();
    // A ustar header of 512 bytes, the content, zeros up to the next multiple of 512.
    while let Some((header, tail)) = rest.split_at_checked(512) {
        let text = |range: std::ops::Range<usize>| String::from_utf8_lossy(&header[range]).trim_end_matches(['\0', ' ']).to_owned();
        let Ok(size) = usize::from_str_radix(text(124..136).trim(), 8) else { break };
        let name = text(0..100);
        if let Some(name) = name.strip_prefix("imagenet-sample/val/").filter(|name| name.ends_with(".JPEG")) {
            files.push((name.to_owned(), tail[..size].to_vec()));
        }
        rest = tail.get(size.next_multiple_of(512)..).unwrap_or_default();
    }
    files.sort();
    files.truncate(limit);
    files
}
