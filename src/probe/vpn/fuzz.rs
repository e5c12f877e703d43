//! The readers of a peer's bytes, for the fuzz targets.

use super::inside::Heard;
use crate::probe::Failure;

/// Reads an answer of a name server, and of a web server, inside. Whether it is one that says yes.
pub fn inside(bytes: &[u8]) -> bool {
    let is_good = |heard| matches!(heard, Heard::All(Ok(())));
    is_good(super::inside::judge_dns(bytes, 1)) || is_good(super::inside::judge_http(bytes, None))
}

/// Reads a response to IKE_SA_INIT. Whether it is one.
pub fn ikev2(bytes: &[u8]) -> bool {
    super::ikev2::read(bytes).is_some()
}

/// Reads a packet of an OpenVPN server, over UDP and TCP. Whether it is one.
pub fn openvpn(bytes: &[u8]) -> bool {
    super::openvpn::read(bytes)
}

/// Reads an answer as that of an AnyConnect server, and as that of an SSTP server.
///
/// # Errors
/// Why it is neither.
pub fn tls_vpn(bytes: &[u8]) -> Result<(), Failure> {
    super::tls::read(bytes)
}

/// Reads a packet of a WireGuard server, one that came through its tunnel, or those of a connection; the first byte says which.
/// Says whether any was of use.
pub fn wireguard(bytes: &[u8]) -> bool {
    super::wireguard::fuzz(bytes)
}

#[cfg(test)]
mod tests {
    use crate::probe::Reason;

    #[test]
    fn packets_of_openvpn_are_read_whatever_they_are() {
        let (seeds, read) = crate::corpus::each("openvpn_packet", super::openvpn);
        assert!(seeds >= 9 && read >= 9, "{seeds} seeds, {read} read");
    }

    #[test]
    fn answers_over_tls_are_read_whatever_they_are() {
        let survives = |bytes: &[u8]| match super::tls_vpn(bytes) {
            Ok(()) => true,
            Err(failure) => {
                assert!(matches!(failure.reason, Reason::Protocol | Reason::Mismatch | Reason::Closed), "{failure}");
                assert!(failure.detail.chars().count() <= 300, "{failure}");
                false
            }
        };
        let (seeds, good) = crate::corpus::each("tls_vpn_answer", survives);
        assert!(seeds >= 5 && good >= 3, "{seeds} seeds, {good} good");
    }

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
