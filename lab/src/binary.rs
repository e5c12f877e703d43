//! Where a server's program comes from: the environment, then PATH, then the folder that `make setup` fills.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// A program that the lab can start.
#[derive(Debug, Clone, Copy)]
pub struct Program {
    name: &'static str,
    variable: &'static str,
}

/// A library, one file or one folder, for a program that the machine has anyway.
#[derive(Debug, Clone, Copy)]
pub struct Library {
    file: &'static str,
    variable: &'static str,
}

/// A library for the dynamic linker, from the system's packages.
#[derive(Debug, Clone, Copy)]
pub struct Installed {
    library: &'static str,
    paths: [&'static str; 3],
    variable: &'static str,
}

/// MongoDB's server.
pub const MONGOD: Program = Program { name: "mongod", variable: "MIDWATCH_MONGOD" };
/// The Java virtual machine.
pub const JAVA: Program = Program { name: "java", variable: "MIDWATCH_JAVA" };
/// Kafka: a folder with its jars in `libs`. `scripts/setup.sh` names the same versions.
pub const KAFKA: Library = Library { file: "kafka-4.3.1", variable: "MIDWATCH_KAFKA_HOME" };
/// Kafka 3.9, in the same form.
pub const KAFKA_3_9: Library = Library { file: "kafka-3.9.2", variable: "MIDWATCH_KAFKA_3_9_HOME" };
/// What steps a program's clock.
pub const FAKETIME: Installed = Installed {
    library: "libfaketime",
    paths: [
        "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1",
        "/usr/lib/aarch64-linux-gnu/faketime/libfaketime.so.1",
        "/usr/lib64/faketime/libfaketime.so.1",
    ],
    variable: "MIDWATCH_FAKETIME",
};
/// A name server.
pub const DNSMASQ: Program = Program { name: "dnsmasq", variable: "MIDWATCH_DNSMASQ" };
/// Prometheus' server.
pub const PROMETHEUS: Program = Program { name: "prometheus", variable: "MIDWATCH_PROMETHEUS" };
/// Alertmanager, under the name that Debian gives it.
pub const ALERTMANAGER: Program = Program { name: "prometheus-alertmanager", variable: "MIDWATCH_ALERTMANAGER" };
/// Prometheus' client for Python, as a wheel: Python reads it as it is.
pub const PROMETHEUS_CLIENT: Library =
    Library { file: "prometheus_client-0.26.0-py3-none-any.whl", variable: "MIDWATCH_PROMETHEUS_CLIENT" };

/// An S3 server over a folder. `scripts/setup.sh` says which version.
pub const VERSITYGW: Program = Program { name: "versitygw", variable: "MIDWATCH_VERSITYGW" };
/// restic.
pub const RESTIC: Program = Program { name: "restic", variable: "MIDWATCH_RESTIC" };
/// Borg.
pub const BORG: Program = Program { name: "borg", variable: "MIDWATCH_BORG" };
/// pgBackRest.
pub const PGBACKREST: Program = Program { name: "pgbackrest", variable: "MIDWATCH_PGBACKREST" };

/// OpenVPN.
pub const OPENVPN: Program = Program { name: "openvpn", variable: "MIDWATCH_OPENVPN" };
/// The implementation of WireGuard by its authors, in Go.
pub const WIREGUARD_GO: Program = Program { name: "wireguard-go", variable: "MIDWATCH_WIREGUARD_GO" };
/// Cloudflare's, in Rust.
pub const BORINGTUN: Program = Program { name: "boringtun-cli", variable: "MIDWATCH_BORINGTUN" };
/// What makes WireGuard's keys and tells its implementations what to do.
pub const WG: Program = Program { name: "wg", variable: "MIDWATCH_WG" };
/// strongSwan's daemon. The other one, `charon`, keeps a second one of its kind from starting.
pub const CHARON: Program = Program { name: "charon-systemd", variable: "MIDWATCH_CHARON" };
/// What tells strongSwan's daemon what to do.
pub const SWANCTL: Program = Program { name: "swanctl", variable: "MIDWATCH_SWANCTL" };
/// A server for AnyConnect clients.
pub const OCSERV: Program = Program { name: "ocserv", variable: "MIDWATCH_OCSERV" };
/// What makes network namespaces and interfaces.
pub const IP: Program = Program { name: "ip", variable: "MIDWATCH_IP" };
/// What loses packets.
pub const NFT: Program = Program { name: "nft", variable: "MIDWATCH_NFT" };
/// What takes capabilities away.
pub const SETPRIV: Program = Program { name: "setpriv", variable: "MIDWATCH_SETPRIV" };

impl Program {
    /// Its name.
    pub fn name(self) -> &'static str {
        self.name
    }

    /// Finds it. The error says what to do.
    pub fn find(self) -> Result<PathBuf> {
        self.find_with(|variable| std::env::var_os(variable).filter(|value| !value.is_empty()).map(PathBuf::from))
    }

    fn find_with(self, variable: impl Fn(&str) -> Option<PathBuf>) -> Result<PathBuf> {
        if let Some(path) = variable(self.variable) {
            let wrong = || Error::NotExecutable { variable: self.variable, path: path.display().to_string() };
            return if is_executable(&path) { Ok(path) } else { Err(wrong()) };
        }
        let in_path = variable("PATH").and_then(|folders| {
            // Where distributions install servers, although only root has it in PATH.
            let all = std::env::split_paths(&folders).chain(["/usr/sbin".into(), "/sbin".into()]);
            all.map(|folder| folder.join(self.name)).find(|path| is_executable(path))
        });
        if let Some(path) = in_path {
            return Ok(path);
        }
        let cached = cache_folder(variable).join(self.name);
        if is_executable(&cached) {
            return Ok(cached);
        }
        Err(Error::Missing { program: self.name, variable: self.variable, cached: cached.display().to_string() })
    }
}

impl Library {
    /// Finds it: named by the environment, or in the folder that `make test` fills. The error says what to do.
    pub fn find(self) -> Result<PathBuf> {
        self.find_with(|variable| std::env::var_os(variable).filter(|value| !value.is_empty()).map(PathBuf::from))
    }

    fn find_with(self, variable: impl Fn(&str) -> Option<PathBuf>) -> Result<PathBuf> {
        let path = variable(self.variable).unwrap_or_else(|| cache_folder(variable).join(self.file));
        let missing =
            || Error::MissingLibrary { file: self.file, variable: self.variable, path: path.display().to_string() };
        if path.exists() { Ok(path) } else { Err(missing()) }
    }
}

impl Installed {
    /// Finds it: named by the environment, or where distributions install it. The error says what to do.
    pub fn find(self) -> Result<PathBuf> {
        let named = std::env::var_os(self.variable).filter(|value| !value.is_empty()).map(PathBuf::from);
        let mut all = named.into_iter().chain(self.paths.map(PathBuf::from));
        all.find(|path| path.exists()).ok_or_else(|| Error::MissingLibrary {
            file: self.library,
            variable: self.variable,
            path: self.paths[0].to_owned(),
        })
    }
}

/// The folder that `make setup` fills: `scripts/setup.sh` works it out in the same way.
fn cache_folder(variable: impl Fn(&str) -> Option<PathBuf>) -> PathBuf {
    variable("MIDWATCH_CACHE").unwrap_or_else(|| {
        let cache = variable("XDG_CACHE_HOME").or_else(|| variable("HOME").map(|home| home.join(".cache")));
        cache.unwrap_or_else(|| PathBuf::from(".cache")).join("midwatch")
    })
}

fn is_executable(path: &Path) -> bool {
    path.metadata().is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn executable(folder: &Path) -> PathBuf {
        fs::create_dir_all(folder).unwrap();
        let path = folder.join("mongod");
        fs::write(&path, "").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    #[test]
    fn the_environment_comes_first_then_path_then_the_cache() {
        let folder = tempfile::tempdir().unwrap();
        let [named, in_path, cache] = ["named", "bin", "home/.cache/midwatch"].map(|name| folder.path().join(name));
        let home = folder.path().join("home");
        let find = |variables: &[(&str, &Path)]| {
            let get =
                |wanted: &str| variables.iter().find(|(name, _)| *name == wanted).map(|(_, path)| path.to_path_buf());
            MONGOD.find_with(get)
        };

        let missing = find(&[("HOME", &home)]).unwrap_err().to_string();
        assert!(missing.contains("$MIDWATCH_MONGOD") && missing.contains("make setup"), "{missing}");
        assert!(missing.contains(&cache.join("mongod").display().to_string()), "{missing}");

        let cached = executable(&cache);
        assert_eq!(find(&[("HOME", &home), ("PATH", &in_path)]).unwrap(), cached);
        let installed = executable(&in_path);
        assert_eq!(find(&[("HOME", &home), ("PATH", &in_path)]).unwrap(), installed);
        let chosen = executable(&named);
        assert_eq!(find(&[("HOME", &home), ("PATH", &in_path), ("MIDWATCH_MONGOD", &chosen)]).unwrap(), chosen);

        let missing =
            PROMETHEUS_CLIENT.find_with(|name| (name == "HOME").then(|| home.clone())).unwrap_err().to_string();
        assert!(missing.contains("scripts/setup.sh test") && missing.contains("home/.cache/midwatch/"), "{missing}");
        let wheel = PROMETHEUS_CLIENT.find_with(|_| Some(chosen.clone())).unwrap();
        assert_eq!(wheel, chosen);

        // A wrong path in the environment is a mistake to report, not to work around.
        let wrong = find(&[("PATH", &in_path), ("MIDWATCH_MONGOD", &home)]).unwrap_err().to_string();
        assert!(wrong.contains("not an executable file"), "{wrong}");
    }
}
