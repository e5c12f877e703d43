//! The readers of a peer's bytes, for the fuzz targets.

/// Reads an answer of a name server, and of a web server, inside.
pub fn inside(bytes: &[u8]) {
    let _ = super::inside::judge_dns(bytes, 1);
    let _ = super::inside::judge_http(bytes, None);
}

/// Reads a response to IKE_SA_INIT.
pub fn ikev2(bytes: &[u8]) {
    let _ = super::ikev2::read(bytes);
}
