//! VPNs over TLS: a real ocserv. SSTP has no server here: a made-up one stands in, in the unit tests of its code.

use lab::vpn::Ocserv;

use super::{network, of, probe, replies, trusting, until_all, watch};

const RHYTHM: &str = "interval = \"20s\"\ntimeout = \"3s\"\n";

#[tokio::test(flavor = "multi_thread")]
async fn ocserv_answers_and_its_certificate_is_judged() {
    let Some(network) = network() else { return };
    let server = Ocserv::start(&network.server, time::Duration::days(3)).await.unwrap();
    let foreign = tempfile::tempdir().unwrap();
    let foreign = lab::certificates::Authority::new(foreign.path(), "other").map(|ca| (ca, foreign)).unwrap();
    let good = format!("{RHYTHM}{}", trusting(server.ca_file()));
    let misnamed = good.replace("vpn.lab.example", "other.lab.example");
    let distrusted = format!("{RHYTHM}{}", trusting(foreign.0.certificate()));
    let text = [
        probe("good", "anyconnect", "10.77.0.1:443", &good),
        probe("six", "anyconnect", "[fd77::1]:443", &good),
        probe("misnamed", "anyconnect", "10.77.0.1:443", &misnamed),
        probe("distrusted", "anyconnect", "10.77.0.1:443", &distrusted),
        probe("closed", "anyconnect", "10.77.0.1:9", &good),
        probe("not-sstp", "sstp", "10.77.0.1:443", &good),
    ];
    let daemon = watch(&network, &text.concat()).await;
    let metrics = until_all(
        &daemon,
        &[
            ("good", Ok(())),
            ("six", Ok(())),
            ("misnamed", Err(("tls", "certificate"))),
            ("distrusted", Err(("tls", "certificate"))),
            ("closed", Err(("connect", "refused"))),
        ],
    )
    .await;
    assert!(replies(&metrics, "good", "auth_request") > 0.0);
    assert_eq!(metrics.all("midwatch_vpn_tls_info", &[("probe", "good")]).count(), 1);
    for name in ["good", "misnamed", "distrusted"] {
        let now = metrics.get("midwatch_probe_last_run_timestamp_seconds", &[("probe", name)]).unwrap();
        let left = of(&metrics, "certificate_expiry_timestamp_seconds", name).unwrap() - now;
        assert!((2.9..3.1).contains(&(left / 86_400.0)), "{name}: {left} s");
    }
    daemon.until("the wrong protocol to be noticed", |m| (of(m, "up", "not-sstp") == Some(0.0)).then_some(())).await;
}
