//! The readers of a peer's bytes, for the fuzz targets.

use super::inside::Heard;

/// Reads an answer of a name server, and of a web server, inside. Whether it is one that says yes.
pub fn inside(bytes: &[u8]) -> bool {
    let is_good = |heard| matches!(heard, Heard::All(Ok(())));
    is_good(super::inside::judge_dns(bytes, 1)) || is_good(super::inside::judge_http(bytes, None))
}

/// Reads a response to IKE_SA_INIT. Whether it is one.
pub fn ikev2(bytes: &[u8]) -> bool {
    super::ikev2::read(bytes).is_some()
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_inside_answers_is_read_whatever_it_is() {
        let (seeds, good) = crate::corpus::each("vpn_inside", super::inside);
        assert!(seeds >= 4 && good >= 2, "{seeds} seeds, {good} good");
    }

    #[test]
    fn responses_of_ike_are_read_whatever_they_are() {
        let (seeds, read) = crate::corpus::each("ikev2_response", super::ikev2);
        assert!(seeds >= 5 && read >= 5, "{seeds} seeds, {read} read");
    }
}

/// Reads a packet of a WireGuard server, one that came through its tunnel, or those of a connection; the first byte says which.
/// Says whether any was of use.
pub fn wireguard(bytes: &[u8]) -> bool {
    super::wireguard::fuzz(bytes)
}
