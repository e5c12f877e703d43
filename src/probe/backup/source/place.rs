//! Where a repository is, and where its backups come from.

use std::collections::BTreeMap;

use super::child::Call;
use crate::probe::backup::config::is_node;
use crate::probe::backup::runs::Run;
use crate::probe::net::clean;
use crate::settings::{Invalid, Item, Secret, Section, Value};

/// Where a repository is. With a password in its URL it is a secret.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Location {
    Open(String),
    Secret(Secret),
}

impl Value for Location {
    fn read(item: &Item<'_>) -> Result<Self, Invalid> {
        let Some(text) = item.str() else { return Secret::read(item).map(Self::Secret) };
        let user = text.split_once("://").and_then(|(_, rest)| rest.split('/').next()?.rsplit_once('@'));
        if user.is_some_and(|(user, _)| user.contains(':')) {
            return Err(Invalid::new(
                "the URL has a password in it, which makes it a secret; a secret is named by { file = \"…\" } or { env = \"…\" }",
            ));
        }
        item.text("a repository").map(|text| Self::Open(text.to_owned()))
    }
}

impl Location {
    /// Gives it to a tool by a variable of its environment.
    pub(super) fn give<'l>(&'l self, name: &'static str, call: &mut Call<'l>) {
        match self {
            Self::Open(text) => call.variables.push((name, text.clone())),
            Self::Secret(secret) => call.secrets.push((name, secret)),
        }
    }
}

/// Which node a host is that made a backup.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Nodes(BTreeMap<String, String>);

impl Nodes {
    /// Reads `nodes`.
    pub(super) fn read(section: &mut Section<'_>) -> Self {
        let nodes = section
            .checked("nodes", |nodes: &BTreeMap<String, String>| nodes.values().try_for_each(|node| is_node(node)));
        Self(nodes.unwrap_or_default())
    }

    /// Makes a node of the name of a host. One that is not known is left to the job's own.
    pub(super) fn place(&self, run: &mut Run) {
        if let Some(host) = run.node.take() {
            run.node = self.0.get(&host).cloned();
            run.note = format!("of host {}", clean(&host));
        }
    }
}
