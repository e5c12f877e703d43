//! The probe type `vpn` against real servers in network namespaces.

mod faults;
mod harm;
mod ikev2;
mod inside;
mod openvpn;
mod secrets;
mod tls;
mod wireguard;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use lab::until;
use lab::vpn::{Network, Peer, WireguardServer, available};

use crate::support::{Metrics, Midwatch, Place, eventually, program};

/// How long a verdict may take before a test fails. Not a measure of speed.
const PATIENCE: Duration = Duration::from_secs(90);

/// Two namespaces, or nothing where they cannot be had and that is known: see [`available`].
fn network() -> Option<Network> {
    available().unwrap().then(|| Network::new().unwrap())
}

/// Starts midwatch in the client's namespace with these probes, and waits until it is ready.
async fn watch(network: &Network, probes: &str) -> Midwatch {
    watch_by(network, probes, inside_command(network)).await
}

/// The same with another command.
async fn watch_by(network: &Network, probes: &str, command: Command) -> Midwatch {
    let place = Place::new();
    place.write("midwatch.toml", &place.text(probes));
    let mut daemon = place.launch_within(&network.client, command);
    eventually("midwatch to be ready", async || {
        // One that refuses its configuration says why, and nobody need wait for it.
        assert_eq!(daemon.child.try_wait().unwrap(), None, "{}", daemon.log());
        daemon.request("GET", "/-/ready").await.filter(|(status, _)| *status == 200)
    })
    .await;
    daemon
}

/// The program, in the client's namespace.
fn inside_command(network: &Network) -> Command {
    network.client.command(program()).unwrap()
}

/// One run now, as a person asks for it: whether it succeeded, and what is printed.
fn ask(network: &Network, config: &Path, name: &str) -> (bool, String) {
    let output = inside_command(network).args(["probe", "vpn", name, "--config"]).arg(config).output().unwrap();
    (output.status.success(), String::from_utf8(output.stdout).unwrap())
}

/// A probe's section: its protocol and server, then further lines.
pub fn probe(name: &str, protocol: &str, server: &str, rest: &str) -> String {
    format!("[probe.vpn.{name}]\nprotocol = \"{protocol}\"\nserver = \"{server}\"\n{rest}\n\n")
}

/// Once a second, with two attempts.
const OFTEN: &str = "interval = \"1s\"\ntimeout = \"900ms\"\nattempts = 2";

/// A probe as a peer of a WireGuard server.
fn wireguard(name: &str, server: &WireguardServer, peer: &Peer, rest: &str) -> String {
    wireguard_at(name, "10.77.0.1:51820", server.public_key(), peer, rest)
}

/// The same somewhere else, or with another key of the server.
pub fn wireguard_at(name: &str, address: &str, key: &str, peer: &Peer, rest: &str) -> String {
    let shared = peer.preshared_key.as_ref();
    let shared = shared.map(|path| format!("preshared_key = {{ file = \"{}\" }}\n", path.display()));
    let own = format!("private_key = {{ file = \"{}\" }}\nserver_public_key = \"{key}\"\n", peer.private_key.display());
    probe(name, "wireguard", address, &format!("{own}{}{rest}", shared.unwrap_or_default()))
}

/// The keys that trust an authority and expect the lab's name.
pub fn trusting(ca_file: &Path) -> String {
    format!("tls = {{ ca_file = \"{}\", server_name = \"vpn.lab.example\" }}\n", ca_file.display())
}

/// The one value that the probe's one server has.
fn of(metrics: &Metrics, name: &str, probe: &str) -> Option<f64> {
    metrics.get(&format!("midwatch_vpn_{name}"), &[("probe", probe)])
}

/// Whether the stage went well in the last run, if it was reached.
fn stage(metrics: &Metrics, probe: &str, stage: &str) -> Option<f64> {
    metrics.get("midwatch_vpn_stage_success", &[("probe", probe), ("stage", stage)])
}

/// How many runs failed in that stage for that reason.
fn failed(metrics: &Metrics, probe: &str, stage: &str, reason: &str) -> f64 {
    let labels = [("probe", probe), ("stage", stage), ("reason", reason)];
    metrics.get("midwatch_vpn_stage_failures_total", &labels).unwrap_or(0.0)
}

/// How many replies of that kind came.
fn replies(metrics: &Metrics, probe: &str, reply: &str) -> f64 {
    metrics.get("midwatch_vpn_replies_total", &[("probe", probe), ("reply", reply)]).unwrap_or(0.0)
}

/// Up, or the stage and the reason of a failure.
type Verdict<'v> = Result<(), (&'v str, &'v str)>;

/// What a probe must show.
type Expected<'e> = (&'e str, Verdict<'e>);

/// Whether a probe shows what it must.
fn shows(metrics: &Metrics, (probe, expected): &Expected<'_>) -> bool {
    match expected {
        Ok(()) => of(metrics, "up", probe) == Some(1.0),
        Err((at, reason)) => {
            let run = [("probe", *probe)];
            failed(metrics, probe, at, reason) > 0.0
                && metrics.get("midwatch_probe_run_success", &run).unwrap_or(0.0) == 0.0
        }
    }
}

/// Waits until all probes show what they must, and checks that those that fail have failed for no other reason.
async fn until_all(daemon: &Midwatch, expected: &[Expected<'_>]) -> Metrics {
    let metrics = until("the verdicts", PATIENCE, async || {
        let metrics = daemon.metrics().await;
        let wrong: Vec<_> = expected.iter().filter(|each| !shows(&metrics, each)).map(|(probe, _)| *probe).collect();
        if wrong.is_empty() { Ok(metrics) } else { Err(format!("{wrong:?} not yet; the log:\n{}", daemon.log())) }
    });
    let metrics = metrics.await.unwrap();
    for (probe, verdict) in expected {
        let labels = [("probe", *probe)];
        let failures: Vec<_> = metrics
            .all("midwatch_vpn_stage_failures_total", &labels)
            .filter(|sample| sample.value > 0.0 && sample.labels["stage"] != "total")
            .map(|sample| (sample.labels["stage"].as_str(), sample.labels["reason"].as_str()))
            .collect();
        let only: Vec<_> = verdict.err().into_iter().collect();
        assert!(failures.iter().all(|failure| only.contains(failure)), "{probe}: {failures:?}\n{}", daemon.log());
        if let Err((at, _)) = verdict {
            assert_eq!(stage(&metrics, probe, at), Some(0.0), "{probe}");
            assert_eq!(of(&metrics, "up", probe), Some(0.0), "{probe}");
        }
    }
    metrics
}
