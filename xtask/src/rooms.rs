//! The rooms of the source: imports go down [`ROOMS`], and no two files import each other (`docs/design/rooms.md`).
//!
//! Reads `mod`, `use` and paths as tokens, so those in macros and attributes count too. An import through a facade is
//! one of the facade, which imports what is behind it. Calling a method that another file gives to a type names no file:
//! that is not seen.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::Path;
use std::process::ExitCode;
use std::{fs, io};

use proc_macro2::{Delimiter, Ident, TokenStream, TokenTree};

/// A room may import from those that follow it.
const ROOMS: [&str; 11] = [
    "src",
    "src/runtime",
    "src/reconcile",
    "src/telemetry",
    "src/memory",
    "src/config",
    "core/src",
    "core/src/model",
    "core/src/graph",
    "core/src/credentials",
    "core/src/api",
];

/// The crates; as rooms they hold `main.rs` and `lib.rs` alone.
const CRATES: [&str; 2] = ["src", "core/src"];

/// Conditions are for people: in the rooms that decide they are written here, and read nowhere. Whoever looks at them imports
/// the module that knows their types.
const CONDITIONS: &str = "core/src/api/conditions";
const DECIDES: [&str; 4] = [
    "core/src/model",
    "core/src/graph",
    "src/reconcile",
    "src/memory",
];
const RENDERS: &str = "core/src/model/render";

/// Texts by path.
type Sources = BTreeMap<String, String>;

/// Paths and texts by module: `src` is `src/lib.rs`, `src/config` is `src/config/mod.rs` or `src/config.rs`.
type Modules<'a> = BTreeMap<&'a str, (&'a str, &'a str)>;

/// For each module those that it imports, with the place of the first import.
type Imports<'a> = BTreeMap<&'a str, BTreeMap<&'a str, String>>;

/// Checks the workspace.
pub fn run() -> ExitCode {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut sources = Sources::new();
    for folder in CRATES {
        collect(&root, folder, &mut sources).expect("the source can be read");
    }
    let problems = check(&sources);
    for problem in &problems {
        eprintln!("{problem}");
    }
    ExitCode::from(u8::from(!problems.is_empty()))
}

fn collect(root: &Path, folder: &str, sources: &mut Sources) -> io::Result<()> {
    for entry in fs::read_dir(root.join(folder))? {
        let entry = entry?;
        let path = format!("{folder}/{}", entry.file_name().to_string_lossy());
        if entry.file_type()?.is_dir() {
            collect(root, &path, sources)?;
        } else if path.ends_with(".rs") {
            sources.insert(path, fs::read_to_string(entry.path())?);
        }
    }
    Ok(())
}

/// Returns what is wrong.
fn check(sources: &Sources) -> Vec<String> {
    let modules = sources
        .iter()
        .map(|(path, text)| (module_of(path), (&**path, &**text)));
    let modules = modules.collect();
    let (mut problems, imports) = (Vec::new(), imports(&modules));
    for (module, (path, text)) in &modules {
        let Some(room) = room_of(module) else {
            problems.push(format!("{path}: its folder is not a room"));
            continue;
        };
        if *module == ROOMS[room] && !text.starts_with("//! ") {
            problems.push(format!("{path}: no //! line says what may enter the room"));
        }
        for (to, place) in imports.get(module).into_iter().flatten() {
            let decides = DECIDES.iter().any(|room| is_inside(module, room));
            if decides && is_inside(to, CONDITIONS) && *module != RENDERS {
                problems.push(format!(
                    "{place}: conditions are read by nothing that decides"
                ));
            }
            if let Some(above) = room_of(to).filter(|above| *above < room) {
                problems.push(format!(
                    "{place}: {} is above {}",
                    ROOMS[above], ROOMS[room]
                ));
            }
        }
    }
    let cycles = imports.keys().filter_map(|from| cycle(&imports, from));
    problems.extend(cycles.map(|places| format!("cycle:\n  {}", places.join("\n  "))));
    problems
}

fn module_of(path: &str) -> &str {
    let stem = ["/lib.rs", "/mod.rs", ".rs"]
        .iter()
        .find_map(|end| path.strip_suffix(end));
    stem.filter(|stem| *stem != "src/main").unwrap_or(path)
}

/// Returns the index in [`ROOMS`].
fn room_of(module: &str) -> Option<usize> {
    let room = ROOMS.iter().rposition(|room| is_inside(module, room))?;
    let is_crate = CRATES.contains(&ROOMS[room]);
    (!is_crate || [ROOMS[room], "src/main.rs"].contains(&module)).then_some(room)
}

fn is_inside(module: &str, other: &str) -> bool {
    let rest = module.strip_prefix(other);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Returns the imports on the shortest way from a module back to itself over modules that come after it by name, so that
/// a cycle is told once.
fn cycle<'a>(imports: &'a Imports<'_>, from: &str) -> Option<Vec<&'a str>> {
    let mut ways = VecDeque::from([(from, Vec::new())]);
    let mut seen = BTreeSet::new();
    while let Some((module, way)) = ways.pop_front() {
        for (to, place) in imports.get(module).into_iter().flatten() {
            let way = [way.as_slice(), &[place.as_str()]].concat();
            if *to == from {
                return Some(way);
            }
            if *to > from && seen.insert(*to) {
                ways.push_back((to, way));
            }
        }
    }
    None
}

fn imports<'a>(modules: &Modules<'a>) -> Imports<'a> {
    let (mut all, mut tests) = (Imports::new(), Vec::new());
    for (module, (path, text)) in modules {
        let tokens = text
            .parse()
            .unwrap_or_else(|error| panic!("{path}: {error}"));
        let mut reader = Reader {
            modules,
            path,
            imports: BTreeMap::new(),
            tests: Vec::new(),
        };
        reader.items(module, &[], tokens);
        reader.imports.remove(module);
        all.insert(module, reader.imports);
        tests.extend(reader.tests);
    }
    all.retain(|module, _| !tests.iter().any(|test| is_inside(module, test)));
    all
}

/// Reads one file.
struct Reader<'a, 'm> {
    modules: &'m Modules<'a>,
    path: &'a str,
    imports: BTreeMap<&'a str, String>,
    /// The modules that are only built for tests.
    tests: Vec<String>,
}

impl<'a> Reader<'a, '_> {
    /// Takes in what stands in the module `here`, or in the braces of a `use` after the path `before`.
    fn items(&mut self, here: &str, before: &[Ident], tokens: TokenStream) {
        let tokens: Vec<_> = tokens.into_iter().collect();
        for item in tokens.split_inclusive(ends_item) {
            let words: Vec<_> = item.iter().map(ToString::to_string).collect();
            let is_test = words.iter().any(|word| word == "[cfg (test)]");
            let module = words.iter().position(|word| word == "mod");
            match (is_test, module.map_or(&[][..], |at| &item[at + 1..])) {
                (true, [name, ..]) => self.tests.push(format!("{here}/{name}")),
                (true, []) => {}
                (false, [name, TokenTree::Group(body)]) => {
                    self.items(&format!("{here}/{name}"), &[], body.stream());
                }
                (false, [TokenTree::Ident(name), ..]) => {
                    self.import(here, &[Ident::new("self", name.span()), name.clone()]);
                }
                (false, _) => self.paths(here, before, item),
            }
        }
    }

    fn paths(&mut self, here: &str, before: &[Ident], item: &[TokenTree]) {
        if let [TokenTree::Punct(_)] = item {
            return;
        }
        let (mut path, mut colons) = (before.to_vec(), before.len().min(1) * 2);
        for token in item {
            match token {
                TokenTree::Punct(punct) if punct.as_char() == ':' => {
                    colons += 1;
                    continue;
                }
                TokenTree::Ident(ident) if colons == 2 => path.push(ident.clone()),
                TokenTree::Group(group) if colons == 2 => {
                    self.items(here, &std::mem::take(&mut path), group.stream());
                }
                // The module of `pub(in module)` is not imported.
                TokenTree::Group(_) if path.first().is_some_and(|word| word == "pub") => {}
                _ => {
                    self.import(here, &path);
                    path = match token {
                        TokenTree::Ident(ident) => vec![ident.clone()],
                        _ => Vec::new(),
                    };
                    if let TokenTree::Group(group) = token {
                        self.items(here, &[], group.stream());
                    }
                }
            }
            colons = 0;
        }
        self.import(here, &path);
    }

    fn import(&mut self, here: &str, path: &[Ident]) {
        if let ([first, ..], Some(to)) = (path, self.target(here, path)) {
            let words: Vec<_> = path.iter().map(Ident::to_string).collect();
            let line = first.span().start().line;
            let place = format!("{}:{line}: {}", self.path, words.join("::"));
            self.imports.entry(to).or_insert(place);
        }
    }

    /// Returns the module in whose file a path ends, if it leads into one of the crates.
    fn target(&self, here: &str, path: &[Ident]) -> Option<&'a str> {
        let mut at = here.to_owned();
        for (index, word) in path.iter().map(Ident::to_string).enumerate() {
            let next = format!("{at}/{word}");
            at = match (index, word.as_str()) {
                (_, "self") => at,
                (_, "super") => at.rsplit_once('/')?.0.to_owned(),
                (0, "crate") if is_inside(&at, "core") => "core/src".to_owned(),
                (0, "operator_core") => "core/src".to_owned(),
                (0, "crate" | "whatsapp_operator") => "src".to_owned(),
                (0, _) if !self.modules.contains_key(&*next) => return None,
                _ => next,
            };
        }
        while !self.modules.contains_key(&*at) {
            at.truncate(at.rfind('/')?);
        }
        Some(self.modules.get_key_value(&*at)?.0)
    }
}

fn ends_item(token: &TokenTree) -> bool {
    match token {
        TokenTree::Group(group) => group.delimiter() == Delimiter::Brace,
        TokenTree::Punct(punct) => [';', ','].contains(&punct.as_char()),
        TokenTree::Ident(_) | TokenTree::Literal(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOUND: [(&str, &str); 9] = [
        ("src/lib.rs", "//! X\npub mod config; pub mod memory;"),
        ("src/main.rs", "fn main() { whatsapp_operator::main() }"),
        ("src/config/mod.rs", "//! X\nmod args; mod scope;"),
        ("src/config/args.rs", "pub(in crate::config) struct A;"),
        (
            "src/config/scope.rs",
            "#[cfg(test)] mod t; use super::args::A;",
        ),
        ("src/config/scope/t.rs", "use crate::memory::Known;"),
        ("src/memory/mod.rs", "//! X\nuse operator_core::api::*;"),
        ("core/src/lib.rs", "//! X\npub(crate) mod api;"),
        (
            "core/src/api/mod.rs",
            "//! X\n#[cfg(test)] impl crate::X {}",
        ),
    ];

    /// What is wrong when this file is added to a sound workspace, or put in place of one.
    fn problems(path: &str, text: &str) -> String {
        let files = SOUND.into_iter().chain([(path, text)]);
        let files = files.map(|(path, text)| (path.to_owned(), text.to_owned()));
        check(&files.collect()).join("\n")
    }

    #[test]
    fn imports_that_go_down() {
        assert_eq!(problems("src/main.rs", ""), "");
    }

    #[test]
    fn imports_that_go_up() {
        for text in [
            "use {std::fmt, crate::memory::{inner::{A, B}, self as known}};",
            "fn f() { crate::memory::Known::new() }",
            "fn f() -> String { format!(\"{}\", [super::super::memory::Known(1)]) }",
            "#[error(\"{}\", super::super::memory::Known)] struct E;",
            "mod inner { use super::super::super::memory::*; }",
        ] {
            let found = problems("src/config/args.rs", &format!("\n{text}"));
            let up = found.lines().next().unwrap_or_default();
            assert!(up.starts_with("src/config/args.rs:2: "), "{found}");
            assert!(up.ends_with("src/memory is above src/config"), "{found}");
        }
    }

    #[test]
    fn decisions_that_read_a_condition() {
        let conditions = ("core/src/api/conditions.rs".to_owned(), String::new());
        let found = |path: &str| {
            let text = "//! X\nuse crate::api::conditions::find;".to_owned();
            let api = (
                "core/src/api/mod.rs".to_owned(),
                "//! X\npub mod conditions;".to_owned(),
            );
            check(&Sources::from([
                conditions.clone(),
                api,
                (path.to_owned(), text),
            ]))
        };
        let [problem] = &found("core/src/model/decide.rs")[..] else {
            panic!("one problem");
        };
        let place = "core/src/model/decide.rs:2: crate::api::conditions::find: conditions are read";
        assert!(problem.starts_with(place), "{problem}");
        assert_eq!(found("core/src/model/render.rs"), Vec::<String>::new());
    }

    #[test]
    fn files_that_import_each_other() {
        assert_eq!(
            problems("src/config/args.rs", "use super::scope::Scope;"),
            "cycle:\n  src/config/args.rs:1: super::scope::Scope\n  src/config/scope.rs:1: super::args::A"
        );
        assert_eq!(
            problems("src/config/args.rs", "use super::Scope;"),
            "cycle:\n  src/config/mod.rs:2: self::args\n  src/config/args.rs:1: super::Scope"
        );
    }

    #[test]
    fn rooms_that_are_not_listed_or_say_nothing() {
        let unlisted = "src/util/mod.rs: its folder is not a room";
        assert_eq!(problems("src/util/mod.rs", "//! X"), unlisted);
        let silent = "core/src/api/mod.rs: no //! line says what may enter the room";
        assert_eq!(problems("core/src/api/mod.rs", "//!\n"), silent);
    }
}
