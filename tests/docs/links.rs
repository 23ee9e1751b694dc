//! Links lead somewhere: in the documentation, and from anywhere in the repository to the book and to files.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use regex::Regex;

use super::markdown::{anchors, links};
use super::{all_pages, documents, files, in_repository, text};

/// Where the book is published.
const BOOK: &str = "https://whatsapp-operator.github.io/whatsapp-operator/";

/// Where the repository's files are.
const FILES: &str =
    "https://github.com/whatsapp-operator/whatsapp-operator/(?:blob|tree|edit)/main/";

#[test]
fn links_between_documents_lead_to_files_and_headings() {
    let mut broken = Vec::new();
    for (document, text) in documents() {
        for link in links(&text) {
            let outside = link.contains("://") || link.starts_with("mailto:");
            if !outside && !leads_somewhere(&document, link) {
                broken.push(format!("{document}: {link}"));
            }
        }
    }
    assert!(broken.is_empty(), "these lead nowhere: {broken:#?}");
}

#[test]
fn addresses_of_the_book_and_of_files_lead_to_them() {
    let book = Regex::new(&format!(
        r#"{}([\w/.-]*?)(?:\.html)?(?:#([\w-]+))?(?:[\s"')>\\]|[.,;:][\s"]|$)"#,
        regex::escape(BOOK)
    ));
    let book = book.expect("a pattern");
    let file = Regex::new(&format!(r"{FILES}([\w/.-]*[\w/-])(?:#([\w-]+))?")).expect("a pattern");
    let mut broken = Vec::new();
    let mut found = 0;
    for path in sources() {
        let Ok(text) = std::fs::read_to_string(in_repository(&path)) else {
            continue; // A picture.
        };
        for address in book.captures_iter(&text) {
            found += 1;
            let page = match address[1].trim_end_matches('/') {
                "" | "index" => "README",
                page => page,
            };
            let fragment = address.get(2).map(|fragment| fragment.as_str());
            if !exists(Path::new(&format!("docs/{page}.md")), fragment) {
                broken.push(format!("{}: {}", path.display(), &address[0]));
            }
        }
        for address in file.captures_iter(&text) {
            found += 1;
            let fragment = address.get(2).map(|fragment| fragment.as_str());
            if !exists(Path::new(&address[1]), fragment) {
                broken.push(format!("{}: {}", path.display(), &address[0]));
            }
        }
    }
    assert!(found > 50, "there are addresses");
    assert!(broken.is_empty(), "these lead nowhere: {broken:#?}");
}

#[test]
fn every_page_is_in_the_book_once() {
    let summary = text("docs/SUMMARY.md");
    let mut listed: Vec<_> = links(&summary)
        .into_iter()
        .map(|page| format!("docs/{page}"))
        .collect();
    listed.sort();
    let mut pages = all_pages("docs");
    pages.retain(|page| page != "docs/SUMMARY.md");
    pages.sort();
    assert_eq!(listed, pages);
}

/// Whether a link of a document leads to a file, and to a heading in it where it names one.
fn leads_somewhere(document: &str, link: &str) -> bool {
    let (path, fragment) = match link.split_once('#') {
        Some((path, fragment)) => (path, Some(fragment)),
        None => (link, None),
    };
    let document = Path::new(document);
    let directory = document.parent().unwrap_or(Path::new(""));
    let target = match path {
        "" => document.to_owned(),
        path => plain(&directory.join(path)),
    };
    // The book has its own pages and nothing else of the repository.
    let stays = !plain(document).starts_with("docs") || target.starts_with("docs");
    stays && exists(&target, fragment)
}

/// Whether there is such a file or directory, and a heading in it.
fn exists(target: &Path, fragment: Option<&str>) -> bool {
    let is_there = in_repository(target).exists();
    match fragment {
        Some(fragment)
            if target
                .extension()
                .is_some_and(|extension| extension == "md") =>
        {
            is_there && anchors(&expanded(target)).contains(fragment)
        }
        _ => is_there,
    }
}

/// The text of a page with the files that it includes.
fn expanded(page: &Path) -> String {
    let text = text(page.to_str().expect("a name that is text"));
    let include = Regex::new(r"\{\{#include (.+?)\}\}").expect("a pattern");
    let directory = page.parent().unwrap_or(Path::new(""));
    let with = |include: &regex::Captures<'_>| {
        let file = plain(&directory.join(&include[1]));
        std::fs::read_to_string(in_repository(&file))
            .unwrap_or_else(|error| panic!("{}: {error}", file.display()))
    };
    include.replace_all(&text, with).into_owned()
}

/// A path without `.` and `..` in it.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                plain.pop();
            }
            component => plain.push(component),
        }
    }
    plain
}

/// Every file that is written by hand or made from such.
fn sources() -> BTreeSet<PathBuf> {
    let directories = [
        ".ci",
        ".github",
        "charts",
        "core/src",
        "crds",
        "demo",
        "docs",
        "examples",
        "kustomize",
        "src",
        "testkit/src",
        "tests",
        "xtask/src",
    ];
    let mut sources: BTreeSet<PathBuf> = files("")
        .into_iter()
        .filter(|path| in_repository(path).is_file())
        .collect();
    let mut left: Vec<PathBuf> = directories.map(PathBuf::from).into();
    while let Some(directory) = left.pop() {
        for path in files(&directory) {
            if in_repository(&path).is_dir() {
                left.push(path);
            } else {
                sources.insert(path);
            }
        }
    }
    sources
}
