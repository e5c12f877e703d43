//! The endpoint behind TLS, client certificates and a login, as curl sees it.

use std::path::Path;
use std::process::Command;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

use crate::support::{Midwatch, Place, eventually, midwatch, program, write_and_rename};

/// An authority, as PEM and as what signs.
fn authority() -> (String, Issuer<'static, KeyPair>) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    // A name of its own: curl takes a certificate whose issuer has the same name for one that signed itself.
    params.distinguished_name.push(DnType::CommonName, "authority");
    let key = KeyPair::generate().unwrap();
    (params.self_signed(&key).unwrap().pem(), Issuer::new(params, key))
}

/// A certificate for a name, and its key.
fn issue(issuer: &Issuer<'static, KeyPair>, name: &str) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    (params.signed_by(&key, issuer).unwrap().pem(), key.serialize_pem())
}

/// What curl got from a path: the status and the body, or `None` without a response.
fn curl(daemon: &Midwatch, path: &str, arguments: &[&str]) -> Option<(u16, String)> {
    let url = format!("https://{}{path}", daemon.address);
    let mut command = Command::new("curl");
    command.current_dir(&daemon.place.folder).args(["--silent", "--max-time", "30", "--write-out", "%{http_code}"]);
    let output = command.args(arguments).arg(url).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let (body, status) = text.split_at(text.len() - 3);
    Some((status.parse().unwrap(), body.to_owned())).filter(|_| output.status.success())
}

const SHOWN: [&str; 6] = ["--cacert", "ca.crt", "--cert", "client.crt", "--key", "client.key"];
const LOGIN: [&str; 2] = ["--user", "alice:secret"];

fn status(daemon: &Midwatch, path: &str, arguments: &[&[&str]]) -> Option<u16> {
    curl(daemon, path, &arguments.concat()).map(|(status, _)| status)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_behind_certificates_and_a_login() {
    let place = Place::new();
    let hash = bcrypt::hash("secret", 4).unwrap();
    let (ca, issuer) = authority();
    let (_, stranger) = authority();
    place.write("ca.crt", &ca);
    for (name, issuer, host) in
        [("server", &issuer, "127.0.0.1"), ("client", &issuer, "client"), ("stranger", &stranger, "client")]
    {
        let (cert, key) = issue(issuer, host);
        place.write(&format!("{name}.crt"), &cert);
        place.write(&format!("{name}.key"), &key);
    }
    let text = format!(
        "tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\n  client_ca_file: ca.crt\n  \
         client_auth_type: RequireAndVerifyClientCert\nbasic_auth_users:\n  alice: {hash}\n"
    );
    let web = place.write("web.yml", &text);
    place.write("midwatch.toml", &place.text("web_config_file = \"web.yml\"\n"));
    let daemon = place.launch("midwatch.toml", &[], Command::new(program()));
    eventually("a page", async || status(&daemon, "/-/ready", &[&SHOWN, &LOGIN]).filter(|status| *status == 200)).await;

    // Who is let in.
    assert_eq!(status(&daemon, "/metrics", &[&SHOWN, &LOGIN]), Some(200));
    for (path, login) in [
        ("/metrics", &[][..]),
        ("/nothing", &[]),
        ("/metrics", &["--user", "alice:other"]),
        ("/metrics", &["--user", "carol:secret"]),
    ] {
        assert_eq!(status(&daemon, path, &[&SHOWN, login]), Some(401), "{path} {login:?}");
    }
    let stranger = ["--cacert", "ca.crt", "--cert", "stranger.crt", "--key", "stranger.key"];
    for shown in [&stranger[..], &SHOWN[..2]] {
        assert_eq!(status(&daemon, "/metrics", &[shown, &LOGIN]), None, "{shown:?}");
    }
    let plain = daemon.request("GET", "/metrics").await.unwrap();
    assert_eq!(plain, (400, "Client sent an HTTP request to an HTTPS server.\n".to_owned()));

    // A bad file changes nothing and says why, here and to `check`.
    let folder = daemon.place.folder.path().to_owned();
    let problem = "web.yml:2:3: tls_server_config: unknown field `cert_fil`, did you mean `cert_file`?";
    write_and_rename(&web, &text.replace("cert_file", "cert_fil"));
    let (code, said) = curl(&daemon, "/-/reload", &[&SHOWN[..], &LOGIN, &["--request", "POST"]].concat()).unwrap();
    assert!(code == 422 && said.contains(problem), "{code} {said}");
    assert_eq!(status(&daemon, "/metrics", &[&SHOWN, &LOGIN]), Some(200));
    let checked = midwatch(&["check", daemon.config().to_str().unwrap()]);
    assert_eq!(checked.status.code(), Some(64));
    assert!(String::from_utf8_lossy(&checked.stderr).contains(problem), "{checked:?}");
    write_and_rename(&web, &text);

    // A rotated certificate is served without anybody asking for it.
    let (ca, issuer) = authority();
    let (cert, key) = issue(&issuer, "127.0.0.1");
    let put = |name: &str, text: &str| write_and_rename(&folder.join(Path::new(name)), text);
    put("new.crt", &ca);
    put("server.crt", &cert);
    put("server.key", &key);
    let new = ["--cacert", "new.crt", "--cert", "client.crt", "--key", "client.key"];
    eventually("the new certificate", async || status(&daemon, "/metrics", &[&new, &LOGIN])).await;
    assert_eq!(status(&daemon, "/metrics", &[&SHOWN, &LOGIN]), None, "the old one is gone");

    // No secret is shown anywhere.
    let (_, config) = curl(&daemon, "/config", &[&new[..], &LOGIN].concat()).unwrap();
    assert!(config.contains("web_config_file = \"web.yml\""), "{config}");
    for text in [&config, &said, &daemon.log()] {
        assert!(!text.contains(&hash[7..]) && !text.contains("PRIVATE") && !text.contains("alice"), "{text}");
    }
}
