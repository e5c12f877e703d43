//! Where the API server is and how to log in there: as a Pod of its cluster, or as a kubeconfig says.
//!
//! Files are read anew for each request: tokens and certificates are rotated under a process that runs.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hyper::header::HeaderValue;
use kube::config::{AuthInfo, Cluster, Kubeconfig};
use secrecy::ExposeSecret;
use zeroize::Zeroizing;

use crate::probe::backup::source::file;
use crate::probe::net::{ClientCertificate, Net, Tls, TlsOptions, clean};
use crate::probe::{Failure, Reason};
use crate::settings::{HostPort, HttpUrl};

/// Where a Pod finds its token, the cluster's authority and its namespace.
pub const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// The most that is read of a file.
const LIMIT: usize = 1 << 20;

/// An API server, and who we are there.
pub struct Access {
    server: Server,
    ca: Option<Pem>,
    client: Option<(Pem, Pem)>,
    server_name: Option<String>,
    insecure: bool,
    login: Login,
    namespace: Namespace,
}

/// Where it is.
enum Server {
    At(HttpUrl),
    /// What the cluster tells every Pod.
    OfPod,
}

/// A text in PEM.
enum Pem {
    Text(Zeroizing<Vec<u8>>),
    File(PathBuf),
}

/// Who we are, beside the client's certificate.
enum Login {
    Nobody,
    Token(Zeroizing<String>),
    TokenFile(PathBuf),
    Password(Zeroizing<String>),
}

enum Namespace {
    Named(String),
    File(PathBuf),
}

/// What one request needs.
pub struct Ready {
    /// The server.
    pub url: HttpUrl,
    /// Its TLS; `None` is none.
    pub tls: Option<Tls>,
    /// The header that logs in.
    pub authorization: Option<HeaderValue>,
}

impl Access {
    /// As a Pod of the cluster; `folder` is where it finds its service account.
    pub fn of_pod(folder: &Path) -> Self {
        Self {
            server: Server::OfPod,
            ca: Some(Pem::File(folder.join("ca.crt"))),
            client: None,
            server_name: None,
            insecure: false,
            login: Login::TokenFile(folder.join("token")),
            namespace: Namespace::File(folder.join("namespace")),
        }
    }

    /// As a kubeconfig says; `folder` is where the files are that it names. No I/O.
    ///
    /// # Errors
    /// What is wrong with it, in words that quote nothing of it but names.
    pub fn of_kubeconfig(text: &[u8], folder: &Path, context: Option<&str>) -> Result<Self, String> {
        let text = std::str::from_utf8(text).map_err(|_| "it is not UTF-8")?;
        // The parser's own words are not shown: they could quote a token.
        let file = Kubeconfig::from_yaml(text).map_err(|_| "it is no kubeconfig")?;
        let name = context.or(file.current_context.as_deref()).filter(|name| !name.is_empty());
        let name = name.ok_or("it has no current context: name one with `context`")?;
        let context = file.contexts.iter().find(|context| context.name == name);
        let context = context.and_then(|context| context.context.as_ref());
        let context = context.ok_or_else(|| format!("it has no context `{}`", clean(name)))?;
        let cluster = file.clusters.iter().find(|cluster| cluster.name == context.cluster);
        let cluster = cluster.and_then(|cluster| cluster.cluster.as_ref());
        let cluster = cluster.ok_or_else(|| format!("it has no cluster `{}`", clean(&context.cluster)))?;
        let user = file.auth_infos.into_iter().find(|user| Some(&user.name) == context.user.as_ref());
        let user = user.and_then(|user| user.auth_info).unwrap_or_default();
        let namespace = context.namespace.clone().unwrap_or_else(|| "default".to_owned());
        Self::of_parts(cluster, &user, folder, namespace)
    }

    fn of_parts(cluster: &Cluster, user: &AuthInfo, folder: &Path, namespace: String) -> Result<Self, String> {
        refuse(cluster, user)?;
        let server = cluster.server.as_deref().and_then(HttpUrl::parse);
        let server = server.ok_or("the cluster's `server` is no URL of a server")?;
        let pem = |data: Option<&str>, file: Option<&String>, what: &str| match (data, file) {
            (Some(data), _) => match BASE64.decode(data.trim()) {
                Ok(pem) => Ok(Some(Pem::Text(Zeroizing::new(pem)))),
                Err(_) => Err(format!("its `{what}` is not base64")),
            },
            (None, Some(file)) => Ok(Some(Pem::File(folder.join(file)))),
            (None, None) => Ok(None),
        };
        let ca = cluster.certificate_authority_data.as_deref();
        let ca = pem(ca, cluster.certificate_authority.as_ref(), "certificate-authority-data")?;
        let chain = user.client_certificate_data.as_deref();
        let chain = pem(chain, user.client_certificate.as_ref(), "client-certificate-data")?;
        let key = user.client_key_data.as_ref().map(ExposeSecret::expose_secret);
        let key = pem(key, user.client_key.as_ref(), "client-key-data")?;
        if chain.is_some() != key.is_some() {
            return Err("a client certificate needs its key, and a key its certificate".to_owned());
        }
        Ok(Self {
            server: Server::At(server),
            ca,
            client: chain.zip(key),
            server_name: cluster.tls_server_name.clone(),
            insecure: cluster.insecure_skip_tls_verify.unwrap_or(false),
            login: Login::of(user, folder),
            namespace: Namespace::Named(namespace),
        })
    }

    /// The namespace, unless the configuration names one. Reads a file.
    ///
    /// # Errors
    /// `local` if a Pod's cannot be read.
    pub fn namespace(&self) -> Result<String, Failure> {
        match &self.namespace {
            Namespace::Named(name) => Ok(name.clone()),
            Namespace::File(path) => Ok(text(path)?.trim().to_owned()),
        }
    }

    /// What a request needs as it is now. Reads files.
    ///
    /// # Errors
    /// `local` if one cannot be read, or this is no Pod.
    pub fn ready(&self, net: &Net) -> Result<Ready, Failure> {
        let url = self.url()?;
        let tls = if url.is_https { Some(self.tls(net)?) } else { None };
        Ok(Ready { url, tls, authorization: self.login.header()? })
    }

    /// What will not work here, as far as that is known without looking into any file.
    pub fn concern(&self) -> Option<String> {
        self.url().err().map(|failure| failure.detail.into_owned())
    }

    fn url(&self) -> Result<HttpUrl, Failure> {
        match &self.server {
            Server::At(url) => Ok(url.clone()),
            Server::OfPod => server_of_pod(|name| std::env::var(name).ok()),
        }
    }

    fn tls(&self, net: &Net) -> Result<Tls, Failure> {
        let ca = self.ca.as_ref().map(Pem::read).transpose()?;
        let client = self.client.as_ref().map(|(chain, key)| Ok((chain.read()?, key.read()?))).transpose()?;
        let options = TlsOptions {
            ca: ca.as_ref().map(|pem| pem.as_slice()),
            client: client.as_ref().map(|(chain, key)| ClientCertificate { chain, key }),
            server_name: self.server_name.as_deref(),
            insecure: self.insecure,
            only: None,
        };
        Tls::new(&options, net).map_err(|words| Failure::new(Reason::Local, words))
    }
}

/// Refuses what a kubeconfig can ask for and would not be done.
fn refuse(cluster: &Cluster, user: &AuthInfo) -> Result<(), String> {
    let is_other = user.impersonate.is_some() || user.impersonate_uid.is_some() || user.impersonate_groups.is_some();
    let refused = [
        (user.exec.is_some(), "`exec`: midwatch starts no programs to log in; use a token of a service account"),
        (
            user.auth_provider.is_some(),
            "`auth-provider`: there is no such login here; use a token of a service account",
        ),
        (is_other, "`as`: midwatch acts as nobody else"),
        (cluster.proxy_url.is_some(), "`proxy-url`: midwatch asks without a proxy"),
    ];
    refused.into_iter().find(|(has, _)| *has).map_or(Ok(()), |(_, words)| Err(words.to_owned()))
}

/// Where the API server is that the cluster tells its Pods of.
fn server_of_pod(variable: impl Fn(&str) -> Option<String>) -> Result<HttpUrl, Failure> {
    let host = variable("KUBERNETES_SERVICE_HOST");
    let port = variable("KUBERNETES_SERVICE_PORT").and_then(|port| port.parse::<u16>().ok());
    let (Some(host), Some(port)) = (host, port) else {
        let words = "this is no Pod of a cluster (KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set): name a `kubeconfig`";
        return Err(Failure::new(Reason::Local, words));
    };
    Ok(HttpUrl { address: HostPort { host, port }, path: "/".to_owned(), is_https: true })
}

impl Login {
    /// The first of what a user has, in the order of the other clients.
    fn of(user: &AuthInfo, folder: &Path) -> Self {
        if let (Some(name), Some(password)) = (&user.username, &user.password) {
            return Self::Password(Zeroizing::new(format!("{name}:{}", password.expose_secret())));
        }
        match (&user.token, &user.token_file) {
            (Some(token), _) => Self::Token(Zeroizing::new(token.expose_secret().to_owned())),
            (None, Some(file)) => Self::TokenFile(folder.join(file)),
            (None, None) => Self::Nobody,
        }
    }

    fn header(&self) -> Result<Option<HeaderValue>, Failure> {
        let text = match self {
            Self::Nobody => return Ok(None),
            Self::Token(token) => Zeroizing::new(format!("Bearer {}", token.trim())),
            Self::TokenFile(path) => Zeroizing::new(format!("Bearer {}", text(path)?.trim())),
            Self::Password(pair) => Zeroizing::new(format!("Basic {}", BASE64.encode(pair.as_bytes()))),
        };
        let header = HeaderValue::from_str(&text);
        let mut header =
            header.map_err(|_| Failure::new(Reason::Local, "the token has characters that none can have"))?;
        header.set_sensitive(true);
        Ok(Some(header))
    }
}

impl Pem {
    fn read(&self) -> Result<Zeroizing<Vec<u8>>, Failure> {
        match self {
            Self::Text(pem) => Ok(pem.clone()),
            Self::File(path) => read(path),
        }
    }
}

fn text(path: &Path) -> Result<Zeroizing<String>, Failure> {
    let bytes = read(path)?;
    let text = std::str::from_utf8(&bytes).map_err(|_| local(path, "it is not UTF-8"))?;
    Ok(Zeroizing::new(text.to_owned()))
}

fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, Failure> {
    file::read(path, LIMIT).map(Zeroizing::new).map_err(|error| local(path, error))
}

fn local(path: &Path, why: impl std::fmt::Display) -> Failure {
    Failure::new(Reason::Local, clean(&format!("cannot read {}: {why}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "canary-4711";

    fn kubeconfig(cluster: &str, user: &str) -> String {
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: here\ncontexts:\n- name: here\n  context: {{cluster: c, user: u, namespace: db}}\n\
             - name: lost\n  context: {{cluster: gone, user: u}}\n\
             clusters:\n- name: c\n  cluster: {{{cluster}}}\nusers:\n- name: u\n  user: {{{user}}}\n"
        )
    }

    fn access(text: &str, context: Option<&str>) -> Result<Access, String> {
        Access::of_kubeconfig(text.as_bytes(), Path::new("/etc/kube"), context)
    }

    #[test]
    fn a_kubeconfig_says_where_and_who() {
        let text = kubeconfig("server: 'http://127.0.0.1:6443/k8s/c1'", &format!("token: {TOKEN}"));
        let access = access(&text, None).unwrap();
        assert_eq!(access.namespace().unwrap(), "db");
        let ready = access.ready(&Net::default()).unwrap();
        assert_eq!((ready.url.address.to_string(), ready.url.path.as_str()), ("127.0.0.1:6443".into(), "/k8s/c1"));
        assert!(ready.tls.is_none());
        let header = ready.authorization.unwrap();
        assert!(header.is_sensitive());
        assert_eq!(header.to_str().unwrap(), format!("Bearer {TOKEN}"));
    }

    #[test]
    fn what_would_not_be_done_is_refused_without_quoting_a_secret() {
        let server = "server: 'https://k:6443'";
        let token = format!("token: {TOKEN}");
        let cases = [
            (kubeconfig(server, "exec: {apiVersion: v1, command: aws}"), None, "starts no programs"),
            (kubeconfig(server, "auth-provider: {name: gcp}"), None, "no such login"),
            (kubeconfig(server, &format!("{token}, as: root")), None, "nobody else"),
            (kubeconfig(&format!("{server}, proxy-url: 'http://p:1'"), &token), None, "without a proxy"),
            (kubeconfig("server: 'https://u:p@k'", &token), None, "no URL"),
            (kubeconfig("server: 'unix:/k'", &token), None, "no URL"),
            (kubeconfig(server, "client-certificate: a.pem"), None, "needs its key"),
            (kubeconfig(&format!("{server}, certificate-authority-data: '%'"), &token), None, "not base64"),
            (kubeconfig(server, &token), Some("there"), "no context `there`"),
            (kubeconfig(server, &token), Some("lost"), "no cluster `gone`"),
            (format!("users: [ {TOKEN}"), None, "no kubeconfig"),
            (format!("users: {TOKEN}"), None, "no kubeconfig"),
            (String::new(), None, "no current context"),
        ];
        for (text, context, expected) in cases {
            let words = access(&text, context).err().unwrap_or_else(|| panic!("taken: {text}"));
            assert!(words.contains(expected), "{words}\n{text}");
            assert!(!words.contains(TOKEN), "{words}");
        }
    }

    #[test]
    fn a_pod_finds_its_account_in_files_that_are_read_each_time() {
        let folder = tempfile::tempdir().unwrap();
        let access = Access::of_pod(folder.path());
        let missing = access.namespace().unwrap_err();
        assert_eq!(missing.reason, Reason::Local, "{missing}");
        std::fs::write(folder.path().join("namespace"), "backups\n").unwrap();
        assert_eq!(access.namespace().unwrap(), "backups");
        for token in ["first", "second"] {
            std::fs::write(folder.path().join("token"), format!("{token}\n")).unwrap();
            let header = access.login.header().unwrap().unwrap();
            assert_eq!(header.to_str().unwrap(), format!("Bearer {token}"));
        }
        let url = server_of_pod(|name| Some(if name.ends_with("HOST") { "10.0.0.1" } else { "443" }.to_owned()));
        assert_eq!(url.unwrap().address.to_string(), "10.0.0.1:443");
        let words = server_of_pod(|_| None).unwrap_err();
        assert!(words.detail.contains("kubeconfig"), "{words}");
        // Nobody writes to a pipe, and nobody waits for that.
        std::fs::remove_file(folder.path().join("token")).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(folder.path().join("token")).status().unwrap().success());
        let words = access.login.header().unwrap_err();
        assert!(words.detail.contains("not a regular file"), "{words}");
    }
}
