//! Members that SRV records list, asked of a real name server.

use std::process::Command;

use lab::dns::Dns;
use lab::mongodb::Standalone;

use super::{FAILURES, observed, success};
use crate::support::{Place, program};

/// midwatch with another resolv.conf, in a mount namespace of its own.
pub fn with_resolver(dns: &Dns) -> Command {
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", "mount --bind \"$0\" /etc/resolv.conf && exec \"$@\""]);
    command.arg(dns.resolv_conf()).arg(program());
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn members_are_looked_up_at_every_run() {
    let (one, two) = (Standalone::start().await.unwrap(), Standalone::start().await.unwrap());
    let port = |server: &Standalone| server.host().rsplit_once(':').unwrap().1.to_owned();
    let records = [
        format!("srv-host=_mongodb._tcp.orders.lab.example,db1.lab.example,{}", port(&one)),
        format!("srv-host=_mongodb._tcp.orders.lab.example,db2.lab.example,{}", port(&two)),
        "srv-host=_mongodb._tcp.stolen.lab.example,db1.elsewhere.example,27017".to_owned(),
        "host-record=db1.lab.example,127.0.0.1".to_owned(),
        "host-record=db2.lab.example,127.0.0.1".to_owned(),
        "local=/example/".to_owned(),
    ];
    let dns = Dns::start(&records).await.unwrap();
    let place = Place::new();
    let rhythm = "interval = \"2s\"\ntimeout = \"1900ms\"\ntls = false";
    let section = |name: &str| format!("[probe.mongodb.{name}]\nsrv = \"{name}.lab.example\"\n{rhythm}\n\n");
    place.write("midwatch.toml", &place.text(&["orders", "stolen", "missing"].map(section).concat()));
    let daemon = place.launch("midwatch.toml", &[], with_resolver(&dns));
    daemon.wait_ready().await;

    let members = [format!("db1.lab.example:{}", port(&one)), format!("db2.lab.example:{}", port(&two))];
    let runs = |m: &crate::support::Metrics, name| m.get("midwatch_probe_runs_total", &[("probe", name)]);
    let metrics = daemon
        .until("a run of each", |m| {
            let all = ["orders", "stolen", "missing"].iter().all(|name| runs(m, name) >= Some(1.0));
            all.then(|| m.clone())
        })
        .await;
    for member in &members {
        assert_eq!(success(&metrics, "orders", member), Some(1.0), "{}", daemon.log());
        assert!(observed(&metrics, "orders", member, "resolve") >= 1.0);
    }
    // A record that leads out of the domain, and a name that does not exist: the run fails, there is no member.
    for name in ["stolen", "missing"] {
        assert_eq!(metrics.get("midwatch_probe_run_success", &[("probe", name)]), Some(0.0));
        let failed = metrics.get("midwatch_probe_failures_total", &[("probe", name), ("reason", "resolve")]);
        assert!(failed >= Some(1.0), "{name}\n{}", daemon.log());
        assert_eq!(metrics.all(FAILURES, &[("probe", name)]).count(), 0);
    }

    // Without an answer from the name server, the members of the last time still have a verdict, and the run says why.
    dns.freeze().unwrap();
    let metrics = daemon
        .until("the silence of the name server to show", |m| {
            let of = [("probe", "orders"), ("target", members[0].as_str())];
            (m.get("midwatch_probe_success", &of) == Some(0.0)).then(|| m.clone())
        })
        .await;
    assert_eq!(metrics.get("midwatch_probe_run_success", &[("probe", "orders")]), Some(0.0));
    dns.thaw().unwrap();
    daemon
        .until("the name server's return to show", |m| {
            members.iter().all(|member| success(m, "orders", member) == Some(1.0)).then_some(())
        })
        .await;
}
