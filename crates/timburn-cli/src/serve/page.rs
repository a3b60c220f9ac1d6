//! The page and its assets: part of the program, nothing is read from disk.

use axum::body::Body;
use axum::http::{HeaderValue, Response, header};

/// Path, media type, content.
pub(super) const ASSETS: &[(&str, &str, &[u8])] = &[
    ("/", "text/html; charset=utf-8", include_bytes!("page/index.html")),
    ("/page.css", "text/css; charset=utf-8", include_bytes!("page/page.css")),
    ("/page.js", "text/javascript; charset=utf-8", include_bytes!("page/page.js")),
    ("/icon.svg", "image/svg+xml", include_bytes!("page/icon.svg")),
    ("/examples/cat.jpg", "image/jpeg", include_bytes!("../../../timburn-data/assets/chelsea.jpg")),
    ("/examples/coffee.jpg", "image/jpeg", include_bytes!("../../assets/examples/coffee.jpg")),
    ("/examples/rocket.jpg", "image/jpeg", include_bytes!("../../assets/examples/rocket.jpg")),
];

/// Whether this path is one of the page's.
pub(super) fn is_asset(path: &str) -> bool {
    ASSETS.iter().any(|(own, _, _)| *own == path)
}

/// The answer with an asset.
pub(super) fn answer(kind: &'static str, content: &'static [u8]) -> Response<Body> {
    let mut response = Response::new(Body::from(content));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    // Another version of the program has another page at the same address.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}
