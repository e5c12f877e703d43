//! Whether somebody else can get at a key's file.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Component, Path};

/// The bits of a file's mode that concern its group, and everybody else.
const GROUP: u32 = 0o070;
const OTHERS: u32 = 0o007;

/// What is to be said of the permissions of a key's file; `None` if only its owner can use it. Links are followed. Nothing is
/// said of a file that cannot be looked at: whoever reads it says that.
///
/// In a volume of Kubernetes the group is left out, because a process that is not root reads the file as one of its group.
pub(super) fn concern(path: &Path) -> Option<String> {
    let real = fs::canonicalize(path).ok()?;
    let mode = fs::metadata(&real).ok()?.permissions().mode() & 0o7777;
    let is_volume = is_in_volume(&real);
    let whose = match (mode & OTHERS, mode & GROUP) {
        (0, 0) => return None,
        (0, _) if is_volume => return None,
        (0, _) => "its group",
        _ => "everybody on this machine",
    };
    let remedy = if is_volume { "set the volume's `defaultMode` to 0400" } else { "its mode should be 0600" };
    Some(format!("the key file {} is open to {whose} (mode {mode:04o}); {remedy}", path.display()))
}

/// Whether the file is in a volume of Kubernetes, which keeps each version in a folder such as `..2026_01_31_10_00_00.123`
/// (`AtomicWriter` in kubernetes' pkg/volume/util/atomic_writer.go).
fn is_in_volume(real: &Path) -> bool {
    real.components().any(|part| match part {
        Component::Normal(name) => name.as_encoded_bytes().starts_with(b".."),
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn with_mode(dir: &Path, mode: u32) -> PathBuf {
        fs::create_dir_all(dir).unwrap();
        let path = dir.join("key");
        fs::write(&path, "x").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    #[test]
    fn only_the_owner_is_nobody_s_concern() {
        let dir = tempfile::tempdir().unwrap();
        let words = |mode| concern(&with_mode(dir.path(), mode));
        assert_eq!((words(0o600), words(0o400), words(0o700)), (None, None, None));
        assert!(words(0o640).unwrap().contains("is open to its group (mode 0640); its mode should be 0600"));
        assert!(words(0o644).unwrap().contains("everybody"));
        assert!(words(0o602).unwrap().contains("everybody"));
    }

    #[test]
    fn a_link_is_followed_and_a_volume_of_kubernetes_named() {
        let dir = tempfile::tempdir().unwrap();
        let version = dir.path().join("..2026_01_31_10_00_00.123");
        let link = dir.path().join("key");
        let words = |mode| {
            with_mode(&version, mode);
            let _ = fs::remove_file(&link);
            std::os::unix::fs::symlink(version.join("key"), &link).unwrap();
            concern(&link)
        };
        let said = words(0o644).unwrap();
        assert!(said.contains("defaultMode") && said.contains(link.to_str().unwrap()), "{said}");
        assert_eq!((words(0o440), words(0o400)), (None, None));
    }

    #[test]
    fn a_file_that_is_not_there_is_somebody_else_s_to_report() {
        assert_eq!(concern(Path::new("/nowhere/at/all")), None);
    }
}
