//! Every query of every dashboard, against a real Prometheus that scrapes a real midwatch.

use lab::prometheus::Prometheus;

use super::platform::{Plan, Platform, rules};

#[tokio::test(flavor = "multi_thread")]
async fn every_query_returns_data() {
    let platform = Platform::start(Plan::ALL).await;
    let options = rules().into_iter().fold(platform.scraping(), lab::prometheus::Options::rules);
    let prometheus = Prometheus::with(options.exemplars()).await.unwrap();
    prometheus.wait_for("midwatch:probe_owner:info").await.unwrap();
    println!("{}", std::process::id());
    if std::env::var_os("STAY").is_some() {
        println!("{} {}", prometheus.url(), platform.daemon.address);
        tokio::time::sleep(std::time::Duration::from_secs(1500)).await;
    }
}
