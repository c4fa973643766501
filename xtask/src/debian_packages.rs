//! Packages of Debian that are unpacked into a private folder, which takes no root and changes nothing on the machine.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::process;

/// The first dependency of `package` whose name is `start` and a version.
pub(crate) fn dependency(package: &str, start: &str) -> Result<String> {
    let facts = process::output(
        &format!("look {package} up"),
        Command::new("apt-cache").args(["show", "--no-all-versions", package]),
    )?;
    match first_dependency(&facts, start) {
        Some(name) => Ok(name),
        None => bail!("Debian's {package} depends on no {start}*"),
    }
}

fn first_dependency(facts: &str, start: &str) -> Option<String> {
    let depends = facts.lines().find_map(|line| line.strip_prefix("Depends: "))?;
    depends
        .split([',', '|'])
        .filter_map(|entry| entry.split_whitespace().next())
        .find(|name| {
            name.strip_prefix(start)
                .is_some_and(|rest| !rest.is_empty() && rest.chars().all(|c| c.is_ascii_digit() || c == '.'))
        })
        .map(str::to_owned)
}

/// Downloads packages into a folder, without installing them.
pub(crate) fn fetch(packages: &[String], debs: &Path) -> Result<()> {
    let mut apt = Command::new("apt-get");
    apt.args(["download", "-qq"]).args(packages).current_dir(debs);
    process::output("fetch Debian's packages", &mut apt).map(drop)
}

/// The packages in a folder.
pub(crate) fn archives(debs: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in debs.read_dir().with_context(|| format!("can't list {}", debs.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            found.push(path);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versioned_package_names_are_found_in_dependencies() {
        let facts =
            "Package: libstd-rust-web-dev\nDepends: libstd-rust-web-1.96 (= 1.96.0), libc6 | libllvm-x\n";
        assert_eq!(first_dependency(facts, "libstd-rust-web-").as_deref(), Some("libstd-rust-web-1.96"));
        assert_eq!(first_dependency(facts, "libllvm"), None);
    }
}
