//! The lab's Prometheus scrapes and answers.

use std::time::Duration;

use lab::prometheus::{Options, Prometheus};

#[tokio::test(flavor = "multi_thread")]
async fn prometheus_scrapes_itself() {
    let port = lab::ports::Port::pick().unwrap();
    let address = port.address();
    drop(port);
    let options = Options::new([address.clone()], Duration::from_millis(200)).native_histograms();
    let prometheus =
        Prometheus::with(options.port(address.rsplit(':').next().unwrap().parse().unwrap())).await.unwrap();
    assert_eq!(prometheus.url(), format!("http://{address}"));

    let samples = prometheus.wait_for("up == 1").await.unwrap();
    assert_eq!(samples.len(), 1);
    assert_eq!(samples[0].value, 1.0);
    assert_eq!(samples[0].labels["instance"], address);

    let error = prometheus.query("up{").await.unwrap_err().to_string();
    assert!(error.contains("parse error"), "{error}");
}
