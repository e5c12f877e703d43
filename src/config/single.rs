//! One probe of a configuration, for a command that needs no other: whatever is wrong with the rest is not its business.

use std::path::Path;
use std::sync::Arc;

use super::read::{Reader, text};
use super::{Server, web};
use crate::probe::Shared;
use crate::settings::{Files, Rules, Section, Source};

/// What was found.
#[derive(Debug)]
pub struct Single<T> {
    /// `[server]`; `None` if it has problems, or the web configuration file that it names.
    pub server: Option<Server>,
    /// What was read of the probe; `None` if there is no such probe.
    pub probe: Option<T>,
}

/// Reads `[server]`, and `[probe.<kind>.<name>]` with `read`, which gets it even if there are problems. Reads files, so not for an
/// asynchronous thread.
///
/// # Errors
/// The main file cannot be read, or is no TOML.
pub fn single<T>(
    main: &Path,
    (kind, name): (&str, &str),
    read: impl Fn(&mut Section<'_>) -> Option<T>,
) -> Result<Single<T>, String> {
    let files = Files::new(false);
    let main: Arc<Path> = main.into();
    let content = text(&files, &main).map_err(|problem| problem.to_string())?;
    let source = Source::new(&main, &content, Rules::Main, &files);
    let Some(table) = source.parse() else {
        let problems = source.into_problems();
        return Err(problems
            .first()
            .map_or_else(|| "the configuration cannot be read".to_owned(), ToString::to_string));
    };
    let mut root = Section::root(&source, table.get_ref());
    let server = server(&mut root, &files);
    let mut probe = of(&mut root, (kind, name), &read);
    if probe.is_none() {
        let shared = Shared::default();
        let reader = Reader { kinds: &[], shared: &shared, files: &files, running: &() };
        let includes = root.sections("include", |section| reader.include(&main, section)).unwrap_or_default();
        let found = includes.iter().flat_map(|include| include.found.iter().map(move |file| (include, file)));
        probe = found.into_iter().find_map(|(include, file)| {
            let file: Arc<Path> = file.as_path().into();
            let content = text(&files, &file).ok()?;
            let source = Source::new(&file, &content, include.rules(), &files);
            of(&mut Section::root(&source, source.parse()?.get_ref()), (kind, name), &read)
        });
    }
    Ok(Single { server, probe })
}

fn server(root: &mut Section<'_>, files: &Files) -> Option<Server> {
    let before = root.problems();
    let server = root.section("server", |section| Some(Server::read(section)));
    let mut server = if root.has("server") { server? } else { Server::default() };
    if root.problems() > before {
        return None;
    }
    if let Some(file) = &server.web_config_file {
        server.web = web::read(file, files).ok()?.map(Arc::new);
    }
    Some(server)
}

fn of<T>(
    root: &mut Section<'_>,
    (kind, name): (&str, &str),
    read: impl Fn(&mut Section<'_>) -> Option<T>,
) -> Option<T> {
    let mut found = None;
    root.tables("probe", |table, section| {
        if table == kind {
            section.each(|table, section| {
                if table == name {
                    found = read(section);
                    section.ignore_rest();
                }
            });
        }
        section.ignore_rest();
    });
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is found of `[probe.backup.nightly]`: its key `node`; and whether `[server]` can be used.
    fn find(main: &str, included: &str) -> Result<(bool, Option<String>), String> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("midwatch.toml");
        std::fs::write(&file, main).unwrap();
        std::fs::write(folder.path().join("team.toml"), included).unwrap();
        let found = single(&file, ("backup", "nightly"), |section| section.optional::<String>("node"))?;
        Ok((found.server.is_some(), found.probe))
    }

    #[test]
    fn one_probe_is_found_whatever_is_wrong_with_others() {
        const JOB: &str = "[probe.backup.nightly]\nnode = \"a\"\nunknown = 1\n";
        const OTHER: &str = "[probe.backup.weekly]\nnode = 1\n[probe.nonsense.x]\n";
        let node = Some("a".to_owned());
        assert_eq!(find(&format!("{OTHER}{JOB}"), ""), Ok((true, node.clone())));
        let include = "[[include]]\nfiles = \"t*.toml\"\n";
        assert_eq!(find(&format!("{include}{OTHER}"), JOB), Ok((true, node.clone())));
        assert_eq!(find(include, OTHER), Ok((true, None)));
        assert_eq!(find(include, "[probe"), Ok((true, None)));
        assert_eq!(find(&format!("[server]\nlisten = 1\n{JOB}"), ""), Ok((false, node.clone())));
        // How the endpoint is protected is not known: so it is not taken for one that is not.
        assert_eq!(find(&format!("[server]\nweb_config_file = \"none.yml\"\n{JOB}"), ""), Ok((false, node)));
        assert!(find("[probe", "").unwrap_err().contains("not TOML"));
    }
}
