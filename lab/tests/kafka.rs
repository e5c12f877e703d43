//! The lab's Kafka brokers do what the lab says.

use lab::kafka::{Cluster, Record};

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_survives_what_is_done_to_it() {
    let cluster = Cluster::start(3).await.unwrap();
    cluster.create_topic("orders", 6, 3, &[]).await.unwrap();
    let records = (0..60).map(|i| Record::new(i % 6).key(format!("{i}")).timestamp(1_700_000_000_000 + i64::from(i)));
    let places = cluster.produce("orders", records).await.unwrap();
    assert_eq!(places.len(), 60);
    assert_eq!(places[59], (5, 9));
    cluster.commit("billing", &[("orders", 0, 7), ("orders", 1, 0)]).await.unwrap();
}
