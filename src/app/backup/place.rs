//! Where a run is told: over HTTP, and by a record in the spool.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{AUTHORIZATION, HOST, HeaderValue};
use hyper::{Request, StatusCode};
use zeroize::Zeroizing;

use crate::config::{Server, single};
use crate::probe::backup::spool;
use crate::probe::backup::told::Told;
use crate::probe::backup::{Sender, sender};
use crate::probe::net::http::ask;
use crate::probe::net::{Net, Tls, TlsOptions, clean};
use crate::settings::{HostPort, HttpUrl};

/// The variable that holds the token if no file does.
const TOKEN: &str = "MIDWATCH_TOKEN";
/// The largest file that a token is read from, in bytes.
const LARGEST: u64 = 4096;
/// So much of an answer is read, in bytes.
const ANSWER: usize = 64 << 10;

/// What the command line says of it.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    /// The job's name.
    pub(super) job: String,
    /// The configuration.
    pub(super) config: Option<PathBuf>,
    /// A job's address, instead of what the configuration says.
    pub(super) url: Option<HttpUrl>,
    /// What holds the token for it.
    pub(super) token_file: Option<PathBuf>,
    /// The spool, instead of what the configuration says.
    pub(super) spool: Option<PathBuf>,
    /// Where the command runs, instead of what the configuration says.
    pub(super) node: Option<String>,
}

/// Where a run is told.
#[derive(Default)]
pub(super) struct Place {
    /// The directory for records.
    pub(super) spool: Option<PathBuf>,
    /// Whether a daemon takes records from there by itself.
    pub(super) is_taken: bool,
    /// Who is asked over HTTP.
    pub(super) door: Option<Door>,
    /// Where the command runs.
    pub(super) node: Option<String>,
    /// What a person should know.
    pub(super) doubts: Vec<String>,
}

/// A server that takes messages.
pub(super) struct Door {
    net: Net,
    address: HostPort,
    tls: Option<Tls>,
    /// All but the action. It may hold the token.
    path: Zeroizing<String>,
    token: Option<Zeroizing<String>>,
}

/// Why a message was not taken.
pub(super) struct NotTaken {
    /// In words, without the token.
    pub(super) why: String,
    /// Whether it may be taken if it is told again.
    pub(super) is_passing: bool,
}

impl Place {
    /// Reads the configuration, as far as it concerns the job. Nothing of it is an error: a backup is not kept from running because
    /// nobody can be told of it. Blocks.
    pub(super) fn find(wanted: &Wanted) -> Self {
        let mut place = Self { node: wanted.node.clone(), ..Self::default() };
        if let Some(file) = &wanted.config {
            place.read(file, wanted);
        }
        if let Some(url) = &wanted.url {
            let path = url.path.trim_end_matches('/').to_owned().into();
            let found = token(wanted)
                .and_then(|token| Door::new(url.address.clone(), url.is_https.then(TlsOptions::default), path, token));
            place.open(found);
        }
        if wanted.config.is_none() {
            place.spool = Server::default().state_dir.map(|dir| dir.join(spool::NAME));
        }
        if let Some(spool) = &wanted.spool {
            place.spool = Some(spool.clone());
            place.is_taken = false;
        }
        place
    }

    fn read(&mut self, file: &Path, wanted: &Wanted) {
        let job = &wanted.job;
        let found = match single(file, ("backup", job), sender) {
            Ok(found) => found,
            Err(problem) => return self.doubts.push(problem),
        };
        let Some(server) = found.server else {
            return self
                .doubts
                .push(format!("{}: [server] has problems, so nobody can be told; see midwatch check", file.display()));
        };
        self.spool = server.state_dir.as_ref().map(|dir| dir.join(spool::NAME));
        let Some(Sender { node, token, takes_messages }) = found.probe else {
            let words =
                format!("{}: there is no usable [probe.backup.{job}], so the run will not be counted", file.display());
            return self.doubts.push(words);
        };
        if !takes_messages {
            let words = format!(
                "{}: probe.backup.{job}: its `source` is neither \"exec\" nor \"push\", so the run will not be counted",
                file.display()
            );
            return self.doubts.push(words);
        }
        self.is_taken = true;
        self.node = self.node.take().or(node);
        if let (Some(token), None) = (token, &wanted.url) {
            let path = format!("/ping/{job}").into();
            let found = here(server.admin_listen.unwrap_or(server.listen)).and_then(|address| {
                let only = server.web.as_ref().and_then(|web| web.certificate.as_ref());
                let tls = only.map(|only| TlsOptions { only: Some(only), ..TlsOptions::default() });
                Door::new(address, tls, path, Some(token.expose().to_owned().into()))
            });
            self.open(found);
        }
    }

    fn open(&mut self, found: Result<Door, String>) {
        match found {
            Ok(door) => self.door = Some(door),
            Err(why) => self.doubts.push(why),
        }
    }
}

/// Where the daemon listens, as seen from this machine.
fn here(address: SocketAddr) -> Result<HostPort, String> {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    if address.port() == 0 {
        return Err("the daemon picks its port itself, so it cannot be told over HTTP".to_owned());
    }
    Ok(HostPort { host: ip.to_string(), port: address.port() })
}

/// The token for an address; `None` if it is part of it.
fn token(wanted: &Wanted) -> Result<Option<Zeroizing<String>>, String> {
    let Some(file) = &wanted.token_file else {
        return Ok(std::env::var(TOKEN).ok().filter(|token| !token.is_empty()).map(Zeroizing::new));
    };
    let read = std::fs::File::open(file).and_then(|file| {
        let mut text = Zeroizing::new(String::new());
        std::io::Read::read_to_string(&mut std::io::Read::take(file, LARGEST), &mut text)?;
        Ok(text)
    });
    let text = read.map_err(|error| format!("cannot read the token file {}: {error}", file.display()))?;
    Ok(Some(text.trim_end_matches(['\r', '\n']).to_owned().into()))
}

impl Door {
    fn new(
        address: HostPort,
        tls: Option<TlsOptions<'_>>,
        path: Zeroizing<String>,
        token: Option<Zeroizing<String>>,
    ) -> Result<Self, String> {
        let net = Net::default();
        let tls = tls.map(|options| Tls::new(&options, &net)).transpose()?;
        Ok(Self { net, address, tls, path, token })
    }

    /// Tells it. `Ok` is that it is on disk.
    pub(super) async fn tell(&self, told: &Told) -> Result<(), NotTaken> {
        let malformed = |_| NotTaken { why: "the address or the token cannot be sent".to_owned(), is_passing: false };
        let request = self.request(told).map_err(malformed)?;
        let answer = ask(&self.net, (&self.address, self.tls.as_ref()), request, ANSWER).await;
        let answer = answer.map_err(|failure| NotTaken { why: failure.to_string(), is_passing: true })?;
        let status = answer.status();
        if status.is_success() {
            return Ok(());
        }
        let is_passing =
            status.is_server_error() || [StatusCode::TOO_MANY_REQUESTS, StatusCode::REQUEST_TIMEOUT].contains(&status);
        let words = clean(String::from_utf8_lossy(answer.body()).trim());
        let words = if words.is_empty() { String::new() } else { format!(": {words}") };
        Err(NotTaken { why: format!("it was answered {}{words}", status.as_u16()), is_passing })
    }

    fn request(&self, told: &Told) -> Result<Request<Full<Bytes>>, hyper::http::Error> {
        let path = format!("{}{}?{}", *self.path, told.action(), told.query());
        let mut request = Request::post(path).header(HOST, self.address.to_string());
        if let Some(token) = &self.token {
            let mut value = HeaderValue::from_str(&Zeroizing::new(format!("Bearer {}", **token)))?;
            value.set_sensitive(true);
            request = request.header(AUTHORIZATION, value);
        }
        request.body(Full::new(told.note.clone().into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::backup::told::What;

    #[test]
    fn the_daemon_is_asked_where_it_listens_on_this_machine() {
        let host = |text: &str| here(text.parse().unwrap()).map(|address| (address.host, address.port));
        assert_eq!(host("0.0.0.0:9817"), Ok(("127.0.0.1".to_owned(), 9817)));
        assert_eq!(host("[::]:9817"), Ok(("::1".to_owned(), 9817)));
        assert_eq!(host("10.0.0.5:80"), Ok(("10.0.0.5".to_owned(), 80)));
        assert!(host("0.0.0.0:0").is_err());
    }

    #[test]
    fn a_message_is_a_request() {
        let address = HostPort { host: "::1".to_owned(), port: 1 };
        let door =
            Door::new(address, None, "/ping/nightly".to_owned().into(), Some("secret".to_owned().into())).unwrap();
        let told = Told {
            rid: "r".to_owned(),
            what: What::Failure,
            node: Some("mongo-2:27017 a&b".to_owned()),
            started: Some(1_700_000_000.25),
            cpu_seconds: Some(1e-9),
            size: Some(u64::MAX),
            note: "exit status 1".to_owned(),
            ..Told::default()
        };
        let request = door.request(&told).unwrap();
        let expected = "/ping/nightly/fail?rid=r&node=mongo-2%3A27017%20a%26b&started=1700000000.250000\
             &cpu_seconds=0.000000&size=18446744073709551615";
        assert_eq!(request.uri().to_string(), expected);
        assert_eq!(
            (&request.headers()[HOST], &request.headers()[AUTHORIZATION]),
            (&HeaderValue::from_static("[::1]:1"), &HeaderValue::from_static("Bearer secret"))
        );
    }
}
