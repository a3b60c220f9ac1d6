//! JSON that gives every float back bit by bit.
//!
//! `serde_json` prints a float so that it can be read exactly, and reads it with an error of up to one unit in the last place (its feature
//! `float_roundtrip` would cost every user of the crate). A float that would not come back is stored as text.

use serde_json::{Map, Number, Value};

/// The only key of an object that stands for a float.
const FLOAT: &str = "$f64";

/// `value` with the floats that JSON would change replaced by `{"$f64": "text"}`.
pub(super) fn encode(value: &Value) -> Value {
    match value {
        Value::Number(number) => encode_number(number),
        Value::Array(values) => values.iter().map(encode).collect(),
        Value::Object(map) => map.iter().map(|(key, value)| (key.clone(), encode(value))).collect(),
        other => other.clone(),
    }
}

fn encode_number(number: &Number) -> Value {
    let plain = Value::Number(number.clone());
    let Some(float) = number.as_f64().filter(|_| number.is_f64()) else { return plain };
    let back = serde_json::from_str::<f64>(&number.to_string());
    if back.is_ok_and(|back| back.to_bits() == float.to_bits()) {
        return plain;
    }
    // The standard library prints the shortest text that it reads back exactly.
    Value::Object(Map::from_iter([(FLOAT.to_owned(), Value::String(format!("{float:e}")))]))
}

/// What was given to [`encode`].
pub(super) fn decode(value: Value) -> Value {
    match value {
        Value::Array(values) => values.into_iter().map(decode).collect(),
        Value::Object(map) => match stored_float(&map) {
            Some(float) => float,
            None => map.into_iter().map(|(key, value)| (key, decode(value))).collect(),
        },
        other => other,
    }
}

fn stored_float(map: &Map<String, Value>) -> Option<Value> {
    let text = map.get(FLOAT).filter(|_| map.len() == 1)?.as_str()?;
    Number::from_f64(text.parse().ok()?).map(Value::Number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_float_comes_back_bit_by_bit() {
        let (mut state, mut stored_as_text) = (1u64, 0);
        for _ in 0..200_000 {
            state = timburn_core::seed::derive(state, &[7]);
            let float = f64::from_bits(state);
            let Some(number) = Number::from_f64(float) else { continue };
            let encoded = encode(&Value::Number(number));
            stored_as_text += usize::from(encoded.is_object());
            let read: Value = serde_json::from_str(&serde_json::to_string(&encoded).unwrap()).unwrap();
            assert_eq!(decode(read).as_f64().unwrap().to_bits(), float.to_bits());
        }
        // Were it zero, this module would have lost its reason.
        assert!(stored_as_text > 0);
    }

    #[test]
    fn all_else_is_untouched() {
        let value = serde_json::json!({ "a": [1, -2, u64::MAX, i64::MIN, null, true, "x", { "b": 0.1 }], "c": -0.0, "$f64": 3 });
        let text = serde_json::to_string(&encode(&value)).unwrap();
        assert_eq!(decode(serde_json::from_str(&text).unwrap()), value);
        assert!(decode(serde_json::from_str(&text).unwrap())["c"].as_f64().unwrap().is_sign_negative());
    }
}
