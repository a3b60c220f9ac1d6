//! The HTTP client: certificates, proxies, time limits, redirects.

use std::env;
use std::fs;
use std::time::Duration;

use ureq::Agent;
use ureq::config::RedirectAuthHeaders;
use ureq::http::{HeaderMap, Response};
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};

use super::HubOptions;

/// A server that says nothing for this long is gone.
const SILENCE: Duration = Duration::from_secs(60);
/// Hops between servers before a redirect counts as a loop.
const REDIRECTS: u32 = 10;

/// The error of a request is a reason for people.
pub(super) type Reply = Result<Response<ureq::Body>, String>;

pub(super) struct Client<'a> {
    options: &'a HubOptions,
}

impl<'a> Client<'a> {
    pub(super) fn new(options: &'a HubOptions) -> Self {
        Self { options }
    }

    /// GET, following redirects.
    pub(super) fn get(&self, url: &str, headers: &[(&str, String)]) -> Reply {
        let mut request = self.agent(url, REDIRECTS).get(url);
        for (name, value) in headers.iter().chain(&self.authorisation(url)) {
            request = request.header(*name, value);
        }
        request.call().map_err(|error| error.to_string())
    }

    /// HEAD of one server, which may say that the file is elsewhere.
    pub(super) fn head(&self, url: &str) -> Reply {
        let mut request = self.agent(url, 0).head(url);
        for (name, value) in &self.authorisation(url) {
            request = request.header(*name, value);
        }
        request.call().map_err(|error| error.to_string())
    }

    fn authorisation(&self, url: &str) -> Option<(&'static str, String)> {
        // With the slash: `https://hub.example.evil` begins with `https://hub.example`.
        let own = url.starts_with(&format!("{}/", self.options.endpoint));
        self.options.token.as_ref().filter(|_| own).map(|token| ("Authorization", format!("Bearer {token}")))
    }

    fn agent(&self, url: &str, redirects: u32) -> Agent {
        let mut config = Agent::config_builder()
            .user_agent(concat!("timburn/", env!("CARGO_PKG_VERSION")))
            // Bytes as they are: a length and a hash of something compressed would be another's.
            .accept_encoding("identity")
            .http_status_as_error(false)
            // Once on TLS, never off it.
            .https_only(url.starts_with("https://"))
            .max_redirects(redirects)
            .max_redirects_will_error(redirects > 0)
            .redirect_auth_headers(RedirectAuthHeaders::SameHost)
            .timeout_connect(Some(Duration::from_secs(30)))
            .timeout_recv_response(Some(SILENCE))
            .timeout_per_read(Some(SILENCE))
            .tls_config(TlsConfig::builder().root_certs(root_certificates()).build());
        if !self.options.proxies {
            config = config.proxy(None);
        }
        config.build().new_agent()
    }
}

/// Those of `SSL_CERT_FILE` or `REQUESTS_CA_BUNDLE` where a network has its own, else Mozilla's.
fn root_certificates() -> RootCerts {
    let file = ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"].into_iter().find_map(env::var_os);
    let Some(pem) = file.and_then(|file| fs::read(file).ok()) else { return RootCerts::WebPki };
    let certificates: Vec<_> = parse_pem(&pem)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        })
        .collect();
    if certificates.is_empty() { RootCerts::WebPki } else { RootCerts::new_with_certs(&certificates) }
}

pub(super) fn header<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name)?.to_str().ok()
}

/// The address that a `Location` means, seen from `base`.
pub(super) fn join(base: &str, location: &str) -> Option<String> {
    if location.contains("://") {
        return Some(location.to_owned());
    }
    let (scheme, rest) = base.split_once("://")?;
    let host = rest.split('/').next()?;
    location.starts_with('/').then(|| format!("{scheme}://{host}{location}"))
}
