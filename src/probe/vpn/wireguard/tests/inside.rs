//! Through the tunnel: hosts inside are played by smoltcp, and by hand.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_resolver::proto::op::{Message, MessageType, ResponseCode};
use hickory_resolver::proto::rr::{RData, Record};
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::socket::tcp;
use smoltcp::time::Instant as Moment;
use smoltcp::wire::{HardwareAddress, Icmpv4Packet, Icmpv6Packet, IpCidr, Ipv4Packet, Ipv6Packet};

use super::fake::Fake;
use super::{Bench, LITTLE, PLENTY, Pair, Reason};
use crate::probe::vpn::wireguard::packet::{self, Inner};
use crate::probe::vpn::wireguard::stream::{Stream, Wire};

const OURS: &str = "inside_address = \"10.88.0.2\"";
const OURS_V6: &str = "inside_address = \"fd00::2\"";

/// The answer to an echo.
pub(super) fn pong(packet: &[u8]) -> Vec<u8> {
    let mut reply = packet.to_vec();
    if packet[0] >> 4 == 6 {
        let mut ip = Ipv6Packet::new_checked(&mut reply[..]).unwrap();
        let (from, to) = (ip.src_addr(), ip.dst_addr());
        ip.set_src_addr(to);
        ip.set_dst_addr(from);
        let mut icmp = Icmpv6Packet::new_checked(ip.payload_mut()).unwrap();
        assert!(icmp.verify_checksum(&from, &to));
        icmp.set_msg_type(smoltcp::wire::Icmpv6Message::EchoReply);
        icmp.fill_checksum(&to, &from);
        return reply;
    }
    let mut ip = Ipv4Packet::new_checked(&mut reply[..]).unwrap();
    assert!(ip.verify_checksum());
    let (from, to) = (ip.src_addr(), ip.dst_addr());
    ip.set_src_addr(to);
    ip.set_dst_addr(from);
    ip.fill_checksum();
    let mut icmp = Icmpv4Packet::new_checked(ip.payload_mut()).unwrap();
    assert!(icmp.verify_checksum());
    icmp.set_msg_type(smoltcp::wire::Icmpv4Message::EchoReply);
    icmp.fill_checksum();
    reply
}

/// What a router says of a packet: its own kind of error, quoting the beginning.
pub(super) fn error(packet: &[u8], (kind, code): (u8, u8), quoted: usize) -> Vec<u8> {
    let mut icmp = vec![kind, code, 0, 0, 0, 0, 0, 0];
    icmp.extend_from_slice(&packet[..quoted.min(packet.len())]);
    let is_v4 = packet[0] >> 4 == 4;
    let (ours, router): (IpAddr, IpAddr) = match Inner::read(packet).unwrap().from {
        from @ IpAddr::V4(_) => (from, "10.88.0.254".parse().unwrap()),
        from @ IpAddr::V6(_) => (from, "fd00::fe".parse().unwrap()),
    };
    packet::wrapped(router, ours, if is_v4 { 1 } else { 58 }, (&mut icmp, 2)).unwrap()
}

/// A host with a TCP server.
pub(super) struct Host {
    wire: Wire,
    interface: Interface,
    sockets: SocketSet<'static>,
    handle: SocketHandle,
    began: tokio::time::Instant,
    says: &'static [u8],
}

impl Host {
    pub(super) fn new(address: IpAddr, port: u16, says: &'static [u8]) -> Self {
        let mut wire = Wire::default();
        let mut interface = Interface::new(Config::new(HardwareAddress::Ip), &mut wire, Moment::ZERO);
        let bits = if address.is_ipv4() { 24 } else { 64 };
        interface.update_ip_addrs(|all| all.push(IpCidr::new(address.into(), bits)).unwrap());
        let room = || tcp::SocketBuffer::new(vec![0; 65_535]);
        let mut socket = tcp::Socket::new(room(), room());
        socket.listen(port).unwrap();
        let mut sockets = SocketSet::new(Vec::new());
        let handle = sockets.add(socket);
        Self { wire, interface, sockets, handle, began: tokio::time::Instant::now(), says }
    }

    pub(super) fn hear(&mut self, packet: &[u8]) -> Vec<Vec<u8>> {
        self.wire.arrived = Some(packet.to_vec());
        let now = || Moment::from_micros(i64::try_from(self.began.elapsed().as_micros()).unwrap());
        self.interface.poll(now(), &mut self.wire, &mut self.sockets);
        let socket = self.sockets.get_mut::<tcp::Socket<'_>>(self.handle);
        if socket.can_recv() {
            let mut asked = Vec::new();
            while socket.can_recv() {
                socket.recv(|bytes| (bytes.len(), asked.extend_from_slice(bytes))).unwrap();
            }
            if asked.ends_with(b"\r\n") {
                socket.send_slice(self.says).unwrap();
            }
        }
        if socket.state() == tcp::State::CloseWait {
            socket.close();
        }
        self.interface.poll(now(), &mut self.wire, &mut self.sockets);
        self.wire.to_send.drain(..).collect()
    }
}

async fn bench(more: &str, inside: impl FnMut(&[u8]) -> Vec<Vec<u8>> + Send + 'static) -> Bench {
    let pair = Pair::new();
    let server = Fake::new(&pair).await.start_with(inside);
    Bench::new(&pair, server, more)
}

fn is_icmp(packet: &[u8]) -> bool {
    matches!(Inner::read(packet).unwrap().protocol, 1 | 58)
}

#[tokio::test]
async fn echoes_come_back_over_both_families() {
    for (ours, to) in [(OURS, "10.88.0.1"), (OURS_V6, "fd00::1")] {
        let targets = format!("{ours}\ninside = [{{ icmp = \"{to}\", count = 5 }}]");
        let bench = bench(&targets, |packet| vec![pong(packet)]).await;
        bench.well().await;
        assert_eq!(bench.sum("midwatch_vpn_inside_success", ""), 1.0);
        assert_eq!(bench.sum("midwatch_vpn_inside_round_trip_seconds_count", ""), 5.0);
        assert_eq!(bench.sum("midwatch_vpn_packets_sent_total", "stage=inside"), 5.0);
        assert_eq!(bench.sum("midwatch_vpn_packets_lost_total", "stage=inside"), 0.0);
        assert_eq!(bench.sum("midwatch_vpn_stage_success", "stage=inside"), 1.0);
        // The handshake's and those of the echoes: mostly the kernel's.
        assert_eq!(bench.sum("midwatch_vpn_round_trip_clock_total", ""), 6.0);
    }
}

#[tokio::test]
async fn a_dead_data_plane_is_told_from_a_server_that_is_down() {
    let targets = format!("{OURS}\ninside = [{{ icmp = \"10.88.0.1\" }}, {{ tcp = \"10.88.0.1:22\" }}]");
    let bench = bench(&targets, |_| Vec::new()).await;
    let failure = bench.fails().await;
    assert_eq!(failure.reason, Reason::DataPlaneTimeout, "{failure}");
    assert_eq!(bench.sum("midwatch_vpn_up", ""), 0.0);
    assert_eq!(bench.sum("midwatch_vpn_stage_success", "stage=handshake"), 1.0);
    assert_eq!(bench.sum("midwatch_vpn_stage_success", "stage=inside"), 0.0);
    assert_eq!(bench.sum("midwatch_vpn_inside_failures_total", "reason=data_plane_timeout"), 2.0);
}

#[tokio::test]
async fn only_the_answer_to_this_very_echo_counts() {
    let targets = format!("{OURS}\ninside = [{{ icmp = \"10.88.0.1\" }}]");
    // Each differs from the answer in one thing.
    let wrong: [fn(&mut Vec<u8>); 7] = [
        |reply| reply[24] ^= 1,                  // its number
        |reply| reply[27] ^= 1,                  // the second half of it
        |reply| *reply.last_mut().unwrap() ^= 1, // its text
        |reply| reply[15] ^= 4,                  // who answers
        |reply| reply[19] ^= 4,                  // for whom it is
        |reply| reply[20] = 8,                   // it asks, itself
        |reply| reply.truncate(reply.len() - 1), // its end is missing
    ];
    for (which, change) in wrong.into_iter().enumerate() {
        let bench = bench(&targets, move |packet| {
            let mut reply = pong(packet);
            change(&mut reply);
            if let Ok(mut ip) = Ipv4Packet::new_checked(&mut reply[..]) {
                ip.fill_checksum();
                Icmpv4Packet::new_unchecked(ip.payload_mut()).fill_checksum();
            }
            vec![reply]
        });
        let failure = bench.await.fails().await;
        assert_eq!(failure.reason, Reason::DataPlaneTimeout, "change {which}: {failure}");
    }
    // And one with a wrong checksum alone.
    let bench = bench(&targets, |packet| {
        let mut reply = pong(packet);
        reply[22] ^= 1;
        vec![reply]
    });
    assert_eq!(bench.await.fails().await.reason, Reason::DataPlaneTimeout);
}

#[tokio::test]
async fn what_a_router_says_is_heard() {
    let targets = format!("{OURS}\ninside = [{{ icmp = \"10.88.0.1\" }}]");
    let quotes = [28, 60];
    for quoted in quotes {
        let bench = bench(&targets, move |packet| vec![error(packet, (3, 1), quoted)]).await;
        let failure = bench.run(PLENTY).await.unwrap_err();
        assert_eq!(failure.reason, Reason::Unreachable);
        assert!(failure.detail.contains("10.88.0.254 answered: host unreachable"), "{failure}");
    }
    let targets = format!("{OURS_V6}\ninside = [{{ tcp = \"[fd00::1]:22\" }}]");
    let bench = bench(&targets, |packet| vec![error(packet, (1, 4), 100)]).await;
    assert_eq!(bench.run(PLENTY).await.unwrap_err().reason, Reason::Refused);
}

#[tokio::test]
async fn a_router_s_words_about_another_packet_are_not_ours() {
    let targets = format!("{OURS}\ninside = [{{ icmp = \"10.88.0.1\" }}]");
    for at in [12 + 3, 16 + 3, 9, 20 + 4, 20 + 7] {
        let bench = bench(&targets, move |packet| {
            let mut other = packet.to_vec();
            other[at] ^= 1;
            let mut said = error(packet, (3, 1), 28);
            said[28..].copy_from_slice(&other[..28]);
            let mut ip = Ipv4Packet::new_unchecked(&mut said[..]);
            Icmpv4Packet::new_unchecked(ip.payload_mut()).fill_checksum();
            vec![said]
        });
        assert_eq!(bench.await.fails().await.reason, Reason::DataPlaneTimeout, "byte {at}");
    }
}

#[tokio::test]
async fn connections_and_pages_are_reached() {
    for (ours, host) in [(OURS, "10.88.0.1"), (OURS_V6, "[fd00::1]")] {
        let ip = host.trim_matches(['[', ']']).parse().unwrap();
        for target in [format!("tcp = \"{host}:80\""), format!("http = \"http://{host}/health\"")] {
            let mut peer = Host::new(ip, 80, b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n");
            let bench = bench(&format!("{ours}\ninside = [{{ {target} }}]"), move |packet| peer.hear(packet)).await;
            bench.well().await;
            assert_eq!(bench.sum("midwatch_vpn_inside_round_trip_seconds_count", ""), 1.0, "{target}");
        }
    }
}

#[tokio::test]
async fn a_page_that_is_not_what_was_expected_is_told() {
    let targets = format!("{OURS}\ninside = [{{ http = \"http://10.88.0.1/\" }}]");
    let cases: [(&'static [u8], Reason); 3] = [
        (b"HTTP/1.1 503 Service Unavailable\r\n\r\n", Reason::Mismatch),
        (b"SSH-2.0-OpenSSH_9.2\r\n", Reason::Protocol),
        (&[b'x'; 60_000], Reason::Protocol),
    ];
    for (says, reason) in cases {
        let mut peer = Host::new("10.88.0.1".parse().unwrap(), 80, says);
        let bench = bench(&targets, move |packet| peer.hear(packet)).await;
        assert_eq!(bench.run(PLENTY).await.unwrap_err().reason, reason);
    }
}

#[tokio::test]
async fn a_closed_port_inside_is_refused_and_an_early_end_is_closed() {
    let targets = format!("{OURS}\ninside = [{{ http = \"http://10.88.0.1/\" }}]");
    let mut peer = Host::new("10.88.0.1".parse().unwrap(), 81, b"");
    let closed = bench(&targets, move |packet| peer.hear(packet)).await;
    assert_eq!(closed.run(PLENTY).await.unwrap_err().reason, Reason::Refused);

    let mut peer = Host::new("10.88.0.1".parse().unwrap(), 80, b"");
    let ended = bench(&targets, move |packet| {
        // As soon as it is asked something, it goes.
        if packet::segment(packet) == packet::Segment::Data {
            peer.sockets.get_mut::<tcp::Socket<'_>>(peer.handle).abort();
        }
        peer.hear(packet)
    });
    assert_eq!(ended.await.run(PLENTY).await.unwrap_err().reason, Reason::Closed);
}

#[tokio::test]
async fn the_peer_of_a_connection_keeps_nothing_of_it() {
    // One that is closed as is proper, and one whose peer never answers, which is reset.
    for (target, reason) in [("tcp = \"10.88.0.1:80\"", None), ("http = \"http://10.88.0.1/\"", Some("no answer came"))]
    {
        let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
        let mut peer = Host::new("10.88.0.1".parse().unwrap(), 80, b"");
        let targets = format!("{OURS}\ninside = [{{ {target} }}]");
        let bench = bench(&targets, move |packet| {
            let replies = peer.hear(packet);
            tell.send(peer.sockets.get::<tcp::Socket<'_>>(peer.handle).state()).unwrap();
            replies
        });
        let said = bench.await.run(LITTLE).await.err().map(|failure| failure.detail);
        assert_eq!(said.is_some(), reason.is_some(), "{said:?}");
        assert!(reason.is_none_or(|reason| said.unwrap().contains(reason)));
        // An end of the channel would be a panic: the server goes on for ever.
        let closed = async { while told.recv().await.unwrap() != tcp::State::Closed {} };
        tokio::time::timeout(PLENTY, closed).await.expect("the peer waits for something");
    }
}

#[tokio::test]
async fn a_name_server_is_asked() {
    let answer = |packet: &[u8], code: ResponseCode, from: u16| {
        let inner = Inner::read(packet).unwrap();
        let port = u16::from_be_bytes(inner.payload[..2].try_into().unwrap());
        let (us, server): (SocketAddr, SocketAddr) = (SocketAddr::new(inner.from, port), SocketAddr::new(inner.to, 53));
        let mut message = Message::from_vec(inner.datagram(us, server).unwrap()).unwrap();
        message.metadata.message_type = MessageType::Response;
        message.metadata.response_code = code;
        if code == ResponseCode::NoError {
            let name = message.queries[0].name().clone();
            message.add_answer(Record::from_rdata(name, 60, RData::A("192.0.2.1".parse().unwrap())));
        }
        vec![packet::datagram(SocketAddr::new(inner.to, from), us, &message.to_vec().unwrap()).unwrap()]
    };
    let targets = format!("{OURS}\ninside = [{{ dns = \"db.internal\", server = \"10.88.0.1\" }}]");
    bench(&targets, move |packet| answer(packet, ResponseCode::NoError, 53)).await.well().await;
    let refusing = bench(&targets, move |packet| answer(packet, ResponseCode::NXDomain, 53)).await;
    assert_eq!(refusing.run(PLENTY).await.unwrap_err().reason, Reason::Resolve);
    let elsewhere = bench(&targets, move |packet| answer(packet, ResponseCode::NoError, 54)).await;
    assert_eq!(elsewhere.fails().await.reason, Reason::DataPlaneTimeout);
    let targets = format!("{OURS_V6}\ninside = [{{ dns = \"db.internal\", server = \"[fd00::1]\" }}]");
    bench(&targets, move |packet| answer(packet, ResponseCode::NoError, 53)).await.well().await;
}

#[tokio::test]
async fn noise_inside_is_not_listened_to() {
    let targets = format!("{OURS}\ninside = [{{ icmp = \"10.88.0.1\" }}, {{ tcp = \"10.88.0.1:80\" }}]");
    let mut peer = Host::new("10.88.0.1".parse().unwrap(), 80, b"");
    let bench = bench(&targets, move |packet| {
        let mut stranger = pong(packet.get(..).filter(|packet| is_icmp(packet)).unwrap_or(&ping()));
        stranger[19] ^= 8;
        let mut replies = vec![stranger, ping(), vec![0x45; 40], vec![0x60; 41], vec![0x45; 19]];
        replies.extend(if is_icmp(packet) { vec![pong(packet)] } else { peer.hear(packet) });
        replies
    });
    bench.await.well().await;
}

fn ping() -> Vec<u8> {
    packet::echo("10.88.0.1".parse().unwrap(), "10.88.0.2".parse().unwrap(), 9, b"hello").unwrap()
}

#[tokio::test]
async fn a_server_that_goes_between_handshake_and_echo_is_told() {
    let pair = Pair::new();
    let mut fake = Fake::new(&pair).await;
    let bench = Bench::new(&pair, fake.address, &format!("{OURS}\ninside = [{{ icmp = \"10.88.0.1\", count = 3 }}]"));
    let server = async {
        let (answer, from) = fake.answer().await;
        fake.send(&answer, from).await;
        drop(fake);
    };
    let (result, ()) = tokio::join!(bench.run(LITTLE * 4), server);
    let failure = result.unwrap_err();
    assert_eq!(failure.reason, Reason::Refused);
    assert!(failure.detail.contains("gone since the handshake"), "{failure}");
}

#[tokio::test]
async fn packets_of_foreign_sessions_are_counted_and_do_no_harm() {
    let targets = format!("{OURS}\ninside = [{{ icmp = \"10.88.0.1\" }}]");
    let pair = Pair::new();
    let mut fake = Fake::new(&pair).await;
    let bench = Bench::new(&pair, fake.address, &targets);
    let server = async {
        let (answer, from) = fake.answer().await;
        fake.send(&answer, from).await;
        loop {
            let (packet, from) = fake.next().await;
            if let (None, Some(inner)) = fake.hear(&packet, from) {
                let good = fake.seal(&pong(&inner));
                let mut foreign = good.clone();
                foreign[7] ^= 1;
                let mut late = good.clone();
                late[4] ^= 1;
                for packet in [&foreign, &late, &good] {
                    fake.send(packet, from).await;
                }
            }
        }
    };
    tokio::select! { () = bench.well() => {}, () = server => {} }
    assert_eq!(bench.sum("midwatch_vpn_ignored_packets_total", "why=foreign_session"), 1.0);
    assert_eq!(bench.sum("midwatch_vpn_ignored_packets_total", "why=late"), 1.0);
}

#[tokio::test]
async fn answers_to_what_somebody_else_asked_with_our_keys_are_counted() {
    let targets = format!("{OURS}\ninside = [{{ icmp = \"10.88.0.1\" }}, {{ tcp = \"10.88.0.1:80\" }}]");
    let mut peer = Host::new("10.88.0.1".parse().unwrap(), 80, b"");
    let mut theirs = Host::new("10.88.0.1".parse().unwrap(), 81, b"");
    let bench = bench(&targets, move |packet| {
        if !is_icmp(packet) {
            return peer.hear(packet);
        }
        let ends = ("10.88.0.2:40000".parse().unwrap(), "10.88.0.1:81".parse().unwrap());
        let mut stream = Stream::connect(ends.0, ends.1, (1, 0)).unwrap();
        stream.go_on(Duration::ZERO, None);
        let asked = stream.outgoing().unwrap();
        let number = u32::from_be_bytes(Inner::read(packet).unwrap().payload[4..8].try_into().unwrap());
        let (us, host) = (ends.0.ip(), ends.1.ip());
        let [late, other] = [1, 0x1_0000].map(|more| packet::echo(us, host, number ^ more, b"text").unwrap());
        // An attempt to connect to us is nobody's answer, nor is an answer to an earlier echo of ours.
        let mut replies = vec![pong(&late), pong(&other), asked_by_host()];
        replies.extend(theirs.hear(&asked));
        replies.push(pong(packet));
        replies
    });
    let bench = bench.await;
    bench.well().await;
    assert_eq!(bench.sum("midwatch_vpn_ignored_packets_total", "why=foreign_session"), 2.0);
}

/// A request for a connection with us.
fn asked_by_host() -> Vec<u8> {
    let ends = ("10.88.0.1:40000".parse().unwrap(), "10.88.0.2:22".parse().unwrap());
    let mut stream = Stream::connect(ends.0, ends.1, (1, 0)).unwrap();
    stream.go_on(Duration::ZERO, None);
    stream.outgoing().unwrap()
}

#[test]
fn packets_are_read_back_as_they_were_written() {
    for (from, to) in [("10.0.0.1:5", "10.0.0.2:6"), ("[fd00::1]:5", "[fd00::2]:6")] {
        let (from, to): (SocketAddr, SocketAddr) = (from.parse().unwrap(), to.parse().unwrap());
        for length in [0, 1, 2, 3, 1_200] {
            let text = vec![0xab; length];
            let packet = packet::datagram(from, to, &text).unwrap();
            assert_eq!(Inner::read(&packet).unwrap().datagram(from, to), Some(&*text));
            assert_eq!(Inner::read(&packet).unwrap().datagram(to, from), None);
            for at in 0..packet.len() {
                assert_eq!(Inner::read(&packet[..at]), None);
            }
        }
        assert_eq!(packet::datagram(from, to, &vec![0; 65_600]), None);
    }
    assert_eq!(packet::datagram("10.0.0.1:5".parse().unwrap(), "[fd00::1]:5".parse().unwrap(), b""), None);
}

#[tokio::test(start_paused = true)]
async fn a_connection_request_is_sent_again() {
    let ends = ("10.88.0.2:50000".parse().unwrap(), "10.88.0.1:80".parse().unwrap());
    let mut stream = Stream::connect(ends.0, ends.1, (1, 0)).unwrap();
    let mut since = Duration::ZERO;
    let mut requests = 0;
    for _ in 0..3 {
        stream.go_on(since, None);
        while let Some(packet) = stream.outgoing() {
            requests += usize::from(packet::segment(&packet) == packet::Segment::Syn);
        }
        since += stream.due(since).unwrap();
    }
    assert!(requests >= 2, "{requests}");
    for bad in ["0.0.0.0:80", "10.88.0.1:0"] {
        assert!(Stream::connect(ends.0, bad.parse().unwrap(), (1, 0)).is_err());
    }
}
