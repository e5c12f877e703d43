//! How long the kernel says that a TCP handshake took. The only `unsafe` of this program.
#![allow(unsafe_code, reason = "getsockopt(TCP_INFO) has no safe wrapper in std, tokio or socket2")]

use std::time::Duration;

use tokio::net::TcpStream;

/// The time from the SYN to its acknowledgement as the kernel measured it; ask right after connecting, before anything
/// is sent.
///
/// A user-space clock also counts the way through the event loop: 0.1 to 0.4 ms, more than the handshake itself lasts
/// within a data centre. `None` where the kernel's number would hide the wait: the SYN was sent more than once (the
/// round trip is then that of the last one only), or there is no number. The number is `tcpi_rtt`, which after one
/// sample is that sample (`tcp_rtt_estimator` in Linux' net/ipv4/tcp_input.c).
#[cfg(target_os = "linux")]
pub(super) fn handshake_time(stream: &TcpStream) -> Option<Duration> {
    use std::mem::{MaybeUninit, offset_of, size_of};
    use std::os::fd::AsRawFd;

    let mut info = MaybeUninit::<libc::tcp_info>::zeroed();
    let mut length = size_of::<libc::tcp_info>() as libc::socklen_t;
    // SAFETY: the descriptor is open for as long as `stream` is borrowed; the kernel writes at most `length` bytes, which
    // is the size of `info`.
    let status = unsafe {
        libc::getsockopt(
            stream.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            std::ptr::from_mut(&mut length),
        )
    };
    // SAFETY: all fields are integers, and zeroes are valid integers where the kernel wrote less.
    let info = unsafe { info.assume_init() };
    let known = length as usize >= offset_of!(libc::tcp_info, tcpi_total_retrans) + size_of::<u32>();
    (status == 0 && known && info.tcpi_total_retrans == 0 && info.tcpi_rtt > 0)
        .then(|| Duration::from_micros(info.tcpi_rtt.into()))
}

/// Other systems have no such number, or none under this name.
#[cfg(not(target_os = "linux"))]
pub(super) fn handshake_time(_: &TcpStream) -> Option<Duration> {
    None
}
