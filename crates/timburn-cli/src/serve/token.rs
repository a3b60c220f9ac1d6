//! The bearer token.

use std::path::Path;

use axum::http::{HeaderMap, header};
use timburn_core::{Error, Result};

/// The environment variable that holds the token.
const VARIABLE: &str = "TIMBURN_TOKEN";
/// Tokens longer than this are no tokens.
const LONGEST: usize = 4096;

/// What a client must know.
#[derive(Clone)]
pub(super) struct Token(Vec<u8>);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(…)")
    }
}

impl Token {
    /// The token of a file, or else of the environment; none without either.
    pub(super) fn find(file: Option<&Path>) -> Result<Option<Self>> {
        if let Some(path) = file {
            let text = std::fs::read_to_string(path).map_err(Error::io("read", path))?;
            return Self::new(&text, "--token-file", &path.display().to_string()).map(Some);
        }
        match std::env::var_os(VARIABLE) {
            // The value is named nowhere: it is a secret, also when it is a wrong one.
            Some(text) => Self::new(text.to_str().unwrap_or_default(), VARIABLE, "…").map(Some),
            None => Ok(None),
        }
    }

    fn new(text: &str, name: &'static str, place: &str) -> Result<Self> {
        let token = text.trim();
        // RFC 6750 allows fewer characters; these are the ones a header can carry.
        if token.is_empty() || token.len() > LONGEST || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            let expected = format!("a token of 1 to {LONGEST} visible ASCII characters in one line");
            return Err(Error::Argument { name, value: place.to_owned(), expected });
        }
        Ok(Self(token.as_bytes().to_vec()))
    }

    /// Whether a request's `Authorization` is this token.
    pub(super) fn is_in(&self, headers: &HeaderMap) -> bool {
        let value = headers.get(header::AUTHORIZATION).map_or(&[][..], |value| value.as_bytes());
        let token = match value.split_at_checked(7) {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case(b"bearer ") => token.trim_ascii(),
            _ => return false,
        };
        self.equals(token)
    }

    /// Takes the same time wherever the first difference is: as long as the candidate.
    fn equals(&self, candidate: &[u8]) -> bool {
        let own = self.0.iter().copied().cycle();
        let different = candidate.iter().zip(own).fold(0, |different, (a, b)| std::hint::black_box(different | (a ^ b)));
        different == 0 && candidate.len() == self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_token_itself_opens() {
        let token = Token::new(" s3cret\n", "--token-file", "file").unwrap();
        let asks = |value: &str| {
            let headers = [(header::AUTHORIZATION, value.parse().unwrap())].into_iter().collect();
            token.is_in(&headers)
        };
        assert!(asks("Bearer s3cret") && asks("bearer  s3cret "));
        for wrong in
            ["", "Bearer", "Bearer ", "Bearer s3cre", "Bearer s3crets", "Bearer s3crets3cret", "Bearer S3cret", "Basic s3cret", "s3cret"]
        {
            assert!(!asks(wrong), "{wrong:?}");
        }
        assert!(!token.is_in(&HeaderMap::new()));
    }

    #[test]
    fn what_no_header_can_carry_is_no_token() {
        for text in ["", " \n", "two\nlines", "schlüssel", &"x".repeat(4097)] {
            let error = Token::new(text, VARIABLE, "…").unwrap_err();
            assert!(matches!(error, Error::Argument { name: VARIABLE, .. }), "{error}");
            assert!(text.trim().is_empty() || !error.to_string().contains(text.trim()));
        }
    }
}
