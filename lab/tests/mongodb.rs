//! The lab's MongoDB servers do what the lab says.

use std::time::Duration;

use lab::mongodb::driver::bson::{Document, doc};
use lab::mongodb::driver::{self, Client};
use lab::mongodb::{Access, Options, PROBE_DATABASE, ReplicaSet, Standalone, Tls, Uninitialised, User};
use tokio::net::TcpStream;
use tokio::time::timeout;

async fn hello(client: &Client) -> driver::error::Result<Document> {
    client.database("admin").run_command(doc! { "hello": 1 }).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_set_survives_what_is_done_to_it() {
    let set = ReplicaSet::start(3).await.unwrap();
    let first = set.primary().await.unwrap();

    // The names are those that the set itself uses, and aliases of loopback reach the same server.
    let answer = hello(&set.client(first, None).unwrap()).await.unwrap();
    let names: Vec<&str> = answer.get_array("hosts").unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    assert_eq!(names, set.hosts());
    TcpStream::connect(("127.0.1.7", set.port(first))).await.unwrap();

    // Stepping down elects another one.
    set.step_down().await.unwrap();
    let second = set.wait_settled().await.unwrap();
    assert_ne!(second, first);

    // A frozen primary keeps its connections and is replaced.
    set.freeze(second).unwrap();
    let mut stream = TcpStream::connect(set.hosts()[second].as_str()).await.unwrap();
    let silence = timeout(Duration::from_millis(200), tokio::io::AsyncReadExt::read_u8(&mut stream)).await;
    silence.expect_err("a frozen server says nothing");
    let third = set.wait_primary().await.unwrap();
    assert_ne!(third, second);
    set.thaw(second).unwrap();
    assert_eq!(set.wait_settled().await.unwrap(), third);

    // A killed one refuses, and comes back with the same name and its data.
    let client = set.client(third, None).unwrap();
    let majority = doc! { "insert": "kept", "documents": [{ "_id": 1 }], "writeConcern": { "w": "majority" } };
    client.database(PROBE_DATABASE).run_command(majority).await.unwrap();
    let pid = set.pid(third).unwrap();
    set.kill(third);
    TcpStream::connect(set.hosts()[third].as_str()).await.unwrap_err();
    set.pid(third).unwrap_err();
    set.wait_primary().await.unwrap();
    set.restart(third).await.unwrap();
    set.wait_settled().await.unwrap();
    assert_ne!(set.pid(third).unwrap(), pid);
    let client = set.client(third, None).unwrap();
    let found = client.database(PROBE_DATABASE).run_command(doc! { "count": "kept" }).await.unwrap();
    assert_eq!(found.get_i32("n").unwrap(), 1);

    // Every thread of a pinned one runs on its CPU.
    set.pin(third, 0).unwrap();
    for entry in std::fs::read_dir(format!("/proc/{}/task", set.pid(third).unwrap())).unwrap().flatten() {
        let status = std::fs::read_to_string(entry.path().join("status")).unwrap_or_default();
        assert!(status.is_empty() || status.contains("Cpus_allowed_list:\t0\n"), "{status}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn users_log_in_over_tls_to_every_member() {
    let set = ReplicaSet::with(Options::default().members(2).hidden().arbiter().auth().tls(Tls::Server)).await.unwrap();
    assert_eq!(set.hosts().len(), 4);
    let answer = hello(&set.client(0, None).unwrap()).await.unwrap();
    assert_eq!(answer.get_array("hosts").unwrap().len(), 2);
    assert_eq!(answer.get_array("arbiters").unwrap().len(), 1);
    assert!(hello(&set.client(2, None).unwrap()).await.unwrap().get_bool("hidden").unwrap());
    assert!(hello(&set.client(3, None).unwrap()).await.unwrap().get_bool("arbiterOnly").unwrap());

    let status = doc! { "replSetGetStatus": 1 };
    for member in 0..3 {
        for user in [User::midwatch(), User::legacy(), User::x509()] {
            let client = set.client(member, Some(&user)).unwrap();
            client.database("admin").run_command(status.clone()).await.unwrap();
        }
        let nobody = set.client(member, None).unwrap();
        nobody.database("admin").run_command(status.clone()).await.unwrap_err();
    }

    // Each user has the one mechanism that it is for.
    let mechanisms = |user: &str| doc! { "hello": 1, "saslSupportedMechs": format!("admin.{user}") };
    for (user, expected) in [("midwatch", "SCRAM-SHA-256"), ("legacy", "SCRAM-SHA-1")] {
        let answer = set.command(0, mechanisms(user)).await.unwrap();
        assert_eq!(answer.get_array("saslSupportedMechs").unwrap().as_slice(), [expected.into()]);
    }

    // Connections are counted, by name too.
    let before = set.connections(0).await.unwrap();
    assert!(before.current > 0 && before.total_created >= before.current, "{before:?}");
    assert!(set.connections_of(0, "lab").await.unwrap() > 0);
    assert_eq!(set.connections_of(0, "nobody").await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn single_servers_are_what_they_say() {
    let access = Access { auth: true, tls: Tls::Mutual };
    let (plain, locked, uninitialised) =
        tokio::join!(Standalone::start(), Standalone::with(access), Uninitialised::start());
    let (plain, locked, uninitialised) = (plain.unwrap(), locked.unwrap(), uninitialised.unwrap());

    assert!(!hello(&plain.client(None).unwrap()).await.unwrap().contains_key("setName"));
    plain.command(doc! { "replSetGetStatus": 1 }).await.unwrap_err();

    let client = locked.client(Some(&User::x509())).unwrap();
    client.database("admin").run_command(doc! { "serverStatus": 1 }).await.unwrap();

    assert!(hello(&uninitialised.client().unwrap()).await.unwrap().get_bool("isreplicaset").unwrap());
}
