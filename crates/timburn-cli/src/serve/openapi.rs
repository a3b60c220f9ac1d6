//! The description of the interface, OpenAPI 3.1.

use std::sync::LazyLock;

/// The document as JSON.
pub(super) fn document() -> &'static str {
    static DOCUMENT: LazyLock<String> = LazyLock::new(|| include_str!("openapi.json").replace("@VERSION@", env!("CARGO_PKG_VERSION")));
    &DOCUMENT
}
