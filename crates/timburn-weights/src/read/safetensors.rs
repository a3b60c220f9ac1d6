//! The safetensors container: an 8-byte length, a JSON header of that length, the tensors' bytes without gap or overlap.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, Visitor};
use timburn_models::{StateDict, WeightDtype, WeightTensor};

use super::Contents;
use super::element::Element;
use super::source::Source;

/// The format's own limit. A header is read only when the file is long enough to hold it.
const MAX_HEADER: u64 = 100_000_000;
/// Where the header begins, behind its length.
const START: u64 = 8;

/// Whether a file beginning with these bytes means to be safetensors.
pub(super) fn begins(head: &[u8]) -> bool {
    head.first_chunk::<8>().is_some_and(|length| u64::from_le_bytes(*length) <= MAX_HEADER) && head.get(8) == Some(&b'{')
}

/// The error is a reason for people.
pub(super) fn read(source: Source, name: &str) -> Result<Contents, String> {
    let length = source.read(0, START).map_err(|error| format!("the length of the header: {error}"))?;
    let length = length.first_chunk::<8>().map(|bytes| u64::from_le_bytes(*bytes)).unwrap_or_default();
    if length > MAX_HEADER || length > source.len().saturating_sub(START) {
        return Err(format!("truncated or hostile: a header of {length} bytes in a file of {}", source.len()));
    }
    let header = source.read(START, length).map_err(|error| format!("the header: {error}"))?;
    let header: Header = serde_json::from_slice(&header).map_err(|error| format!("the header: {error}"))?;
    let data = START + length;
    check_extents(&header.tensors, source.len() - data)?;

    let source = Arc::new(source);
    let mut weights = StateDict::new(name);
    for (key, Entry { dtype, shape, data_offsets: (begin, end) }) in header.tensors {
        let element = element(&dtype).ok_or_else(|| format!("tensor `{key}`: element type {dtype} is none of a weight's"))?;
        let count = shape.iter().try_fold(element.size(), |product, &extent| product.checked_mul(extent));
        if count.map(|count| count as u64) != Some(end - begin) {
            return Err(format!("tensor `{key}`: {} bytes for {dtype}{shape:?}", end - begin));
        }
        let source = Arc::clone(&source);
        let read = move || source.read(data + begin, end - begin).map(|bytes| element.widen(bytes)).map_err(|error| error.to_string());
        weights.tensors.insert(key, WeightTensor::new(shape, element.dtype(), Arc::new(read)));
    }
    Ok(Contents { weights, metadata: header.metadata })
}

fn element(dtype: &str) -> Option<Element> {
    Some(match dtype {
        "F64" => Element::Float(WeightDtype::F64),
        "F32" => Element::Float(WeightDtype::F32),
        "F16" => Element::Float(WeightDtype::F16),
        "BF16" => Element::Float(WeightDtype::BF16),
        "I64" => Element::integer(8, true),
        "I32" => Element::integer(4, true),
        "I16" => Element::integer(2, true),
        "I8" => Element::integer(1, true),
        "U64" => Element::integer(8, false),
        "U32" => Element::integer(4, false),
        "U16" => Element::integer(2, false),
        "U8" | "BOOL" => Element::integer(1, false),
        _ => return None,
    })
}

/// The tensors must tile the data: a gap can hide something, an overlap lets a small file claim a large model.
fn check_extents(tensors: &[(String, Entry)], available: u64) -> Result<(), String> {
    let mut extents: Vec<(u64, u64, &str)> =
        tensors.iter().map(|(key, entry)| (entry.data_offsets.0, entry.data_offsets.1, key.as_str())).collect();
    extents.sort_unstable();
    let mut reached = 0;
    for (begin, end, key) in extents {
        if begin != reached || end < begin {
            return Err(format!("tensor `{key}` lies at {begin}..{end}, expected from {reached} on"));
        }
        reached = end;
    }
    if reached != available {
        return Err(format!("the header describes {reached} bytes of tensors, the file holds {available}"));
    }
    Ok(())
}

#[derive(Deserialize)]
struct Entry {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: (u64, u64),
}

/// Entries in the file's order; a key that occurs twice is an error, not a matter of luck.
struct Header {
    metadata: BTreeMap<String, String>,
    tensors: Vec<(String, Entry)>,
}

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Header;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object with one entry per tensor")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
                let mut metadata = None;
                let mut tensors = BTreeMap::new();
                while let Some(key) = map.next_key::<String>()? {
                    let twice = if key == "__metadata__" {
                        metadata.replace(map.next_value()?).is_some()
                    } else {
                        tensors.insert(key.clone(), map.next_value()?).is_some()
                    };
                    if twice {
                        return Err(de::Error::custom(format!("`{key}` twice")));
                    }
                }
                Ok(Header { metadata: metadata.unwrap_or_default(), tensors: tensors.into_iter().collect() })
            }
        }
        deserializer.deserialize_map(Entries)
    }
}
