//! The probe type that README.md shows: what is shown compiles, and is a probe type.

use std::sync::Arc;

use midwatch::config::Loader;
use midwatch::metrics::{Desc, Histogram, LAN, Recorder};
use midwatch::probe::{Cycle, Failure, Kind, Probe, Reason, Shared};
use midwatch::settings::{HostPort, Section, Settings};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::support::Place;

static LATENCY: Histogram<0> = Histogram::new("midwatch_banner_latency_seconds", "Time to the first byte.", &[], LAN);

pub struct Banner(Arc<Config>);

#[derive(PartialEq)]
pub struct Config {
    target: HostPort,
}

impl Settings for Config {
    fn read(section: &mut Section<'_>) -> Option<Self> {
        Some(Self { target: section.required("target")? })
    }
}

impl Probe for Banner {
    const TYPE: &'static str = "banner";
    const METRICS: &'static [&'static Desc] = &[LATENCY.desc()];
    const REASONS: &'static [Reason] = &[Reason::Refused, Reason::Unreachable, Reason::Closed, Reason::Local];
    type Config = Config;

    fn new(config: &Arc<Config>, _: &Shared, _: Option<&Self>) -> Result<Self, String> {
        Ok(Self(Arc::clone(config)))
    }

    async fn run(&self, _: Cycle, rec: &mut Recorder) -> Result<(), Failure> {
        let started = Instant::now();
        let address = (self.0.target.host.as_str(), self.0.target.port);
        let mut stream = TcpStream::connect(address).await.map_err(|error| Failure::io("connect", &error))?;
        stream.read_u8().await.map_err(|error| Failure::io("read", &error))?;
        rec.observe(&LATENCY, [], started.elapsed().as_secs_f64());
        Ok(())
    }
}

const KINDS: &[Kind] = &[Kind::of::<Banner>()];

#[test]
fn the_readme_shows_a_probe_type_that_works() {
    let readme = include_str!("../../README.md");
    let shown = readme.split("```rust\n").nth(1).and_then(|rest| rest.split("```\n").next()).expect("an example");
    assert!(include_str!("banner.rs").contains(shown), "README.md shows other code than this file:\n{shown}");
    let place = Place::new();
    let file = place.write("banner.toml", "[probe.banner.mail]\ntarget = \"mail:25\"\n");
    let config = Loader::check(&file, KINDS, &Shared::default(), false).expect("no problems");
    assert_eq!(config.probes.len(), 1);
}
