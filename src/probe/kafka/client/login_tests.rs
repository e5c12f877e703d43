//! Logins, at real brokers where they can be had.

use std::fs;
use std::path::Path;

use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request as HttpRequest, Response as HttpResponse};
use hyper_util::rt::TokioIo;
use lab::kafka::{Cluster, Options, Tls, User};
use tokio::net::TcpListener;

use super::api::groups::ListGroups;
use super::fake::Fake;
use super::*;
use crate::settings::{Files, Rules, Section, Source};

/// What the keys amount to. `SECRET` in the text is a file with that content.
fn access(folder: &Path, text: &str, secret: &str) -> Result<Access, Vec<String>> {
    fs::write(folder.join("secret"), secret).unwrap();
    let text = text.replace("SECRET", r#"{ file = "secret" }"#);
    let (path, files): (Arc<Path>, _) = (folder.join("midwatch.toml").into(), Files::new(false));
    let source = Source::new(&path, &text, Rules::Main, &files);
    let table = source.parse().unwrap();
    let mut root = Section::root(&source, table.get_ref());
    let access = Access::read(&mut root);
    root.finish();
    let problems: Vec<String> = source.into_problems().iter().map(ToString::to_string).collect();
    if problems.is_empty() { Ok(access.unwrap()) } else { Err(problems) }
}

async fn ask(access: &Access) -> Result<(), Failure> {
    let client = Client::new(access, &Net::default(), Duration::from_secs(5)).unwrap();
    let result = client.ask_any(&ListGroups).await;
    assert!(client.take_counts().iter().any(|count| count.api == Api::ApiVersions && count.errors == 0));
    result.map(|listing| assert!(listing.error.is_ok(), "{:?}", listing.error))
}

#[tokio::test]
async fn real_brokers_let_us_in_and_keep_us_out() {
    let cluster = Cluster::with(Options::default().brokers(1).sasl().tls(Tls::Server)).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (files, user) = (cluster.files(), User::midwatch());
    let keys = |mechanism: &str, ca: &Path| {
        format!(
            "bootstrap = [\"{}\"]\ntls = {{ ca_file = {ca:?} }}\n\
             sasl = {{ mechanism = \"{mechanism}\", username = \"{}\", password = SECRET }}\n",
            cluster.bootstrap(),
            user.name
        )
    };
    for mechanism in ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] {
        let good = access(folder.path(), &keys(mechanism, &files.ca), &user.password).unwrap();
        ask(&good).await.unwrap_or_else(|failure| panic!("{mechanism}: {failure}"));
        let wrong = access(folder.path(), &keys(mechanism, &files.ca), "wrong").unwrap();
        let failure = ask(&wrong).await.unwrap_err();
        assert_eq!(failure.reason, Reason::Auth, "{mechanism}: {failure}");
        assert!(failure.detail.contains("refuses the login"), "{mechanism}: {failure}");
    }
    let distrusted = access(folder.path(), &keys("PLAIN", &files.wrong_ca), &user.password).unwrap();
    assert_eq!(fails(&distrusted).await.reason, Reason::Certificate);
    // A client that knows nothing of TLS.
    let plain = access(folder.path(), &format!("bootstrap = [\"{}\"]", cluster.bootstrap()), "-").unwrap();
    let failure = fails(&plain).await;
    assert!(matches!(failure.reason, Reason::Protocol | Reason::Closed), "{failure}");
    assert!(failure.detail.contains("want TLS?"), "{failure}");
    // One that does not log in.
    let text = format!("bootstrap = [\"{}\"]\ntls = {{ ca_file = {:?} }}", cluster.bootstrap(), files.ca);
    let failure = fails(&access(folder.path(), &text, "-").unwrap()).await;
    assert_eq!(failure.reason, Reason::Closed);
    assert!(failure.detail.contains("want a login?"), "{failure}");
    // A token from a file.
    let text = format!(
        "bootstrap = [\"{}\"]\ntls = {{ ca_file = {:?} }}\nsasl = {{ mechanism = \"OAUTHBEARER\", token = SECRET }}\n",
        cluster.bootstrap(),
        files.ca
    );
    ask(&access(folder.path(), &text, &user.token(300)).unwrap()).await.unwrap();
    let expired = access(folder.path(), &text, &user.token(-300)).unwrap();
    assert_eq!(ask(&expired).await.unwrap_err().reason, Reason::Auth);
    // A token from a token server, which the broker takes or does not.
    let (server, _task) = token_server(user.token(300)).await;
    let text = |ca: &Path| {
        format!(
            "bootstrap = [\"{}\"]\ntls = {{ ca_file = {ca:?} }}\n\
             sasl = {{ mechanism = \"OAUTHBEARER\", token_url = \"http://{server}/token\", client_id = \"id\", \
             client_secret = SECRET, scope = \"kafka read\" }}\n",
            cluster.bootstrap(),
        )
    };
    let good = access(folder.path(), &text(&files.ca), "a secret: ü").unwrap();
    ask(&good).await.unwrap();
    let wrong = access(folder.path(), &text(&files.ca), "wrong").unwrap();
    let failure = ask(&wrong).await.unwrap_err();
    assert_eq!(failure.reason, Reason::Auth, "{failure}");
    assert!(failure.detail.contains("401 invalid_client: who are  you?"), "{failure}");
    let (other, _other_task) = token_server(user.token(-300)).await;
    let expired = text(&files.ca).replace(&server, &other);
    let failure = ask(&access(folder.path(), &expired, "a secret: ü").unwrap()).await.unwrap_err();
    assert_eq!(failure.reason, Reason::Auth, "{failure}");
}

async fn fails(access: &Access) -> Failure {
    let client = Client::new(access, &Net::default(), Duration::from_secs(5)).unwrap();
    client.ask_any(&ListGroups).await.err().unwrap()
}

/// A made-up token server that gives everybody who has the secret this token.
async fn token_server(token: String) -> (String, tokio::task::JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let token = token.clone();
            let service = service_fn(move |request: HttpRequest<Incoming>| {
                let token = token.clone();
                async move {
                    // "id:a+secret%3A+%C3%BC"
                    let known = request.headers()["authorization"] == "Basic aWQ6YStzZWNyZXQlM0ErJUMzJUJD";
                    let body = request.into_body().collect().await?.to_bytes();
                    assert_eq!(body, "grant_type=client_credentials&scope=kafka+read");
                    let (status, body) = if known {
                        (200, format!(r#"{{"access_token":"{token}","token_type":"Bearer","expires_in":300}}"#))
                    } else {
                        (401, r#"{"error":"invalid_client","error_description":"who are\u202e you?"}"#.to_owned())
                    };
                    let response = HttpResponse::builder().status(status).body(Full::new(bytes::Bytes::from(body)));
                    Ok::<_, hyper::Error>(response.unwrap())
                }
            });
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        }
    });
    (address, tasks)
}

#[test]
fn answers_of_token_servers_are_checked() {
    use hyper::StatusCode;
    let read = |status, body: &str| token::read(status, body.as_bytes());
    let (token, lifetime) = read(StatusCode::OK, r#"{"access_token":"a.b","expires_in":3600}"#).unwrap();
    assert_eq!((token.as_str(), lifetime.as_secs()), ("a.b", 3600));
    assert_eq!(read(StatusCode::OK, r#"{"access_token":"a"}"#).unwrap().1.as_secs(), 60);
    for (status, body, reason) in [
        (StatusCode::OK, "", Reason::Protocol),
        (StatusCode::OK, "<html>", Reason::Protocol),
        (StatusCode::OK, r#"{"access_token":""}"#, Reason::Protocol),
        (StatusCode::OK, r#"{"access_token":"a\u0001auth=b"}"#, Reason::Protocol),
        (StatusCode::BAD_REQUEST, r#"{"error":"invalid_scope"}"#, Reason::Auth),
        (StatusCode::UNAUTHORIZED, "", Reason::Auth),
        (StatusCode::SERVICE_UNAVAILABLE, "", Reason::Rejected),
    ] {
        assert_eq!(read(status, body).unwrap_err().reason, reason, "{status} {body}");
    }
}

/// Sessions end (KIP-368): whoever asks after that is on a new connection, and nobody notices.
#[tokio::test(start_paused = true)]
async fn logins_are_made_anew_in_time() {
    use kafka_protocol::messages::{ListGroupsResponse, SaslAuthenticateResponse, SaslHandshakeResponse};
    let fake = Fake::start(|asked| match asked.api {
        Api::SaslHandshake => asked.answer(&SaslHandshakeResponse::default()),
        Api::SaslAuthenticate => asked.answer(&SaslAuthenticateResponse::default().with_session_lifetime_ms(10_000)),
        _ => asked.answer(&ListGroupsResponse::default()),
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let text = format!(
        "bootstrap = [\"{}\"]\nsasl = {{ mechanism = \"PLAIN\", username = \"u\", password = SECRET }}",
        fake.address
    );
    let client =
        Client::new(&access(folder.path(), &text, "p").unwrap(), &Net::default(), Duration::from_secs(5)).unwrap();
    for (pause, connections) in [(0, 1), (7, 1), (2, 2), (7, 2), (2, 3)] {
        sleep(Duration::from_secs(pause)).await;
        client.ask_any(&ListGroups).await.unwrap();
        assert_eq!(fake.connections(), connections);
    }
    let login: kafka_protocol::messages::SaslAuthenticateRequest =
        fake.asked().iter().find(|asked| asked.api == Api::SaslAuthenticate).unwrap().body();
    assert_eq!(&*login.auth_bytes, b"\0u\0p");
}

#[test]
fn keys_are_checked() {
    let folder = tempfile::tempdir().unwrap();
    let read = |text: &str| access(folder.path(), text, "secret");
    let good = read("bootstrap = [\"k1\", \"K1:9092\", \"k2:9093\"]").unwrap();
    assert_eq!(good.bootstrap.iter().map(ToString::to_string).collect::<Vec<_>>(), ["k1:9092", "k2:9093"]);
    assert!(good.tls.is_none() && good.sasl.is_none());
    let shown = read(
        "bootstrap = [\"k1\"]\ntls = true\nsasl = { mechanism = \"SCRAM-SHA-512\", username = \"u\", password = SECRET }",
    );
    assert!(!format!("{:?}", shown.unwrap()).contains("secret"));
    for (text, problem) in [
        ("tls = false", "missing field `bootstrap`"),
        ("bootstrap = []", "expected at least one address"),
        ("bootstrap = [\"k1\"]\nsasl = { username = \"u\" }", "missing field `mechanism`"),
        (
            "bootstrap = [\"k1\"]\nsasl = { mechanism = \"OAUTHBEARER\", token = SECRET, scope = \"s\" }",
            "`scope`: has no meaning with a `token`",
        ),
        ("bootstrap = [\"k1\"]\nsasl = { mechanism = \"OAUTHBEARER\" }", "missing field `token_url`"),
        ("bootstrap = [\"k1\"]\nsasl = { mechanism = \"PLAIN\", username = \"u\" }", "missing field `password`"),
        (
            "bootstrap = [\"k1\"]\nsasl = { mechanism = \"PLAIN\", username = \"u\", password = SECRET, scope = \"s\" }",
            "`scope`: has no meaning with this `mechanism`",
        ),
        (
            "bootstrap = [\"k1\"]\nsasl = { mechanism = \"OAUTHBEARER\", token_url = \"ftp://x\", client_id = \"i\", client_secret = SECRET }",
            "expected a URL",
        ),
        #[cfg(not(feature = "msk-iam"))]
        (
            "bootstrap = [\"k1\"]\nsasl = { mechanism = \"AWS_MSK_IAM\", region = \"eu-central-1\" }",
            "not in this build",
        ),
    ] {
        let problems = read(text).unwrap_err();
        assert!(problems.iter().any(|found| found.contains(problem)), "{text}: {problems:?}");
    }
}
