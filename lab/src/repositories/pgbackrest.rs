use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{bare, run};
use crate::binary::{PGBACKREST, SETPRIV};
use crate::process::{Launch, Scratch, Server};
use crate::{Error, Result, until};

/// The user that Debian's package of PostgreSQL makes. PostgreSQL refuses to run as root.
const USER: &str = "postgres";
/// The name of the stanza.
const STANZA: &str = "main";

/// A PostgreSQL server that archives its write-ahead log into a pgBackRest repository.
#[derive(Debug)]
pub struct PgBackRest {
    // Dropped first: the server writes to the folder.
    _server: Server,
    folder: Scratch,
}

impl PgBackRest {
    /// Starts a server and makes the stanza, in a repository that is encrypted with that passphrase.
    pub async fn start(passphrase: &str) -> Result<PgBackRest> {
        // PostgreSQL's own user has to get there.
        let folder = Scratch::for_all()?;
        let path = folder.path().to_owned();
        let home = path.join("home");
        std::fs::create_dir(&home).map_err(Error::io("making a folder"))?;
        if is_root() {
            run(Command::new("chown").arg(USER).arg(&home))?;
        }
        let data = home.join("data");
        let initdb = run(as_user(&home, &program("initdb")?)?
            .arg("-D")
            .arg(&data)
            .args(["-U", "postgres", "-A", "trust", "-N"]));
        initdb?;
        let conf = home.join("pgbackrest.conf");
        write(&conf, &configuration(&home, passphrase))?;
        let settings = format!(
            "listen_addresses = ''\nunix_socket_directories = '{home}'\nfsync = off\narchive_mode = on\n\
             archive_command = '{tool} --config={conf} --stanza={STANZA} archive-push %p'\n",
            home = home.display(),
            tool = PGBACKREST.find()?.display(),
            conf = conf.display(),
        );
        let file = data.join("postgresql.conf");
        let before = std::fs::read_to_string(&file).map_err(Error::io("reading PostgreSQL's settings"))?;
        write(&file, &(before + &settings))?;
        let command = as_user(&home, &program("postgres")?)?;
        let launch = Launch::new("postgres", command.get_program()).args(command.get_args().map(OsString::from));
        let server = launch.arg("-D").arg(&data).env("HOME", &home).log(home.join("postgres.log")).start()?;
        let lab = PgBackRest { _server: server, folder };
        until("PostgreSQL to answer", std::time::Duration::from_secs(60), async || {
            let ask = || run(as_user(&home, &program("pg_isready")?)?.arg("-h").arg(&home));
            let asked = ask();
            asked.map(|_| ()).map_err(|error| error.to_string())
        })
        .await?;
        lab.run(&["stanza-create"])?;
        Ok(lab)
    }

    /// Makes a backup of that type: `full`, `diff` or `incr`.
    pub fn backup(&self, kind: &str) -> Result<()> {
        self.run(&[&format!("--type={kind}"), "backup"]).map(drop)
    }

    /// What `pgbackrest info` says, for people.
    pub fn info(&self) -> Result<String> {
        self.run(&["info"])
    }

    /// The stanza's name.
    pub fn stanza(&self) -> &'static str {
        STANZA
    }

    /// A configuration file for `info`, without the passphrase.
    pub fn configuration(&self) -> Result<PathBuf> {
        let path = self.folder.path().join("public.conf");
        let text: String = configuration(&self.home(), "")
            .lines()
            .filter(|line| !line.contains("cipher-pass"))
            .map(|line| format!("{line}\n"))
            .collect();
        write(&path, &text)?;
        Ok(path)
    }

    /// Where the repository is.
    pub fn path(&self) -> PathBuf {
        self.home().join("repository")
    }

    fn home(&self) -> PathBuf {
        self.folder.path().join("home")
    }

    fn run(&self, arguments: &[&str]) -> Result<String> {
        let home = self.home();
        let config = format!("--config={}", home.join("pgbackrest.conf").display());
        run(as_user(&home, &PGBACKREST.find()?)?.arg(config).arg(format!("--stanza={STANZA}")).args(arguments))
    }
}

impl Drop for PgBackRest {
    fn drop(&mut self) {
        // Killed, it would leave a segment of shared memory behind.
        let stop = || -> Result<String> {
            let home = self.home();
            run(as_user(&home, &program("pg_ctl")?)?.arg("-D").arg(home.join("data")).args([
                "-m",
                "immediate",
                "-w",
                "stop",
            ]))
        };
        let _ = stop();
    }
}

fn configuration(home: &Path, passphrase: &str) -> String {
    let home = home.display();
    format!(
        "[global]\nrepo1-path={home}/repository\nrepo1-retention-full=9\nrepo1-cipher-type=aes-256-cbc\nrepo1-cipher-pass={passphrase}\n\
         log-path={home}\nlock-path={home}/lock\nspool-path={home}/spool\nstart-fast=y\n\
         [{STANZA}]\npg1-path={home}/data\npg1-socket-path={home}\npg1-user=postgres\n"
    )
}

fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).map_err(Error::io(path.display().to_string()))
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// The program as a user that PostgreSQL takes.
fn as_user(home: &Path, program: &Path) -> Result<Command> {
    if !is_root() {
        return Ok(bare(program.as_os_str(), home));
    }
    let mut command = bare(SETPRIV.find()?.as_os_str(), home);
    command.args([&format!("--reuid={USER}"), &format!("--regid={USER}"), "--clear-groups"]).arg(program);
    Ok(command)
}

/// One of PostgreSQL's programs, the newest there is: Debian has a folder for each version.
fn program(name: &str) -> Result<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql")
        .map_err(Error::io("looking for PostgreSQL; `scripts/setup.sh test` installs it"))?;
    let newest = versions
        .filter_map(|entry| Some((entry.as_ref().ok()?.file_name().to_str()?.parse::<u32>().ok()?, entry.ok()?.path())))
        .map(|(version, path)| (version, path.join("bin").join(name)))
        .filter(|(_, path)| path.exists())
        .max();
    newest.map(|(_, path)| path).ok_or_else(|| Error::Unexpected(format!("PostgreSQL has no {name} here")))
}
