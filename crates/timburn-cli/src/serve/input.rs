//! What a request asks: pictures from its body, and parameters.

use std::borrow::Cow;

use axum::body::{Body, Bytes};
use axum::extract::multipart::{Multipart, MultipartError};
use axum::extract::{FromRequest, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::Deserialize;

use super::error::ApiError;

/// Parts of a form, the picture among them.
const MOST_PARTS: usize = 4;
/// Pictures in one request of the batch endpoint.
pub(super) const MOST_PICTURES: usize = 64;

const BASE64: GeneralPurpose =
    GeneralPurpose::new(&STANDARD, GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent));

/// What may stand in the query.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Query {
    pub(super) model: Option<String>,
    pub(super) top_k: Option<usize>,
    pub(super) class: Option<String>,
}

/// Hugging Face's `parameters`.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Parameters {
    pub(super) top_k: Option<usize>,
    function_to_apply: Option<String>,
}

#[derive(Deserialize)]
struct One<'a> {
    #[serde(borrow)]
    inputs: Cow<'a, str>,
    #[serde(default)]
    parameters: Option<Parameters>,
}

#[derive(Deserialize)]
struct Many<'a> {
    #[serde(borrow)]
    inputs: Vec<Text<'a>>,
    #[serde(default)]
    parameters: Option<Parameters>,
}

/// Within a list serde borrows no `Cow` by itself.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// The picture of a request for one, and its parameters.
///
/// # Errors
/// 415 for a media type that can hold none, 400 for a form or JSON that is not as documented.
pub(super) async fn one(parts: Parts, bytes: Bytes) -> Result<(Bytes, Parameters), ApiError> {
    match media_type(&parts.headers)?.as_str() {
        "multipart/form-data" => Ok((form(parts, bytes).await?, Parameters::default())),
        "application/json" => {
            let request: One<'_> = serde_json::from_slice(&bytes).map_err(|error| {
                ApiError::bad_request(format!("the JSON is not a request ({error}); send {{\"inputs\": \"<base64>\"}}"))
            })?;
            let parameters = request.parameters.unwrap_or_default().checked()?;
            Ok((picture(&request.inputs)?, parameters))
        }
        // Bytes are what they are, whatever they are called: curl calls them a form unless told otherwise.
        "" | "application/octet-stream" | "application/x-www-form-urlencoded" => Ok((bytes, Parameters::default())),
        kind if kind.starts_with("image/") => Ok((bytes, Parameters::default())),
        kind => Err(ApiError::unsupported_media_type(format!(
            "`{kind}` is not accepted; send the picture's bytes as image/*, or multipart/form-data, or application/json"
        ))),
    }
}

/// The pictures of a request for many, each by itself right or wrong, and the parameters.
///
/// # Errors
/// 415 for another media type than JSON, 400 for JSON that is not as documented.
pub(super) fn many(headers: &HeaderMap, bytes: &[u8]) -> Result<(Vec<Result<Bytes, ApiError>>, Parameters), ApiError> {
    let kind = media_type(headers)?;
    if kind != "application/json" {
        return Err(ApiError::unsupported_media_type("a batch is application/json: {\"inputs\": [\"<base64>\", …]}"));
    }
    let request: Many<'_> = serde_json::from_slice(bytes)
        .map_err(|error| ApiError::bad_request(format!("the JSON is not a request ({error}); send {{\"inputs\": [\"<base64>\", …]}}")))?;
    if !(1..=MOST_PICTURES).contains(&request.inputs.len()) {
        return Err(ApiError::bad_request(format!("{} pictures; send 1 to {MOST_PICTURES} at a time", request.inputs.len())));
    }
    let parameters = request.parameters.unwrap_or_default().checked()?;
    Ok((request.inputs.iter().map(|text| picture(&text.0)).collect(), parameters))
}

impl Parameters {
    fn checked(self) -> Result<Self, ApiError> {
        match self.function_to_apply.as_deref() {
            None | Some("softmax") => Ok(self),
            Some(_) => Err(ApiError::bad_request("function_to_apply can only be softmax here; leave it out")),
        }
    }
}

/// Type and subtype in lower case; empty without a header.
fn media_type(headers: &HeaderMap) -> Result<String, ApiError> {
    let Some(value) = headers.get(header::CONTENT_TYPE) else { return Ok(String::new()) };
    let text = value.to_str().map_err(|_| ApiError::bad_request("the header Content-Type is not ASCII; send image/jpeg or the like"))?;
    Ok(text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase())
}

/// The one file of a form.
async fn form(parts: Parts, bytes: Bytes) -> Result<Bytes, ApiError> {
    let wrong = |error: MultipartError| ApiError::bad_request(format!("the form cannot be read ({}); send one file", error.body_text()));
    let request = Request::from_parts(parts, Body::from(bytes));
    let mut form = Multipart::from_request(request, &())
        .await
        .map_err(|error| ApiError::bad_request(format!("the form cannot be read ({}); send one file", error.body_text())))?;
    let (mut file, mut plain, mut count) = (None, None, 0);
    while let Some(mut field) = form.next_field().await.map_err(wrong)? {
        count += 1;
        if count > MOST_PARTS {
            return Err(ApiError::bad_request(format!("the form has more than {MOST_PARTS} parts; send one file")));
        }
        let is_file = field.file_name().is_some();
        if is_file && file.is_some() {
            return Err(ApiError::bad_request("the form has several files; send one, or use /api/classify/batch"));
        }
        // The body is in memory as one piece, and so is a field of it: a copy is made only if it is not.
        let mut content: Option<Cow<'static, [u8]>> = None;
        let mut piece = None;
        while let Some(chunk) = field.chunk().await.map_err(wrong)? {
            match (&mut content, piece.take()) {
                (None, None) => piece = Some(chunk),
                (None, Some(first)) => content = Some([&first[..], &chunk].concat().into()),
                (Some(content), _) => content.to_mut().extend_from_slice(&chunk),
            }
        }
        let content = piece.or_else(|| content.map(|content| Bytes::from(content.into_owned()))).unwrap_or_default();
        *(if is_file { &mut file } else { &mut plain }) = Some(content);
    }
    let only = plain.filter(|_| count == 1);
    file.or(only).ok_or_else(|| ApiError::bad_request("the form has no file; send one, in a field of any name"))
}

/// The picture of base64 text or a `data:` URL.
fn picture(text: &str) -> Result<Bytes, ApiError> {
    let scheme = text.get(..5).unwrap_or_default();
    let encoded = if scheme.eq_ignore_ascii_case("data:") {
        match text.split_once(',') {
            Some((head, data)) if head.to_ascii_lowercase().ends_with(";base64") => data,
            _ => return Err(ApiError::bad_request("the data: URL is not in base64; send data:image/jpeg;base64,…")),
        }
    } else if text.starts_with("http://") || text.starts_with("https://") {
        return Err(ApiError::bad_request("pictures are not fetched from URLs; send the picture itself"));
    } else {
        text
    };
    // Many encoders break lines.
    let whole: String;
    let encoded = if encoded.bytes().any(|byte| byte.is_ascii_whitespace()) {
        whole = encoded.split_ascii_whitespace().collect();
        &whole
    } else {
        encoded
    };
    let decoded = BASE64
        .decode(encoded)
        .map_err(|error| ApiError::bad_request(format!("`inputs` is not base64 ({error}); encode the picture's bytes")))?;
    Ok(decoded.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_comes_in_many_clothes() {
        for text in ["aGk=", "aGk", "a G\nk=", "data:image/png;base64,aGk=", "DATA:;BASE64,aGk"] {
            assert_eq!(picture(text).unwrap(), "hi", "{text}");
        }
        for text in ["data:image/png,hi", "https://example.org/cat.jpg", "***", "data:image/png;base64", "é"] {
            assert_eq!(picture(text).unwrap_err().code, "bad_request", "{text}");
        }
    }

    #[test]
    fn a_batch_is_counted_and_each_picture_is_its_own() {
        let headers = [(header::CONTENT_TYPE, "application/json; charset=utf-8".parse().unwrap())].into_iter().collect();
        let (pictures, parameters) = many(&headers, br#"{"inputs":["aGk=","\u002a"],"parameters":{"top_k":2,"x":1}}"#).unwrap();
        assert!(pictures[0].is_ok() && pictures[1].is_err());
        assert_eq!(parameters.top_k, Some(2));
        for (text, words) in [
            (r#"{"inputs":[]}"#.to_owned(), "0 pictures"),
            (format!(r#"{{"inputs":[{}]}}"#, vec![r#""aGk=""#; 65].join(",")), "65 pictures"),
            (r#"{"inputs":"aGk="}"#.to_owned(), "not a request"),
            (r#"{"inputs":["aGk="],"parameters":{"function_to_apply":"none"}}"#.to_owned(), "softmax"),
            ("[".repeat(100_000), "not a request"),
        ] {
            let error = many(&headers, text.as_bytes()).unwrap_err();
            assert!(error.message.contains(words), "{error:?}");
        }
        assert_eq!(many(&HeaderMap::new(), b"{}").unwrap_err().code, "unsupported_media_type");
    }
}
