//! The readers of a peer's bytes, for the fuzz targets.

/// Reads an answer of a name server, and of a web server, inside.
pub fn inside(bytes: &[u8]) {
    let _ = super::inside::judge_dns(bytes, 1);
    let _ = super::inside::judge_http(bytes, None);
}

/// Reads a packet of a WireGuard server, one that came through its tunnel, or those of a connection; the first byte says which.
/// Says whether any was of use.
pub fn wireguard(bytes: &[u8]) -> bool {
    super::wireguard::fuzz(bytes)
}
